"""Thinking apart from answers, however the text is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.method.thinking import AnswerSplitter, ThinkingSplitter, split
from cf_local.types import Chat, Message, RawText, SourceInfo

THINKS = SourceInfo("t", "", opens_thinking={None: "<think>"})
PLAIN = SourceInfo("p", "")


def splitter_of(opened: bool, *before: str, has_form: bool = False) -> AnswerSplitter:
    """That of an answer to a question, which may continue the text ``before``."""
    turns = (Message("user", "How?"), *(Message("assistant", text) for text in before))
    sources = [PLAIN, THINKS] if opened else [PLAIN]
    return AnswerSplitter(Chat(turns), sources, has_form=has_form)


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
    assert splitter_of(opened).split(text, ended=True) == (thinking, answer)
    if not opened:
        assert split(text) == (thinking, answer)


def test_a_stopped_answer_that_began_inside_thinking_is_thinking() -> None:
    assert splitter_of(True).split("Let me see", ended=False) == ("Let me see", "")


def streamed(splitter: AnswerSplitter, text: str, *, ended: bool = True) -> dict[str, str]:
    """What the pieces add up to, and what ``after_all`` is the answer."""
    pieces = [piece for char in text for piece in splitter.feed(char)]
    found = joined([*pieces, *splitter.flush()])
    return found | {"after all": splitter.after_all(ended=ended)}


@pytest.mark.parametrize(
    ("text", "ended", "after_all"),
    [
        ("It did not think.", True, "It did not think."),
        ("It did not think.", False, ""),
        ("</think>\n\nNot at all.", True, ""),
        ("Hm.</think>Four.", True, ""),
        ("", True, ""),
    ],
)
def test_thinking_that_a_model_never_closes_was_the_answer(
    text: str, ended: bool, after_all: str
) -> None:
    assert streamed(splitter_of(True), text, ended=ended)["after all"] == after_all
    assert streamed(splitter_of(False), text, ended=ended)["after all"] == ""


def test_a_continued_answer_goes_on_where_it_ended() -> None:
    for before, opened in (("<think>Let", False), ("Let", True)):
        splitter = splitter_of(opened, before)
        expected = {"thinking": " me.", "answer": "4", "after all": ""}
        assert streamed(splitter, " me.</think>\n\n4") == expected
        assert splitter.split(" me.</think>4", ended=True) == (" me.", "4")
        whole = f"{before} me.</think>4"
        assert splitter.split(whole, ended=True, is_whole=True) == ("Let me.", "4")
    splitter = splitter_of(True, "It is")
    assert streamed(splitter, " 4.") == {"thinking": " 4.", "answer": "", "after all": " 4."}
    assert splitter.split("It is 4.", ended=True, is_whole=True) == ("", "It is 4.")
    closed = {"thinking": "", "answer": "4", "after all": ""}
    assert streamed(splitter_of(True, "Hm.</think>"), "\n\n4") == closed


def test_other_texts_have_no_thinking() -> None:
    text = "<think>a</think>b"
    for splitter in (splitter_of(True, has_form=True), AnswerSplitter(RawText("x"), [THINKS])):
        assert not splitter.opened
        assert streamed(splitter, text) == {"thinking": "", "answer": text, "after all": ""}
        assert splitter.split(text, ended=True) == ("", text)


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
