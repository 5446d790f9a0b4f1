"""The engine writes what a slow, obvious implementation of the method page writes.

Seeded triples of tiny random models of all architectures and vocabularies, all modes, scores and
weights. Where the texts differ, the first step that differs must be a near tie of the reference:
two candidates, or two next tokens, whose lead is within what logits vary by batch shape.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gguf")

import reference as ref
import tiny_models as tiny
from comparison import first_difference, show

from cf_local.llama.source import LlamaSource
from cf_local.method.costs import PassCosts
from cf_local.method.session import Session, prefill
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.types import (
    MODES,
    SCORES,
    SEGMENTS,
    Candidate,
    Draft,
    RawText,
    Score,
    Step,
    chat,
)

PROMPT = RawText("The quick brown")
MAX_TOKENS = 40
# Logits, and nats or bits per byte: random weights amplify the rounding of the F16 cache.
NEAR_TIE = 0.03
SEEDS = range(10)


@dataclass(frozen=True)
class Trio:
    fusion: Fusion
    references: list[ref.RefSource]
    prompts: list[list[int]]


def prompt_tokens(source: ref.RefSource, kind: str) -> list[int]:
    """The SentencePiece vocabulary begins a text with BOS and a space, the others with nothing."""
    return (
        [1, *source.encode(b" " + PROMPT.text.encode())]
        if kind == "spm-glued"
        else source.encode(PROMPT.text.encode())
    )


@pytest.fixture(params=SEEDS)
def trio(request: pytest.FixtureRequest, tiny_model: Callable[..., Path]) -> Iterator[Trio]:
    seed = int(request.param)
    draw = random.Random(seed)
    with ExitStack() as stack:
        sources, references, prompts = [], [], []
        for index, arch in enumerate(draw.sample(tiny.ARCHITECTURES, 3)):
            kind = draw.choice(["bpe", "glued", "split", "spm-glued"])
            options: dict[str, Any] = {"sharpness": draw.choice([1.0, 3.0]), "lean": 9.0}
            if draw.random() < 0.25:
                options["bias"] = no_bias  # broken characters, control characters
            path = tiny_model(arch, kind, seed=seed * 10 + index, **options)
            sources.append(LlamaSource(f"s{index}", path, n_forks=4, n_threads=1))
            references.append(ref.RefSource(path, name=f"s{index}"))
            stack.callback(references[-1].close)
            prompts.append(prompt_tokens(references[-1], kind))
        yield Trio(stack.enter_context(Fusion(sources)), references, prompts)


@pytest.fixture
def thinkers(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trio]:
    """The same models with a template that opens thinking, and passes worth saving."""
    monkeypatch.setattr(PassCosts, "of", lambda _self, _n_tokens: 1.0)
    with ExitStack() as stack:
        sources = [
            LlamaSource(
                source.info.name,
                Path(source.info.file),
                n_threads=1,
                template="{{ messages[0].content }}<think>",
            )
            for source in trio.fusion.sources
        ]
        prompts = [source.encode(chat(PROMPT.text)) for source in sources]
        yield Trio(stack.enter_context(Fusion(sources)), trio.references, prompts)


def no_bias(_piece: bytes) -> float:
    return 0.0


def settings_of(
    seed: int, mode: str, segments: str, names: Sequence[str]
) -> tuple[Settings, ref.RefSettings]:
    draw = random.Random(f"{seed} {mode} {segments}")
    common: dict[str, Any] = {
        "mode": mode,
        "segments": segments,
        "score": draw.choice(["mixture", *SCORES]),
        "max_tokens": MAX_TOKENS,
        "segment_limit": draw.choice([32, 32, 4]),
    }
    common["segment_words"] = 1 if segments == "sentence" else draw.choice([1, 1, 2, 4])
    weights = draw.choice([None, (1.0, 2.0, 0.5)])
    by_name = "equal" if weights is None else dict(zip(names, weights, strict=True))
    return (
        Settings(**common, weights=by_name, repetition_guard=False),
        ref.RefSettings(**common, weights=weights, tie_tolerance=NEAR_TIE),
    )


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("mode", MODES)
def test_the_engine_writes_what_the_reference_writes(
    trio: Trio, mode: str, segments: str, request: pytest.FixtureRequest
) -> None:
    settings, ref_settings = settings_of(
        request.node.callspec.params["trio"],
        mode,
        segments,
        [source.info.name for source in trio.fusion.sources],
    )
    expected = ref.fuse(trio.references, trio.prompts, ref_settings)
    *steps, answer = trio.fusion.stream(PROMPT, settings)
    if (answer.text, answer.finish_reason) == (show(expected.text), expected.finish_reason):
        return
    if mode in ("cool", "single"):
        different = first_difference(steps, expected.steps)
        assert different is not None
        assert different.near_tie, f"{answer.text!r} is not {show(expected.text)!r}"
    else:  # whole answers: a near tie in one of them, or between them
        assert expected.near_tie, f"{answer.text!r} is not {show(expected.text)!r}"


@pytest.mark.parametrize("segments", ["aligned", "sentence"])
@pytest.mark.parametrize("mode", MODES)
def test_the_engine_ends_thinking_where_the_reference_does(
    thinkers: Trio, mode: str, segments: str, request: pytest.FixtureRequest
) -> None:
    seed = request.node.callspec.params["trio"]
    names = [source.info.name for source in thinkers.fusion.sources]
    settings, ref_settings = settings_of(seed, mode, segments, names)
    settings = replace(settings, max_thinking_tokens=seed)
    ref_settings = replace(ref_settings, max_thinking_tokens=seed, opening="<think>")
    expected = ref.fuse(thinkers.references, thinkers.prompts, ref_settings)
    *steps, answer = thinkers.fusion.stream(chat(PROMPT.text), settings)
    if (answer.text, answer.finish_reason) == (show(expected.text), expected.finish_reason):
        n_ended = sum(not step.winners for step in steps)
        fused = expected.answers[-1] if mode == "cool+r" else expected
        assert n_ended == (mode != "rerank" and fused.was_closed)
    elif mode in ("cool", "single"):
        different = first_difference(steps, expected.steps)
        assert different is not None
        assert different.near_tie, f"{answer.text!r} is not {show(expected.text)!r}"
    else:
        assert expected.near_tie, f"{answer.text!r} is not {show(expected.text)!r}"


def test_scores_are_those_of_the_reference(trio: Trio) -> None:
    response = b" the dog"
    candidates = [
        Candidate(text, ends)
        for text in (b" fox (is).", b"gy", " é東".encode(), b"")
        for ends in (False, True)
        if text or ends
    ]
    for source, known, prompt in zip(
        trio.fusion.sources, trio.references, trio.prompts, strict=True
    ):
        session = source.sessions[0]
        prefill(session, PROMPT, sampling=Sampling())
        session.commit(Candidate(response, False))
        before = prompt + known.encode(response)
        scores = session.score(candidates, word_ends=True)
        for candidate, score in zip(candidates, scores, strict=True):
            tokens = known.encode_in_context(response, candidate.text)
            terms = known.nlls(before, tokens, candidate.ends)
            assert score.n_terms == len(terms)
            assert score.nll_nats == pytest.approx(sum(terms), abs=NEAR_TIE * len(terms))
            end = 0.0 if candidate.ends else known.word_end(before, tokens)
            assert score.word_end_nats == pytest.approx(end, abs=NEAR_TIE)


# --- Passes (issue 2, figure 4) -------------------------------------------------------------


class Counted:
    """A session that notes what the draft and the candidates of each step should cost."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def start(self) -> None:
        """A step begins."""
        self.n_drafted = self.n_read = self.n_reread = self.n_cuts = 0
        self.before = self._session.counters
        self.own = b""

    def draft(self, limit: int) -> Draft:
        return self._noted(self._session.draft(limit))

    def extend(self, limit: int) -> Draft:
        return self._noted(self._session.extend(limit))

    def trim(self, n_bytes: int) -> Draft:
        n_before = self.n_drafted
        draft = self._session.trim(n_bytes)
        self.own = draft.text
        if len(draft.token_ends) < n_before:  # what is kept is evaluated again, in one pass
            self.n_cuts, self.n_reread = 1, len(draft.token_ends)
        return draft

    def score(self, candidates: Sequence[Candidate], *, word_ends: bool) -> list[Score]:
        others = {c.text for c in candidates} - {self.own}
        self.n_read = sum(len(self._session.token_ends(text)) for text in others)
        return self._session.score(candidates, word_ends=word_ends)

    def _noted(self, draft: Draft) -> Draft:
        self.n_drafted, self.own = len(draft.token_ends), draft.text
        return draft


def test_a_segment_of_n_tokens_costs_at_most_n_and_one_passes(trio: Trio) -> None:
    """A segment that had to be cut at the limit costs one more: not every cache can be cut."""
    counted = [Counted(source.sessions[0]) for source in trio.fusion.sources]
    fusion = Fusion(
        [
            SimpleNamespace(
                info=source.info, costs=source.costs, sessions=[session], close=source.close
            )  # type: ignore[misc]
            for source, session in zip(trio.fusion.sources, counted, strict=True)
        ]
    )
    settings = Settings(
        score="nll",
        max_tokens=MAX_TOKENS,
        segment_limit=6,
        repetition_guard=False,
        speculation=False,
    )
    n_before = [source.counters.n_tokens for source in counted]
    for event in fusion.stream(PROMPT, settings):
        if not isinstance(event, Step):
            break
        for source, prompt, n_others in zip(counted, trio.prompts, n_before, strict=True):
            if source.before.n_passes == 0:  # the first step: the prompt, once
                n_prompt = source.counters.n_tokens - n_others
                n_prompt -= source.n_drafted + source.n_read + source.n_reread
                assert n_prompt <= len(prompt)  # common beginnings of drafts are read once
            else:
                n_new = source.counters.n_tokens - source.before.n_tokens
                assert n_new <= source.n_drafted + source.n_read + source.n_reread
            n_passes = event.passes[source.source.info.name]
            agreed = len(event.candidates) == 1
            assert n_passes <= source.n_drafted + source.n_cuts + (not agreed)
            source.start()


@pytest.mark.parametrize("mode", MODES)
def test_the_prompt_is_evaluated_once_whatever_the_mode(trio: Trio, mode: str) -> None:
    n_first = []
    for source, prompt in zip(trio.fusion.sources, trio.prompts, strict=True):
        session = source.sessions[0]
        before = session.counters.n_tokens
        assert prefill(session, PROMPT, sampling=Sampling()) == len(prompt)
        n_first.append(session.counters.n_tokens - before)
    assert n_first == [len(prompt) for prompt in trio.prompts]
    *_, answer = trio.fusion.stream(PROMPT, Settings(mode=mode, max_tokens=12))  # type: ignore[arg-type]
    *_, again = trio.fusion.stream(PROMPT, Settings(mode=mode, max_tokens=12))  # type: ignore[arg-type]
    sessions = [source.sessions[0] for source in trio.fusion.sources]
    n_tokens = [session.counters.n_tokens for session in sessions]
    for session in sessions:
        prefill(session, PROMPT, sampling=Sampling())
    assert [session.counters.n_tokens for session in sessions] == n_tokens
    assert again.text == answer.text
