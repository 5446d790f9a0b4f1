"""Where a block ends, and what the next source reads of those before it."""

from cf_local.method.speculation import (
    _end_of_word,
    _has_word,
    _merged,
    _n_common,
    _n_followed,
    _whole_words,
)
from cf_local.types import KnownText


def test_a_word_is_known_once_the_next_one_begins() -> None:
    assert not _has_word(KnownText(b" hats", False), 0)
    assert _has_word(KnownText(b" hats left", False), 0)
    assert not _has_word(KnownText(b" hats left", False), 5)
    assert _has_word(KnownText(b" hats", True), 0)  # nothing can follow
    assert not _has_word(KnownText(b"", False), 0)


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


def test_a_text_that_follows_a_path_to_its_end_departs_from_nothing() -> None:
    assert _n_followed([b" a b", b" c"], b" a b c") is None
    assert _n_followed([b" a b"], b" a b") is None
    assert _n_followed([b" a bc", b" x"], b" a d") == 3
    assert _merged([b" a b"], b" a b c") == [b" a b"]


def test_texts_are_cut_after_the_first_word_on_which_they_differ() -> None:
    assert _merged([b" is 46 hats left"], b" is 47 -") == [b" is 46", b" is 47"]
    assert _merged([b" is 46", b" is 47"], b" is 22 caps") == [b" is 46", b" is 47", b" is 22"]
    assert _merged([b" is 46", b" is 47"], b" was 46 x") == [b" is", b" was"]
