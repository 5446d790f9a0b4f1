"""Real sources that look ahead: a step that few of them decide ends as if all had been asked.

A second set of the same models, which looks at nothing ahead, judges every step by all scores.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gguf")

import tiny_models as tiny

from cf_local.llama.source import LlamaSource
from cf_local.method.boundary import whole_characters
from cf_local.method.costs import PassCosts
from cf_local.method.reranker import decide
from cf_local.method.session import Session, prefill
from cf_local.method.synchronizer import draft_segment
from cf_local.method.writer import Writer
from cf_local.progress import never
from cf_local.settings import Sampling, Settings
from cf_local.types import Candidate, RawText, Step

PROMPT = RawText("The quick brown")
NAMES = ("a", "b", "c")
# Relative: sums of probabilities that differ by less may go either way, for logits depend a little
# on the shape of a batch.
NEAR_TIE = 0.08
N_STEPS = 24
LIMIT = 32

Opener = Callable[..., tuple[list[Session], list[Session]]]


def no_bias(_piece: bytes) -> float:
    """Parts of characters are as likely as words."""
    return 0.0


@pytest.fixture
def twice(tiny_model: Callable[..., Path]) -> Iterator[Opener]:
    """Opens three models by a seed: to write, and once more to judge."""
    with ExitStack() as stack:

        def open_(seed: int, **more: Any) -> tuple[list[Session], list[Session]]:
            draw = random.Random(seed)
            sets: tuple[list[Session], list[Session]] = ([], [])
            costs = draw.sample((0.01, 0.02, 0.04), 3)
            archs = draw.sample(tiny.ARCHITECTURES, 3) if seed % 2 else ["llama", "gpt2", "qwen2"]
            sharpness = draw.choice((1.0, 2.0))
            for i, name in enumerate(NAMES):
                kind = draw.choice(("bpe", "glued", "split", "spm-glued"))
                options: dict[str, Any] = {"sharpness": sharpness, "lean": 14.0, "eog_bias": -9.0}
                options.update(more)
                path = tiny_model(archs[i], kind, seed=seed * 10 + i, **options)
                for sessions in sets:
                    cost_s = costs[i]
                    curve = PassCosts(((1, cost_s), (4, 1.5 * cost_s), (32, 6 * cost_s)))
                    source = LlamaSource(name, path, n_threads=1, costs=curve)
                    stack.callback(source.close)
                    sessions.append(source.sessions[0])
            return sets

        yield open_


def behind_best(judges: list[Session], settings: Settings) -> dict[Candidate, float]:
    """By how much, in nats, each proposal of all sources is worse than the best."""
    drafts = []
    for judge in judges:
        others = [other for other in judges if other is not judge]
        draft = draft_segment(judge, others, settings.segments, settings.segment_limit)
        drafts.append(Candidate(draft.text, draft.ends))
    candidates = list(dict.fromkeys(drafts))
    scores = [judge.score(candidates, word_ends=True) for judge in judges]
    weights = settings.weights_of([judge.source.info for judge in judges])
    pooled = decide(scores, candidates, "mixture", weights).pooled
    assert pooled is not None
    return dict(zip(candidates, (pooled - np.min(pooled)).tolist(), strict=True))


def checked(
    writers: list[Session], judges: list[Session], settings: Settings
) -> Iterator[tuple[Step, list[Candidate]]]:
    """The first steps, and all that was proposed; each winner is that of all scores."""
    writer, won = Writer(tuple(writers), settings, never), list[Candidate]()
    list(writer.prefill(PROMPT))
    for judge in judges:
        prefill(judge, PROMPT, sampling=Sampling())
    committed = writers[0].commit

    def commit(candidate: Candidate) -> None:
        won.append(candidate)
        committed(candidate)

    writers[0].commit = commit  # type: ignore[method-assign]
    for step in islice(writer.steps(), N_STEPS):
        assert step is not None
        behind = behind_best(judges, settings)
        assert behind.get(won[-1], 9.0) < NEAR_TIE, (won[-1], behind)
        yield step, list(behind)
        for judge in judges:
            judge.commit(won[-1])


@pytest.mark.parametrize("speculation", [True, False])
@pytest.mark.parametrize("weights", [{"a": 3.0}, {"b": 2.0, "c": 0.5}, "equal", {"a": 9.0}])
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 8])
def test_every_winner_is_that_of_all_scores(
    twice: Opener, seed: int, weights: Any, speculation: bool
) -> None:
    settings = Settings(
        weights=weights,
        segments="shortest" if seed == 3 else "aligned",
        speculation=speculation,
        max_tokens=900,
        repetition_guard=False,
    )
    steps = [step for step, _ in checked(*twice(seed), settings)]
    # Text without words is not read ahead for ever.
    assert max(max(step.passes.values()) for step in steps) <= 3 * LIMIT
    if weights == {"a": 9.0}:
        assert sum(len(step.asked) for step in steps) < 2.7 * len(steps)


@pytest.mark.parametrize("weights", [{"a": 2.0}, {"b": 3.0, "c": 0.5}, {"a": 9.0}])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_so_where_words_are_cut_within_a_character(
    twice: Opener, seed: int, weights: Any
) -> None:
    settings = Settings(weights=weights, segment_limit=2, max_tokens=900, repetition_guard=False)
    proposals = [
        candidate
        for _, candidates in checked(*twice(seed, bias=no_bias, lean=3.0), settings)
        for candidate in candidates
    ]
    assert any(whole_characters(one.text) != one.text for one in proposals) or seed


def test_a_leading_source_decides_most_steps_alone(twice: Opener) -> None:
    writers, _ = twice(0)
    writer = Writer(tuple(writers), Settings(weights={"a": 20.0}, max_tokens=60), never)
    list(writer.prefill(PROMPT))
    steps = [step for step in writer.steps() if step is not None]
    alone = [step for step in steps if step.asked == ("a",)]
    assert len(alone) > len(steps) / 2
    assert all(step.winners == ("a",) for step in alone)
    answer = writer.answer()
    assert answer.passes["b"] < answer.passes["a"] or answer.passes["c"] < answer.passes["a"]
