"""Which pieces of an answer a word lies in, and text that is safe to show."""

import pytest
from answers import NAMES, agreed, disputed, whole

from cf_local.errors import InputError
from cf_local.trace import covering, in_one_line, pieces, shown, visible
from cf_local.types import FUSED

STEPS = [
    agreed("Tom"),
    agreed(" has"),
    disputed(" 23", " 24", " 25"),
    disputed("5.", "."),
    agreed("\n\nTom"),
    agreed(" ends.", ends=True),
]  # "Tom has 235.\n\nTom ends."


def places(what: str | int, steps: list = STEPS) -> list[tuple[str, int, list[int]]]:  # type: ignore[type-arg]
    found = covering(steps, what)
    return [(place.text, place.word, [piece.number for piece in place.pieces]) for place in found]


def test_pieces_know_where_they_stand() -> None:
    found = pieces(STEPS)
    text = "".join(step.text for step in STEPS)
    assert [text[piece.start : piece.end] for piece in found] == [step.text for step in STEPS]
    assert [piece.number for piece in found] == [1, 2, 3, 4, 5, 6]


def test_a_word_may_have_been_written_in_two_steps() -> None:
    assert places("235.") == [("235.", 3, [3, 4])]
    assert places(3) == places("235.")


def test_every_place_of_a_word_is_found() -> None:
    assert places("Tom") == [("Tom", 1, [1]), ("Tom", 4, [5])]


def test_words_come_before_parts_of_words_and_those_before_other_case() -> None:
    steps = [agreed("heat"), agreed(" eats"), agreed(" eat"), agreed(" Eat")]
    assert [word for _, word, _ in places("eat", steps)] == [3]
    assert [word for _, word, _ in places("ea", steps)] == [1, 2, 3]
    assert [word for _, word, _ in places("EAT", steps)] == [3, 4]


def test_a_fragment_spans_any_white_space() -> None:
    assert places("235. tom") == [("235.\n\nTom", 3, [3, 4, 5])]


def test_words_are_counted_from_both_ends() -> None:
    assert places(1) == [("Tom", 1, [1])]
    assert places(-1) == [("ends.", 5, [6])]


def test_scripts_without_spaces_count_characters() -> None:
    steps = [agreed("我是"), agreed("猫。"), agreed("タマ")]
    assert places(3, steps) == [("猫", 3, [2])]
    assert places(4, steps) == [("タ", 4, [3])]
    assert places("猫。", steps) == [("猫。", 3, [2])]


@pytest.mark.parametrize("what", [0, 6, -6, "nowhere", "", " \n", "x" * 500])
def test_what_the_answer_does_not_have(what: str | int) -> None:
    with pytest.raises(InputError) as caught:
        covering(STEPS, what)
    assert len(str(caught.value)) < 120


def test_signs_of_patterns_are_plain_text() -> None:
    steps = [agreed("a+b"), agreed(" (c|d)*")]
    assert places("(c|d)*", steps) == [("(c|d)*", 2, [2])]


def test_no_steps_have_no_words() -> None:
    assert pieces([]) == ()
    with pytest.raises(InputError):
        covering([], 1)


def test_a_whole_answer_is_one_piece() -> None:
    choice = whole("ab c", "ab d")
    assert shown([*STEPS, choice]) == [choice]
    assert places("c", [*STEPS, choice]) == [("c", 2, [7])]


def test_the_fused_answer_chosen_at_the_end_shows_its_segments() -> None:
    choice = whole("x", "y", proposers=((FUSED,), NAMES))
    assert shown([*STEPS, choice]) == STEPS
    assert shown([choice]) == [choice]  # nothing else is known of it


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert visible("a\x1b[31mb\x00\x7f\x9b\r") == "a␛[31mb␀␡\ufffd␍"
    assert visible("a\n\tb") == "a\n\tb"
    assert visible("\ud800x\udfff") == "\ufffdx\ufffd"
    assert visible("\u202eabc\u2069") == "⟨RLO⟩abc⟨PDI⟩"


@pytest.mark.parametrize("text", ["مرحبا بك", "שלום", "👩‍👩‍👧", "é", "e\u0301", "क्षि", "\u200f"])
def test_letters_of_all_scripts_stay(text: str) -> None:
    assert visible(text) == text


def test_a_cell_shows_spaces_and_line_breaks() -> None:
    assert in_one_line(" 68") == "␣68"
    assert in_one_line("a b \n") == "a b ↵"
    assert in_one_line("  ") == "␣␣"
    assert in_one_line("\t\u2028") == "⇥↵"
    assert in_one_line("abcdef", 4) == "abc…"
