"""The desktop example: it answers, colours, stops, shows errors, and never freezes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from desk import Desk, Screen  # type: ignore[attr-defined]
from theme import DARK, LIGHT, Theme

import cf_local
from cf_local import Chat, Message, Step
from cf_local.types import ScoredCandidate

pytestmark = pytest.mark.model

QUESTION = "Leo made 160 dolls. He gives Zoe 20 percent of them. How many has Zoe?"
SECOND = "Tom has 23 apples and buys 45 more. How many apples does he have now?"
FROZEN_S = 0.4
"""What a user would feel. Alone on a machine the longest gap is some 30 ms; tests share theirs."""


@pytest.fixture(scope="module")
def fusion() -> cf_local.Fusion:
    with cf_local.load() as loaded:
        yield loaded


@pytest.fixture
def desk(new_desk: Callable[..., Desk]) -> Desk:
    """A window with the built-in fusion."""
    desk = new_desk()
    desk.window.load()
    desk.until_idle()
    return desk


def expected(fusion: cf_local.Fusion, *texts: str, **settings: object) -> str:
    """The library's answer to a conversation, the user's turn first and last."""
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))
    chosen = replace(fusion.settings, **settings)
    return fusion.answer(Chat(messages), chosen).text


def test_typed_questions_are_answered_as_the_library_answers(
    desk: Desk, screen: Screen, fusion: cf_local.Fusion
) -> None:
    answers = []
    for question in (QUESTION, SECOND):
        screen.type(question)
        desk.until(lambda: desk.controls.question.get() == question)  # noqa: B023
        screen.press("Return")
        desk.until(lambda: desk.window.state == "writing" or desk.view.answer not in ("", *answers))
        desk.until_idle()
        answers.append(desk.view.answer)
    first = expected(fusion, QUESTION)
    assert answers == [first, expected(fusion, QUESTION, first, SECOND)]
    lines = [line for line in desk.view.content.splitlines() if line]
    assert lines == [QUESTION, answers[0], SECOND, answers[1]]
    assert "words" in desk.controls.status.get()
    assert "no dispute on" in desk.controls.status.get()


def test_words_are_coloured_by_who_won_them_and_say_what_the_others_wanted(desk: Desk) -> None:
    desk.ask(QUESTION)
    text = desk.view.text
    coloured = {name: text.tag_ranges(f"source-{name}") for name in ("ash", "birch", "cedar")}
    assert any(coloured.values())  # words on which a source that was asked wanted another one
    colours = {str(text.tag_cget(f"source-{name}", "foreground")) for name in coloured}
    assert colours == set(LIGHT.sources[:3])
    start = next(ranges[0] for ranges in coloured.values() if ranges)
    said = desk.controls.status.get()
    x, y, width, height = text.bbox(f"{start} +1c")
    text.event_generate("<Motion>", x=x + width // 2, y=y + height // 2)
    desk.until(lambda: "(won)" in desk.controls.status.get())
    text.event_generate("<Leave>")
    desk.until(lambda: desk.controls.status.get() == said)


def test_colours_stand_where_they_belong_behind_emoji_and_new_lines(
    new_desk: Callable[..., Desk],
) -> None:
    desk = new_desk()
    desk.view.style(LIGHT, ("a", "b"))
    desk.view.ask("?")
    pieces = [("All 🍎\n🍏 ", "ab"), ("éa", "a"), (" or ", "ab"), ("🍐 b", "b"), (" end", "ab")]
    desk.view.add([step(text, *names) for text, names in pieces])
    desk.view.add([step("🍋a", "a")])
    text = desk.view.text
    for name, words in (("a", "éa🍋a"), ("b", "🍐 b")):
        ends = [str(index) for index in text.tag_ranges(f"source-{name}")]
        parts = [text.get(*pair) for pair in zip(ends[::2], ends[1::2], strict=True)]
        assert "".join(parts) == words


def step(text: str, *winners: str) -> Step:
    """A step that these sources of "a" and "b" won."""
    won = ScoredCandidate(text, False, winners, {}, None)
    lost = ScoredCandidate("other", False, tuple({"a", "b"} - set(winners)), {}, None)
    return Step(text, False, 0, (won, lost) if lost.sources else (won,), {}, {})


@pytest.mark.parametrize(
    ("label", "settings"),
    [
        ("Best whole answer", {"mode": "rerank"}),
        ("Both, the best wins", {"mode": "cool+r"}),
        ("Only birch", {"mode": "single", "only": "birch"}),
    ],
)
def test_every_way_shows_its_answer(
    desk: Desk, fusion: cf_local.Fusion, label: str, settings: dict[str, str]
) -> None:
    desk.controls.way.set(label)
    answer = desk.ask(QUESTION)
    assert answer == expected(fusion, QUESTION, **settings)
    assert [line for line in desk.view.content.splitlines() if line] == [QUESTION, answer]


def test_the_window_lives_while_models_load(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.window.load()
    desk.until_idle()
    assert desk.longest_gap_s < FROZEN_S


def test_the_window_lives_through_a_long_answer_and_stop_keeps_what_came(
    new_desk: Callable[..., Desk], screen: Screen, endless_models: list[str]
) -> None:
    desk = new_desk(temperature=2.0)
    desk.window.load(models=endless_models)
    desk.until_idle()
    desk.controls.question.set("go on")
    screen.press("Return")
    desk.until(lambda: len(desk.view.answer) > 1000)
    assert desk.longest_gap_s < FROZEN_S
    assert desk.window.state == "writing"
    start = time.perf_counter()
    desk.window.stop()
    desk.until_idle()
    assert time.perf_counter() - start < 1.0  # some 40 ms on a machine of one's own
    assert "stopped" in desk.controls.status.get()
    kept = desk.view.answer
    assert len(kept) > 1000
    assert desk.view.content.splitlines()[-1] in kept.splitlines()[-1]
    desk.controls.question.set("and on")
    screen.press("Return")
    desk.until(lambda: len(desk.view.answer) > 20)
    screen.press("Escape")
    desk.until_idle()
    assert kept in desk.view.content  # the part that came is in the conversation still


def test_stop_before_the_first_word_is_not_lost(
    new_desk: Callable[..., Desk], endless_models: list[str]
) -> None:
    desk = new_desk(temperature=2.0)
    desk.window.load(models=endless_models)
    desk.until_idle()
    desk.controls.question.set("go on")
    desk.window.send()
    desk.window.stop()
    desk.until_idle()
    assert "stopped" in desk.controls.status.get()


def test_a_load_can_be_stopped_and_done_again(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    desk.window.load()
    desk.window.stop()
    desk.until(lambda: desk.window.state == "empty")
    assert "cancelled" in desk.view.content
    desk.window.load()
    desk.until_idle()
    assert desk.ask(SECOND)


def test_a_missing_or_broken_model_is_shown_and_another_can_be_loaded(
    new_desk: Callable[..., Desk], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    desk = new_desk()
    for path, words in ((tmp_path / "gone.gguf", "does not exist"), (broken, "cannot be loaded")):
        desk.window.load(models=[str(path)])
        desk.until(lambda: desk.window.state == "empty")
        assert words in desk.view.content
        assert str(path) in desk.view.content
        desk.controls.question.set("Hello")
        desk.window.send()
        assert desk.window.state == "empty"  # nobody could answer
    desk.window.load()
    desk.until_idle()
    desk.controls.question.set("")
    assert desk.ask("Hello")


def test_a_question_that_is_too_long_is_shown_given_back_and_forgotten(
    desk: Desk, fusion: cf_local.Fusion
) -> None:
    long = "word " * 2000
    assert desk.ask(long) == ""
    assert "too long" in desk.view.content or "context" in desk.view.content
    assert desk.controls.question.get() == long.strip()
    assert desk.ask(SECOND) == expected(fusion, SECOND)


def test_old_turns_that_no_longer_fit_are_told_on_a_line_of_their_own(desk: Desk) -> None:
    for _ in range(2):
        answer = desk.ask("Tom has 2 apples. " * 40)
    lines = desk.view.content.splitlines()
    assert lines[-1] == answer.splitlines()[-1]
    assert sum("no longer fit" in line for line in lines) == 1
    assert next(line for line in lines if "no longer fit" in line).endswith("not read.")


def test_new_forgets_the_conversation(desk: Desk, fusion: cf_local.Fusion) -> None:
    for question in ("Hello!", QUESTION):  # an answer without a disputed word, and one with some
        desk.ask(question)
        desk.window.new()
        assert desk.view.content == ""
    assert desk.ask(SECOND) == expected(fusion, SECOND)


def test_closing_while_it_loads_or_writes_ends_the_thread(
    new_desk: Callable[..., Desk], endless_models: list[str]
) -> None:
    loading = new_desk()
    loading.window.load()
    loading.close()
    writing = new_desk(temperature=2.0)
    writing.window.load(models=endless_models)
    writing.until_idle()
    writing.controls.question.set("go on")
    writing.window.send()
    writing.until(lambda: bool(writing.view.answer))
    start = time.perf_counter()
    writing.close()
    assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_text_has_the_contrast_that_wcag_asks_for(theme: Theme) -> None:
    for colour in (theme.text, theme.faint, theme.error, *theme.sources):
        for ground in (theme.ground, theme.frame):
            assert contrast(colour, ground) >= 4.5, (colour, ground)
    assert contrast(theme.text, theme.selection) >= 4.5


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, "contrast ratio")."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of #rrggbb."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
