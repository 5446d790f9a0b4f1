"""Thinking apart from answers, however the text is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.method.thinking import ThinkingSplitter, split


@pytest.mark.parametrize(
    ("text", "opened", "thinking", "answer"),
    [
        ("Just an answer.", False, "", "Just an answer."),
        ("<think>Hm.</think>\n\n42", False, "Hm.", "42"),
        ("\n<thinking>\nHm.\n</thinking>42", False, "\nHm.\n", "42"),
        ("[THINK]a[/THINK]b", False, "a", "b"),
        ("Hm.\n</think>\n\n42", True, "Hm.\n", "42"),
        ("<think></think>x", False, "", "x"),
        ("<think>a </thinking> b</think>c", False, "a </thinking> b", "c"),
        ("In HTML, <think> is no tag.", False, "", "In HTML, <think> is no tag."),
        ("<thin", False, "", "<thin"),
        ("<think>never closed", False, "never closed", ""),
        ("it did not think at all", True, "", "it did not think at all"),
        ("", True, "", ""),
        ("  ", False, "", "  "),
    ],
)
def test_a_whole_text(text: str, opened: bool, thinking: str, answer: str) -> None:
    assert split(text, opened=opened) == (thinking, answer)


def test_a_stopped_answer_that_began_inside_thinking_is_thinking() -> None:
    assert split("Let me see", opened=True, ended=False) == ("Let me see", "")


pieces_of_text = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<", "</", "thi", "nk>", " ", "\n", "a", "</thinking>", "[/THINK]"]
    ),
    max_size=12,
).map("".join)


@given(pieces_of_text, st.booleans(), st.lists(st.integers(1, 5), max_size=60))
def test_however_it_is_cut(text: str, opened: bool, sizes: list[int]) -> None:
    whole, cut = ThinkingSplitter(opened=opened), ThinkingSplitter(opened=opened)
    expected = joined([*whole.feed(text), *whole.flush()])
    found, rest = [], text
    for size in sizes:
        found += cut.feed(rest[:size])
        rest = rest[size:]
    found += [*cut.feed(rest), *cut.flush()]
    assert joined(found) == expected


def joined(pieces: list) -> dict[str, str]:  # type: ignore[type-arg]
    return {
        kind: "".join(p.text for p in pieces if p.kind == kind) for kind in ("thinking", "answer")
    }


def test_words_are_not_held_back_longer_than_needed() -> None:
    splitter = ThinkingSplitter()
    assert [p.text for p in splitter.feed("The ")] == ["The "]
    assert [p.text for p in splitter.feed("1 < 2")] == ["1 < 2"]
    thinks = ThinkingSplitter(opened=True)
    assert [p.text for p in thinks.feed("1 <")] == ["1 "]
    assert [p.text for p in thinks.feed(" 2")] == ["< 2"]
