"""Structured answers of the built-in fusion: complete ones are valid, others are reported."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

import cf_local
from cf_local import ResponseFormat, Sampling, Step
from cf_local.builtin.problems import generate
from cf_local.runtime.fusion import Fusion
from cf_local.types import MODES

pytestmark = pytest.mark.model

FIGURES = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "schema_figures.py"))
PROMPTS = [cf_local.chat(p.question) for p in generate(12, seed=5, split="test")]
SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "integer", "minimum": 0, "maximum": 500},
        "why": {"type": "string", "maxLength": 12},
    },
    "required": ["answer"],
}


@pytest.fixture(scope="module")
def fusion() -> Iterator[Fusion]:
    with cf_local.load() as loaded:
        yield loaded


def answer_to(fusion: Fusion, index: int, schema: Any, **how: Any) -> cf_local.Answer:
    form = ResponseFormat.json_schema(schema)
    settings = replace(fusion.settings, response_format=form, max_tokens=700, **how)
    return fusion.answer(PROMPTS[index], settings)


@pytest.mark.parametrize("temperature", [0.0, 1.3])
@pytest.mark.parametrize("index", range(12))
def test_every_answer_is_valid(fusion: Fusion, index: int, temperature: float) -> None:
    schema = FIGURES["random_schema"](Random(100 + index))
    sampling = Sampling(temperature=temperature, top_p=0.9 if index % 2 else 1.0, seed=index)
    answer = answer_to(fusion, index, schema, sampling=sampling, mode=MODES[index % len(MODES)])
    assert FIGURES["verdict"](answer, schema) == "valid"


def test_a_form_lasts_for_one_answer_and_the_next_is_as_before(fusion: Fusion) -> None:
    before = fusion.answer(PROMPTS[1]).text
    assert json.loads(answer_to(fusion, 1, SCHEMA).text)
    assert fusion.answer(PROMPTS[1]).text == before


def test_an_answer_that_is_too_long_is_reported(fusion: Fusion) -> None:
    form = ResponseFormat.json_schema({"type": "string", "minLength": 400})
    for mode in MODES:
        settings = replace(fusion.settings, response_format=form, max_tokens=40, mode=mode)
        assert fusion.answer(PROMPTS[0], settings).finish_reason == "length"


def test_a_loop_that_breaks_the_form_is_reported(fusion: Fusion) -> None:
    form = ResponseFormat.gbnf('root ::= "["  "no, "{2000} "]"')
    settings = replace(fusion.settings, response_format=form, max_tokens=2000)
    assert fusion.answer(PROMPTS[0], settings).finish_reason == "repetition"
    whole = replace(settings, repetition_guard=False, max_tokens=3000)
    assert fusion.answer(PROMPTS[0], whole).finish_reason in ("stop", "length")


def test_a_complete_answer_wins_over_others_when_whole_answers_compete(fusion: Fusion) -> None:
    """Each source alone writes the first way until it is full; only the fused one may end."""
    form = ResponseFormat.gbnf('root ::= "ab" | "12" [0-9]{300}')
    settings = replace(fusion.settings, response_format=form, max_tokens=60, mode="rerank")
    alone = [
        fusion.answer(PROMPTS[0], replace(settings, mode="single", only=source.info.name))
        for source in fusion.sources
    ]
    reasons = {answer.finish_reason for answer in alone}
    chosen = fusion.answer(PROMPTS[0], settings)
    assert chosen.finish_reason == ("stop" if "stop" in reasons else "length")


def test_stop_strings_do_not_break_a_form(fusion: Fusion) -> None:
    answer = answer_to(fusion, 0, SCHEMA, stop=('"answer"', "}"))
    assert "answer" in json.loads(answer.text)


def test_text_without_spaces_is_written_in_segments_of_the_limit(fusion: Fusion) -> None:
    form = ResponseFormat.gbnf("root ::= [a-z]{300}")
    settings = replace(fusion.settings, response_format=form, segment_limit=8)
    *steps, answer = fusion.stream(PROMPTS[0], settings)
    assert answer.finish_reason == "stop"  # type: ignore[union-attr]
    assert len(answer.text) == 300
    assert all(isinstance(step, Step) and step.text for step in steps[:-1])
