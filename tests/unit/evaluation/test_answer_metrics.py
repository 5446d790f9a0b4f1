"""How texts are compared with accepted answers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from cf_local.evaluation.answer_metrics import METRICS, last_choice, last_number, problem_with


@pytest.mark.parametrize(
    ("metric", "text", "accepted", "right"),
    [
        ("exact", "  Paris. ", ["paris"], 1),
        ("exact", "“Paris”", ["Paris"], 1),
        ("exact", "It is Paris", ["Paris"], 0),
        ("exact", "New\n York", ["new york"], 1),
        ("exact", "STRASSE", ["Straße"], 1),
        ("exact", "４２", ["42"], 1),
        ("exact", "C++", ["C"], 0),
        ("exact", "", ["Paris"], 0),
        ("exact", "Lutetia", ["Paris", "Lutetia"], 1),
        ("number", "First 3, then 68.", ["68"], 1),
        ("number", "68.0", ["68"], 1),
        ("number", "It costs $1,234.50 in all.", ["1234.5"], 1),
        ("number", "-5", ["5"], 0),
        ("number", "−5", ["-5"], 1),
        ("number", "10-5", ["5"], 1),
        ("number", "It is .5", ["0.5"], 1),
        ("number", "no number", ["5"], 0),
        ("number", "version 1.2.3", ["68"], 0),
        ("number", "12%", ["12"], 1),
        ("number", "5 or 7", ["5", "7"], 1),
        ("regex", "the ID is AB-12", [r"\b[A-Z]{2}-\d+\b"], 1),
        ("regex", "the ID is ab-12", [r"\b[A-Z]{2}-\d+\b"], 0),
        ("contains", "The capital is Paris, of course", ["paris"], 1),
        ("contains", "Parisian", ["Paris"], 0),
        ("contains", "17", ["7"], 0),
        ("choice", "B", ["B"], 1),
        ("choice", "b)", ["B"], 1),
        ("choice", "(B) is right", ["b"], 1),
        ("choice", "The answer is (C), not B.", ["C"], 1),
        ("choice", "Answer: A", ["A"], 1),
        ("choice", "A cat is an animal.", ["A"], 0),
        ("choice", "A) a cat", ["A"], 1),
        ("choice", "I think it is D.", ["D"], 1),
        ("choice", "**Answer:** **B**", ["B"], 1),
        ("choice", "nothing", ["A"], 0),
        ("f1", "The cat sat", ["a cat sat"], 1),
        ("f1", "cat", ["cat dog"], 2 / 3),
        ("f1", "bird", ["cat dog", "bird!"], 1),
        ("f1", "", ["cat"], 0),
    ],
)
def test_verdicts(metric: str, text: str, accepted: list[str], right: float) -> None:
    assert METRICS[metric](text, accepted) == pytest.approx(right)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12,345,678.9 in all", "12345678.9"),
        ("1,23", "23"),  # no thousands: two numbers
        ("x2", None),
        ("in 2024, 3 of them.", "3"),
        ("3.", "3"),
        ("-3", "-3"),
        ("", None),
    ],
)
def test_the_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


def test_the_last_choice_prefers_what_is_called_the_answer() -> None:
    assert last_choice("The answer is B. C and D are wrong.") == "B"
    assert last_choice("First A), then B)") == "B"


@pytest.mark.parametrize(
    ("metric", "answer", "part"),
    [
        ("number", "many", "contains no number"),
        ("choice", "Paris", "is not a letter"),
        ("exact", "...", "is empty"),
        ("regex", "(", "is not a regular expression"),
    ],
)
def test_answers_that_cannot_be_used(metric: str, answer: str, part: str) -> None:
    assert part in str(problem_with(metric, [answer]))
    assert problem_with(metric, ["7" if metric != "choice" else "(b)"]) is None
