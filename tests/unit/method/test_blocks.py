"""What is known of the text ahead: its words, and what others read of it."""

from cf_local.method.speculation import _end_of_word, _n_common, _whole_words, has_word
from cf_local.types import KnownText


def test_a_word_is_known_once_the_next_one_begins() -> None:
    assert not has_word(KnownText(b" hats", False), 0)
    assert has_word(KnownText(b" hats left", False), 0)
    assert not has_word(KnownText(b" hats left", False), 5)
    assert has_word(KnownText(b" hats", True), 0)  # nothing can follow
    assert not has_word(KnownText(b"", False), 0)


def test_the_end_of_the_word_after_a_place() -> None:
    assert _end_of_word(b" hats left.", 0) == 5
    assert _end_of_word(b" hats left.", 5) == 10
    assert _end_of_word(b" hats left.", 7) == 10
    assert _end_of_word(b" hats", 2) == 5
    assert _end_of_word("日本語".encode(), 0) == 3
    assert _end_of_word("日本語".encode(), 4) == 6  # within a character: the end of that one


def test_whole_words_are_what_others_read() -> None:
    assert _whole_words(KnownText(b" hats lef", False)) == b" hats"
    assert _whole_words(KnownText(b" hats left", True)) == b" hats left"
    assert _whole_words(KnownText(b" ha", False)) == b" ha"  # there is no other
    assert _whole_words(KnownText(" one 日".encode()[:-1], False)) == b" one"


def test_common_beginnings() -> None:
    assert _n_common(b"abc", b"abd") == 2
    assert _n_common(b"abc", b"abcd") == 3
    assert _n_common(b"", b"abc") == 0
