"""What a newcomer sees first: the three questions of the demo, and an answer to a greeting."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cf_local
from cf_local.builtin.problems import final_number
from cf_local.runtime.fusion import Fusion

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from dev import QUESTIONS

pytestmark = pytest.mark.model

LEAD_NATS = 0.1  # of a winner: other processors move the toys' scores by less than a hundredth
GREETINGS = (
    *("Hello", "hello", "HELLO", "Hi", "hi!", "Hey", "hey!", "Hi there", "Good morning"),
    *("good evening!", "Good day", "Greetings", "Howdy", "Hello there!", "Hello, my name is Anna."),
    *("Say hello", "Bonjour", "Hallo", "Nice to meet you", "How are you?", "What's up?"),
)


@pytest.fixture(scope="module")
def fusion() -> Iterator[Fusion]:
    with cf_local.load() as opened:
        yield opened


@pytest.mark.parametrize(("question", "result"), [*zip(QUESTIONS, (68, 64, 59), strict=True)])
def test_the_questions_of_the_demo_are_answered_rightly_on_any_machine(
    fusion: Fusion, question: str, result: int
) -> None:
    *steps, answer = fusion.stream(cf_local.chat(question))
    assert final_number(answer.text) == result
    for step in steps:
        assert isinstance(step, cf_local.Step)
        best, *others = sorted(c.mean for c in step.candidates if c.mean is not None) or [0.0]
        assert all(other - best > LEAD_NATS for other in others), step


@pytest.mark.parametrize("greeting", GREETINGS)
def test_who_greets_is_not_sent_away(fusion: Fusion, greeting: str) -> None:
    text = fusion.answer(cf_local.chat(greeting)).text
    assert "Goodbye" not in text
    assert text.strip()
