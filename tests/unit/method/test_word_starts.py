"""Which tokens begin a new word, against the rule applied to each token on its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.method.boundary import first_character, is_boundary_between, partial_character
from cf_local.method.word_starts import WordStarts

PIECES = [
    *(b" fox", b"ning", b"24", b" 24", b".", b"'s", b"\n", b" ", b"", b"fox.", b").\n", b"8."),
    *("東京".encode(), "é".encode(), "\u0301e".encode(), "\u200d💻".encode(), "🏽".encode()),
    *("東".encode()[:1], "東".encode()[:2], "東".encode()[1:], "東".encode()[2:] + b"a"),
    *(b"a" + "東".encode()[:2], b"\xff", b"\x00", "👍".encode()[:3], "👍".encode()[3:], b"a\x00"),
]
STARTS = WordStarts.of(PIECES)


def begun(char: str, but: frozenset[str] = frozenset()) -> set[bytes]:
    return {PIECES[token] for token in STARTS.after(char, but).tolist()}


def test_after_a_letter_all_but_letters_begin_a_word() -> None:
    found = begun("n")
    assert {b" fox", b"24", b".", b"'s", b"\n", b" ", "東京".encode(), b"\xff", b"8."} <= found
    assert found.isdisjoint({b"ning", "é".encode(), b"fox."})
    assert begun("é") == found


def test_after_a_number_letters_begin_a_word_and_numbers_do_not() -> None:
    assert {b"ning", b".", b" 24"} <= begun("4")
    assert begun("4").isdisjoint({b"24", b"8."})


def test_after_a_symbol_or_an_unspaced_character_anything_begins_a_word() -> None:
    for char in ".東":
        assert {b".", b"ning", b"24", "東京".encode(), b" fox"} <= begun(char)


@pytest.mark.parametrize("char", [" ", "\n", "\u200d"])
def test_no_word_ends_after_whitespace_or_a_joiner(char: str) -> None:
    assert begun(char) == set()


@pytest.mark.parametrize("char", "n4.東👍")
def test_marks_joiners_and_skin_tones_begin_none(char: str) -> None:
    belonging = ("\u0301e", "\u200d💻", "🏽")
    assert begun(char).isdisjoint(text.encode() for text in belonging)


@pytest.mark.parametrize("char", "n4.東")
def test_tokens_without_a_whole_first_character_begin_none(char: str) -> None:
    """It is not known yet what comes; so has the empty text of control tokens no beginning."""
    parts = {b"", "東".encode()[:1], "東".encode()[:2], "👍".encode()[:3]}
    assert begun(char).isdisjoint(parts)


SOME = st.lists(st.binary(max_size=5).filter(lambda piece: piece[:1] != b"\0"), max_size=9)


@given(st.sampled_from("n4. 東\u200d👍é\udcff"), SOME)
def test_it_is_the_rule_for_every_token(char: str, pieces: list[bytes]) -> None:
    firsts = [first_character(piece) for piece in pieces]
    expected = [
        token for token, first in enumerate(firsts) if first and is_boundary_between(char, first)
    ]
    assert WordStarts.of(pieces).after(char).tolist() == expected


def test_tokens_that_begin_with_some_characters_are_left_out() -> None:
    assert begun("n", frozenset(".'")) == begun("n") - {b".", b"'s"}
    assert begun("n", frozenset("東")) == begun("n") - {"東京".encode()}
    assert begun("n") >= {b".", b"'s", "東京".encode()}  # both answers are remembered


def test_a_part_of_a_character_leaves_out_all_that_begin_with_it() -> None:
    part = partial_character("東", 0)  # some token ends with that byte
    assert begun("n", frozenset(part)) == begun("n") - {"東京".encode()}


def test_neighbours_within_a_token_are_joined() -> None:
    assert STARTS.joins("x") == {"."}
    assert STARTS.joins(")") == {"."}
    assert STARTS.joins(".") == {"\n"}
    assert STARTS.joins("8") == {"."}
    assert STARTS.joins("'") == {"s"}
    assert STARTS.joins("東") == {"京", "a"}  # "a" follows the last byte of that character
    assert STARTS.joins(" ") == frozenset()  # no word ends there


def test_what_belongs_to_two_tokens_is_not_joined() -> None:
    assert WordStarts.of([b"n", b".", b"4"]).joins("n") == frozenset()
    assert WordStarts.of([b"n."]).joins("n") == {"."}


def test_a_join_with_a_part_of_a_character_names_the_part() -> None:
    assert partial_character("東", 0) in STARTS.joins("a")


@given(st.lists(st.text(st.sampled_from("ab4. 東é"), max_size=5), max_size=6))
def test_all_joins_are_found(texts: list[str]) -> None:
    starts = WordStarts.of([text.encode() for text in texts])
    pairs = {(text[i - 1], text[i]) for text in texts for i in range(1, len(text))}
    for char in "ab4. 東é":
        after = {b for a, b in pairs if a == char and is_boundary_between(a, b)}
        assert starts.joins(char) == after
