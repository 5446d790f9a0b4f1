"""Ways to weigh and longer segments on the built-in models, with and without speculation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import reference as ref
from comparison import first_difference, show

import cf_local
from cf_local.builtin.problems import generate
from cf_local.llama.source import LlamaSource
from cf_local.loading.load import LoadOptions, load
from cf_local.method import speculation
from cf_local.runtime.fusion import Fusion
from cf_local.types import Settings, Step

pytestmark = pytest.mark.model

PROMPTS = [cf_local.chat(problem.question) for problem in generate(4, seed=21, split="test")]
CHOICES: list[dict[str, Any]] = [
    *({"weighing": kind} for kind in ("prior", "hedge", "trim", "primary")),
    {"weighing": "prior", "mode": "rerank"},
    {"weighing": "hedge", "mode": "cool+r"},
    {"segment_words": 2},
    {"segment_words": 4, "segments": "shortest"},
    {"segments": "sentence"},
    {"segments": "sentence", "weighing": "primary"},
]


@dataclass(frozen=True)
class Both:
    fusion: Fusion
    references: list[ref.RefSource]


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with ExitStack() as stack:
        fusion = stack.enter_context(load(options=LoadOptions(n_threads=1)))
        references = []
        for source in fusion.sources:
            references.append(ref.RefSource(Path(source.info.file), name=source.info.name))
            stack.callback(references[-1].close)
        yield Both(fusion, references)


@pytest.fixture(autouse=True)
def _looks_ahead_however_quick_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculation, "_TINY_PASS_S", 0.0)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: " ".join(map(str, choice.values())))
def test_the_engine_writes_what_the_reference_writes(both: Both, choice: dict[str, Any]) -> None:
    n_equal, common = 0, {"max_tokens": 120, **choice}
    for prompt in PROMPTS:
        sources = [s for s in both.fusion.sources if isinstance(s, LlamaSource)]
        tokens = [source.prompt_tokens(prompt) for source in sources]
        expected = ref.fuse(both.references, tokens, ref.RefSettings(**common, tie_tolerance=0.03))
        for looks_ahead in (False, True):
            settings = Settings(**common, speculation=looks_ahead, repetition_guard=False)
            *events, answer = both.fusion.stream(prompt, settings)
            if (answer.text, answer.finish_reason) == (show(expected.text), expected.finish_reason):
                n_equal += 1
            elif settings.mode == "cool":
                steps = [event for event in events if isinstance(event, Step)]
                different = first_difference(steps, expected.steps)
                assert different is not None
                assert different.near_tie, f"{answer.text!r} is not {show(expected.text)!r}"
            else:
                assert expected.near_tie, f"{answer.text!r} is not {show(expected.text)!r}"
    assert n_equal >= len(PROMPTS)  # of twice as many


def test_they_do_write_something_else(both: Both) -> None:
    """Else the test above would compare nothing."""
    plain = [steps_of(both.fusion, p) for p in PROMPTS]
    for choice in CHOICES:
        if choice.get("mode", "cool") == "cool":
            weighed = [steps_of(both.fusion, p, **choice) for p in PROMPTS]
            assert weighed != plain, choice


def steps_of(fusion: Fusion, prompt: cf_local.Chat, **choice: Any) -> list[Any]:
    """Candidates with their means, step by step."""
    settings = replace(fusion.settings, max_tokens=120, speculation=False, **choice)
    events = fusion.stream(prompt, settings)
    steps = [event for event in events if isinstance(event, Step)]
    return [[(c.text, c.mean and round(c.mean, 3)) for c in step.candidates] for step in steps]
