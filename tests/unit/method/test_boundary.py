"""The word-boundary rule (method: "Word boundary") and its work on bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.method.boundary import (
    class_of,
    ends_sentence,
    first_character,
    is_boundary_between,
    is_character_boundary,
    is_word_boundary,
    last_character,
    last_words,
    partial_character,
    whole_characters,
    words_of,
)

# Text of many scripts in which boundaries of every kind are likely.
CHARS = st.sampled_from(list("ab Z9\n.,!'東京カーกข\u0e31๑é\u0301👍🏽👩\u200d💻❤\ufe0f한ا"))
TEXTS = st.text(CHARS, max_size=30)
RAW = st.one_of(TEXTS.map(str.encode), st.binary(max_size=20))


@pytest.mark.parametrize(
    ("prev", "next_", "expected"),
    [
        ("n", " ", True),
        (" ", "n", False),
        ("\n", "\n", False),
        ("n", "n", False),
        ("n", "3", True),
        ("3", "n", True),
        ("3", "4", False),
        ("n", ".", True),
        (".", ".", True),
        ("n", "'", True),
        ("東", "京", True),
        ("n", "京", True),
        ("ー", "カ", True),
        ("한", "국", False),
        ("ก", "ข", True),
        ("ก", "\u0e31", False),
        ("e", "\u0301", False),
        ("👩", "\u200d", False),
        ("\u200d", "💻", False),
        ("\u200d", " ", False),
        ("👍", "🏽", False),
        ("🏽", "👍", True),
    ],
)
def test_the_rule_between_two_characters(prev: str, next_: str, expected: bool) -> None:
    assert is_boundary_between(prev, next_) is expected


@pytest.mark.parametrize(
    ("chars", "expected"),
    [
        (" \n\u3000", "space"),
        ("aéن한\u0301", "letter"),
        ("7½Ⅷ", "number"),
        (".'👍\udcff", "other"),
        ("東カกー々๓", "unspaced"),
        ("\u200d", "joiner"),
    ],
)
def test_the_class_of_a_character(chars: str, expected: str) -> None:
    assert {class_of(char) for char in chars} == {expected}


@given(CHARS, CHARS, CHARS)
def test_where_a_word_ends_depends_on_the_class_of_its_last_character(
    one: str, other: str, next_: str
) -> None:
    if class_of(one) == class_of(other):
        assert is_boundary_between(one, next_) == is_boundary_between(other, next_)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", ""),
        (b"abc", "a"),
        ("東京".encode(), "東"),
        ("👍🏽".encode(), "👍"),
        ("東".encode()[:2], ""),  # only a part of it
        ("東".encode()[1:], "\udc9d"),  # bytes that begin no character
        (b"\xffa", "\udcff"),
    ],
)
def test_the_first_character(text: bytes, expected: str) -> None:
    assert first_character(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", ""),
        (b"abc", "c"),
        ("a" * 30 + "東", "東"),
        ("a東" * 30, "東"),  # wherever the last bytes begin
        ("🏽" * 30, "🏽"),
        (b"a\xff", "\udcff"),
    ],
)
def test_the_last_character(text: bytes | str, expected: str) -> None:
    assert last_character(text.encode() if isinstance(text, str) else text) == expected


@given(TEXTS.filter(bool))
def test_first_and_last_characters_of_whole_text_are_its_own(text: str) -> None:
    assert first_character(text.encode()) == text[0]
    assert last_character(text.encode()) == text[-1]


def test_a_part_of_a_character_is_what_its_byte_decodes_to() -> None:
    for char in "é東👍":
        for index, byte in enumerate(char.encode()):
            part = bytes([byte]).decode(errors="surrogateescape")
            assert partial_character(char, index) == part
    assert partial_character("a", 0) == partial_character("a", -1) == "a"
    assert partial_character("\udcff", 0) == "\udcff"  # is one byte already


def test_words_carry_the_whitespace_before_them() -> None:
    assert words_of("She sells  24 shells.\n\nThe end\n") == [
        *("She", " sells", "  24", " shells", ".", "\n\nThe", " end", "\n"),
    ]
    assert words_of("東京 x") == ["東", "京", " x"]
    assert words_of("") == []


@given(TEXTS)
def test_words_are_cut_at_boundaries_and_nowhere_else(text: str) -> None:
    words = words_of(text)
    assert "".join(words) == text
    assert all(words)
    ends = {len("".join(words[:n])) for n in range(1, len(words))}
    assert ends == {i for i in range(1, len(text)) if is_boundary_between(text[i - 1], text[i])}


@pytest.mark.parametrize(
    ("text", "lookahead", "expected"),
    [
        (b"run", b"ning", False),
        (b"run", b" fast", True),
        (b"", b" fast", False),
        (b"run", b"", False),
        ("東".encode()[:2], "東".encode()[2:], False),  # cuts a character
        (b"a", "東".encode()[:1], False),  # not known yet what comes
        (b"a", "東".encode(), True),
        (b"a\xff", b"b", True),  # a byte that is no character is a symbol
    ],
)
def test_boundaries_between_bytes(text: bytes, lookahead: bytes, expected: bool) -> None:
    assert is_word_boundary(text, lookahead) is expected


@given(TEXTS, TEXTS)
def test_a_word_boundary_is_decided_by_the_two_characters_that_meet(a: str, b: str) -> None:
    expected = bool(a and b) and is_boundary_between(a[-1], b[0])
    assert is_word_boundary(a.encode(), b.encode()) is expected


@given(RAW, st.data())
def test_a_word_boundary_is_a_character_boundary(raw: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(raw)))
    if is_word_boundary(raw[:cut], raw[cut:]):
        assert is_character_boundary(raw[:cut], raw[cut:])


@given(TEXTS, st.data())
def test_character_boundaries_of_utf8_are_where_its_characters_begin(
    text: str, data: st.DataObject
) -> None:
    raw = text.encode()
    cut = data.draw(st.integers(0, len(raw)))
    starts = {len(text[:n].encode()) for n in range(len(text) + 1)}
    assert is_character_boundary(raw[:cut], raw[cut:]) is (cut in starts)


@given(TEXTS, st.data())
def test_whole_characters_are_the_longest_valid_start(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cut = data.draw(st.integers(0, len(raw)))
    whole = whole_characters(raw[:cut])
    assert text.startswith(whole.decode())
    assert cut - len(whole) < 4
    assert cut - len(whole) == 0 or len(whole) + len(text[len(whole.decode())].encode()) > cut


@given(st.binary(max_size=20))
def test_whole_characters_drop_less_than_a_character_of_any_bytes(raw: bytes) -> None:
    whole = whole_characters(raw)
    assert raw.startswith(whole)
    assert len(raw) - len(whole) < 4


@given(RAW, st.integers(1, 5))
def test_last_words_end_the_text(raw: bytes, n_words: int) -> None:
    last = last_words(raw, n_words)
    assert raw.endswith(last)
    assert bool(last) is bool(raw)


def test_last_words_keep_the_whitespace_in_front() -> None:
    text = b"Then she sells  24 shells.\n\nThe end"
    assert last_words(text, 1) == b" end"
    assert last_words(text, 3) == b".\n\nThe end"
    assert last_words(text, 5) == b"  24 shells.\n\nThe end"
    assert last_words(text, 99) == text


@given(st.lists(TEXTS, max_size=6), st.integers(1, 4))
def test_last_words_are_stable_under_windowing(segments: list[str], n_words: int) -> None:
    window, whole = b"", b""
    for segment in map(str.encode, segments):
        window, whole = last_words(window + segment, n_words), whole + segment
    assert window == last_words(whole, n_words)


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("It is.", " Then", True),
        ("It is.", "\n", True),
        ("It is", "\nThen", True),
        ("It is", "\r\n", True),
        ("It is", " \n", False),  # only the next character is looked at
        ("It is,", " then", False),
        ("3.", "5", False),
        ("Why?", " No", True),
        ("Why?", "!", False),
        ("Why?!", " No", True),
        ("Well…", " No", True),
        ('"No."', " Then", True),
        ('"No.', '"', False),
        ("(No.)", " Then", True),
        ("“No!”", " Then", True),
        ("**No.**", " Then", True),
        ("()", " Then", False),
        ("是。", "不", True),
        ("是！", "？", False),
        ("是。", "」", False),
        ("「是。」", "不", True),
        ("東．", "京", True),
        ("", " Then", False),
    ],
)
def test_where_a_sentence_ends(text: str, after: str, expected: bool) -> None:
    assert ends_sentence(text.encode(), after.encode()) is expected
