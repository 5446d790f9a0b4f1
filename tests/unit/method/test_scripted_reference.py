"""Engine and reference on the same scripted sources: no noise, so all numbers must agree."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from comparison import show
from hypothesis import assume, currently_in_test_context, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scripted import PROMPT, VOCABULARIES, noise, run, thinker

pytest.importorskip("llama_cpp")
import reference as ref

from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.testing import END, PieceVocabulary, Script, ScriptedSource
from cf_local.types import MODES, SCORES, SEGMENTS, chat

EOG = 499
FLOOR = 1e-6


class ScriptRef(ref.RefSource):
    """A reference source that reads a script instead of a model."""

    def __init__(self, vocabulary: PieceVocabulary, script: Script) -> None:
        self._vocabulary, self._script = vocabulary, script
        self.eog, self.n_vocab = [EOG], EOG + 1
        self.prompt = self.encode(PROMPT.text.encode())

    def piece(self, token: int) -> bytes:
        return b"" if token == EOG else self._vocabulary.piece(token)

    def encode(self, text: bytes) -> list[int]:
        return list(self._vocabulary.encode(text))

    def shares(self, tokens: Sequence[int]) -> dict[int, float]:
        """After the prompt the script sees the response, within it what there is of it."""
        n = len(self.prompt)
        said = self._script(self.text(tokens[n:] if len(tokens) >= n else tokens))
        return {EOG if token == END else token: share for token, share in said.items()}

    def logits(self, tokens: list[int], n_last: int) -> Any:
        rows = np.full((n_last, self.n_vocab), math.log(FLOOR))
        for i in range(n_last):
            for token, share in self.shares(tokens[: len(tokens) - n_last + 1 + i]).items():
                rows[i, token] = math.log(share)
        return rows

    def nlls(self, before: list[int], tokens: list[int], ends: bool) -> list[float]:
        path = [*tokens, *([EOG] if ends else [])]
        shares = [self.shares([*before, *path[:i]]) for i in range(len(path))]
        return [-math.log(s.get(token, FLOOR)) for s, token in zip(shares, path, strict=True)]

    def word_end(self, before: list[int], tokens: list[int]) -> float:
        """Of the tokens that the script lists: the others have next to nothing together."""
        *_, (_, last) = ref.characters(self.text(tokens)) or [(0, " ")]
        if last is not None and last.isspace():
            return math.inf
        begun = 0.0
        for token, share in self.shares([*before, *tokens]).items():
            piece = self.piece(token)
            first = ref.characters(piece)[0][1] if piece else None
            if None not in (last, first) and ref.is_word_boundary(last or "", first or ""):
                begun += share
        return -math.log(begun or FLOOR)


def chatter(vocabulary: PieceVocabulary, seed: int) -> Script:
    """Noise of whole characters that seldom ends before it has said something.

    (After a response that ends within a character, reference and engine cut differently.)
    """
    script = noise(vocabulary, seed)

    def is_whole(token: int) -> bool:
        return vocabulary.piece(token).decode(errors="ignore").encode() == vocabulary.piece(token)

    def said(response: bytes) -> Mapping[int, float]:
        shares = {t: share for t, share in script(response).items() if t == END or is_whole(t)}
        if len(response) < 100:
            shares[END] /= 20
        return {token: share / sum(shares.values()) for token, share in shares.items()}

    return said


def with_tags(vocabulary: PieceVocabulary, script: Script, seed: int, *, opens: bool) -> Script:
    """The same, but it sometimes closes its thinking, and with ``opens`` it opens it first."""

    def said(response: bytes) -> Mapping[int, float]:
        if opens and response != b"<think>" and b"<think>".startswith(response):
            return {vocabulary.encode(b"<think>"[len(response) :])[0]: 0.9}
        begun = max((n for n in range(8) if response.endswith(b"</think>"[:n])), default=0)
        if begun or zlib.crc32(response, seed) % 9 == 0:
            return {vocabulary.encode(b"</think>"[begun:])[0]: 0.9, **script(response)}
        return script(response)

    return said


def assert_same_steps(
    seeds: Sequence[int], common: dict[str, Any], thinks: str | None = None
) -> list[ref.RefStep]:
    """Both write the same, step by step; returns the reference's steps.

    ``thinks``: whether the "template" opens thinking, or the "model".
    """
    scripts = [(v, chatter(v, seed)) for v, seed in zip(VOCABULARIES, seeds, strict=False)]
    if thinks:
        scripts = [
            (v, with_tags(v, script, seed, opens=thinks == "model"))
            for (v, script), seed in zip(scripts, seeds, strict=False)
        ]
    kind = thinker if thinks == "template" else ScriptedSource
    sources = [kind(name, *script) for name, script in zip("abc", scripts, strict=False)]
    references = [ScriptRef(*script) for script in scripts]
    opening = "<think>" if thinks == "template" else ""
    ref_settings = ref.RefSettings(**common, opening=opening, tie_tolerance=1e-9)
    expected = ref.fuse(list(references), [r.prompt for r in references], ref_settings)
    if currently_in_test_context():
        assume(not expected.near_tie)  # which of two equal sums is lower is a matter of rounding
    weights = common.get("weights")
    if weights is not None:
        common = {**common, "weights": dict(zip("abc", weights, strict=False))}
    settings = Settings(**common, all_scores=True, repetition_guard=False)
    steps, answer = run(Fusion(sources), settings, chat(PROMPT.text))
    assert answer.text.encode() == show(expected.text).encode()
    assert answer.finish_reason == expected.finish_reason
    if common["mode"] in ("rerank", "cool+r"):
        steps = steps[-1:]
    for step, known in zip(steps, expected.steps, strict=True):
        texts = [(show(c.text), c.ends) for c in known.candidates]
        assert [(c.text, c.ends) for c in step.candidates] == texts
        assert step.winner == known.winner
        if known.means is not None:
            assert [c.mean for c in step.candidates] == pytest.approx(known.means.tolist())
    return expected.steps


SEEDS = st.lists(st.integers(0, 10**6), min_size=1, max_size=3)
SETTINGS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(MODES),
        "score": st.sampled_from(SCORES),
        "segments": st.sampled_from(SEGMENTS),
        "segment_limit": st.sampled_from((32, 32, 6)),
        "max_tokens": st.sampled_from((40, 40, 7)),
    }
)


@hypothesis_settings(max_examples=150)
@example(
    [2185, 174, 174], {"mode": "cool", "score": "nll", "segments": "aligned"}, 1, None
)  # a tie
@given(
    seeds=SEEDS,
    common=SETTINGS,
    n_words=st.integers(1, 4),
    weights=st.sampled_from((None, (1.0, 2.0, 0.5), (0.0, 1.0, 3.0), (1.0, 0.0, 0.0))),
)
def test_any_settings_give_the_steps_of_the_reference(
    seeds: list[int],
    common: dict[str, Any],
    n_words: int,
    weights: tuple[float, ...] | None,
) -> None:
    if common["segments"] != "sentence":
        common["segment_words"] = n_words
    if weights is not None and any(weights[: len(seeds)]):
        common["weights"] = weights[: len(seeds)]
    if len(seeds) == 1 or common["mode"] == "single":
        common.pop("weights", None)
    assert_same_steps(seeds, common)


@hypothesis_settings(max_examples=150)
@given(SEEDS, SETTINGS, st.sampled_from(("model", "template")), st.integers(0, 25))
def test_a_limit_for_thinking_acts_as_in_the_reference(
    seeds: list[int], common: dict[str, Any], thinks: str, most: int
) -> None:
    assert_same_steps(seeds, {**common, "max_thinking_tokens": most}, thinks)


@pytest.mark.parametrize("thinks", ["model", "template"])
def test_thinking_is_ended_in_these_examples(thinks: str) -> None:
    n_closed = 0
    for seed in range(8):
        common = {"mode": "cool", "max_tokens": 60, "max_thinking_tokens": 2}
        steps = assert_same_steps([seed, seed + 50, seed + 90], common, thinks)
        n_closed += sum(not c.proposers for step in steps for c in step.candidates)
    assert n_closed > 2


def test_sources_disagree_in_these_examples() -> None:
    """They would say little otherwise."""
    n_scored = 0
    for seed in range(8):
        steps = assert_same_steps([seed, seed + 50, seed + 90], {"mode": "cool", "max_tokens": 60})
        n_scored += sum(step.scores is not None for step in steps)
    assert n_scored > 20
