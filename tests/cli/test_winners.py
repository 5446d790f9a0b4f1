"""Who won which words, and why, as a terminal shows it."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from answers import NAMES, agreed, disputed, whole

from cf_local.cli.winners import COLOURS, Winners, why
from cf_local.errors import InputError
from cf_local.trace import letter, number
from cf_local.types import ScoredCandidate

STEPS = [agreed("He has"), disputed(" 23", " 24"), disputed(" or", winner=0), agreed(".")]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def test_letters_without_colour() -> None:
    winners = Winners(NAMES, in_colour=False)
    assert winners.text(STEPS) == "He has [A:23] or."
    assert winners.legend() == "A = ash, B = birch, C = cedar; unmarked: no dispute"
    assert winners.piece(" 24", ("birch", "cedar")) == " [BC:24]"


def test_colours_come_with_letters() -> None:
    winners = Winners(NAMES, in_colour=True)
    text = winners.text([*STEPS, disputed("a", "b", winner=1)])
    assert ESCAPE.sub("", text) == "He has 23ᵃ or.bᵇᶜ"
    assert f"\x1b[38;5;{COLOURS[0]}m23ᵃ\x1b[0m" in text
    assert ESCAPE.sub("", winners.legend()) == "ᵃ ash, ᵇ birch, ᶜ cedar; unmarked: no dispute"


def test_neighbours_of_one_winner_are_marked_together() -> None:
    winners = Winners(NAMES, in_colour=False)
    assert winners.text([disputed(" a", "x"), disputed(" b", "x")]) == " [A:a b]"


def test_rich_text_is_the_same() -> None:
    marked = Winners(NAMES, in_colour=True).rich(STEPS)
    assert marked.plain == "He has 23ᵃ or."
    assert [str(span.style) for span in marked.spans] == [f"color({COLOURS[0]})"]


def test_a_model_cannot_send_escapes_to_the_terminal() -> None:
    steps = [agreed("\x1b]0;title\x07"), disputed("\x1b[2J", "x\x9b")]
    for in_colour in (False, True):
        winners = Winners(("ash", "\x1b[31mbirch", "cedar"), in_colour=in_colour)
        shown = winners.legend() + winners.text(steps) + winners.rich(steps).plain
        shown += why(steps, NAMES, "2J", in_colour=in_colour)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ESCAPE.sub("", shown))
        assert in_colour or "\x1b" not in shown


def test_the_fused_answer_has_no_source() -> None:
    choice = whole("x", "y", proposers=(("cool",), NAMES))
    for in_colour in (False, True):
        assert Winners(NAMES, in_colour=in_colour).text([choice]) == "x"


def test_letters_go_on_behind_z() -> None:
    assert [letter(i) for i in (0, 25, 26, 53)] == ["A", "Z", "A2", "B3"]
    many = tuple(f"s{i}" for i in range(40))
    assert ESCAPE.sub("", Winners(many, in_colour=True).piece("x", ["s39"])) == "x⁴⁰"


def luminance(code: int) -> float:
    """Relative luminance of one of the 256 colours, as WCAG defines it."""
    levels = (0, 95, 135, 175, 215, 255)
    rgb = [8 + 10 * (code - 232)] * 3 if code >= 232 else []
    rgb = rgb or [levels[(code - 16) // n % 6] for n in (36, 6, 1)]
    parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return sum(part * weight for part, weight in zip(parts, (0.2126, 0.7152, 0.0722), strict=True))


@pytest.mark.parametrize("code", COLOURS)
def test_colours_can_be_read_on_black_and_on_white(code: int) -> None:
    assert (luminance(code) + 0.05) / 0.05 >= 3
    assert 1.05 / (luminance(code) + 0.05) >= 3


def test_why_shows_who_proposed_and_who_thought_what() -> None:
    assert why(STEPS, NAMES, "23", in_colour=False) == "\n".join(
        [
            "23, word 3: step 2",
            "   candidate  by  A ash  B birch  C cedar   mean",
            "→  ␣23        A   0.500    1.500    2.500  1.500",
            "   ␣24        BC  1.500    2.500    3.500  2.500",
        ]
    )


def test_why_says_where_there_was_nothing_to_choose() -> None:
    assert why(STEPS, NAMES, 1, in_colour=False) == "He, word 1: step 1\n  He has  all agreed"
    alone = [agreed("Hi", ends=True, names=["ash"])]
    assert why(alone, ["ash"], 1, in_colour=False).endswith("Hi∎  no other source took part")
    assert why(alone, NAMES, 1, in_colour=False).endswith(
        "ash wrote this; no other source was asked"
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["ash"], "ash wrote this; no other source was asked"),
        (["ash", "birch"], "birch proposed nothing else; no other source was asked"),
        (NAMES, "ash wrote this; birch, cedar proposed nothing else"),
    ],
)
def test_why_tells_who_was_asked(asked: Sequence[str], told: str) -> None:
    step = replace(agreed("Hi", ends=True, names=["ash"]), asked=tuple(asked))
    assert why([step], NAMES, 1, in_colour=False).endswith(told)


def test_why_in_colour_says_the_same() -> None:
    plain = why(STEPS, NAMES, "23", in_colour=False)
    coloured = why(STEPS, NAMES, "23", in_colour=True)
    assert "\x1b[" in coloured
    lines = [line.rstrip() for line in ESCAPE.sub("", coloured).splitlines()]
    assert lines == plain.splitlines()


def test_why_of_a_whole_answer_shows_the_part_asked_about_once() -> None:
    start = "So " * 30
    choice = whole(f"{start}68. It is 68.", f"{start}85. It is 85.")
    shown = why([choice], NAMES, "68", in_colour=False)
    assert "68, word 31: step 1" in shown
    assert shown.count("candidate") == 1
    assert "85. It is" in shown


def test_why_tells_where_else_a_word_stands() -> None:
    shown = why([agreed(" a")] * 20, NAMES, "a", in_colour=False)
    assert shown.count("all agreed") == 3
    last = " ".join(shown.split("\n")[6:])
    assert last == f"Also at {', '.join(f'word {n}' for n in range(4, 14))} ..."


def test_why_of_scores_that_are_missing_or_infinite() -> None:
    lost = ScoredCandidate(" x", True, ("birch",), {"ash": float("inf"), "birch": 2.0}, None)
    step = disputed(" 23", " 24")
    shown = why([replace(step, candidates=(step.candidates[0], lost))], NAMES, 1, in_colour=False)
    assert re.search(r"␣x∎ +B +∞ +2\.000 +– +–$", shown)
    assert [number(value) for value in (None, 12.0, 123456.0)] == ["–", "12.000", "1.23e+05"]


def test_why_of_a_word_that_is_not_there() -> None:
    with pytest.raises(InputError, match="does not contain 'fish'"):
        why(STEPS, NAMES, "fish", in_colour=False)
