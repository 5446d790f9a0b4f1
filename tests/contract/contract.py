"""What the contract suites have in common: texts, kinds of sources, and how states are compared."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from cf_local.method.session import Lookahead, Session, prefill
from cf_local.settings import Sampling
from cf_local.testing import END, PieceVocabulary
from cf_local.types import Candidate, Draft, RawText, Score

GREEDY = Sampling()
LIMIT = 32
PROMPT = RawText("The quick brown fox jumps over the lazy dog. She sells")
LONG_PROMPT = RawText(PROMPT.text + " fox, dog and hill" * 90)  # several passes
WORDS = (" fox", " dog", " running", " shells", " 24", " dollars", ",", " over", " the", " hill")
MIXED = tuple(Candidate(t, False) for t in (b" the fox", b" zqx 24", b"."))

# Nats per term: logits depend a little on batch shape and place in the cache, and random weights
# amplify the rounding of the F16 cache (0.015 seen in 2,000 comparisons; wrong states: above 0.3).
NLL_NOISE = 0.05
UNCUTTABLE = ("mamba", "jamba", "lfm2")  # recurrent: what was read cannot be forgotten in part
WHOLE_ONLY = (*UNCUTTABLE, "gemma3")  # nor can it with a sliding window
VOCABULARY = {"llama": "spm", "mamba": "small", "gemma3": "spm"}  # else byte-level BPE
TWINS = ("llama", "gemma3")  # SentencePiece: a letter and its byte token have the same text
KINDS = ("scripted", "llama", "gpt2", "qwen2", "gemma3", "mamba", "jamba", "lfm2")

IN_ACTORS = ("scripted", "llama", "mamba")


class Kind(str):
    """The name of a kind of source; ``in_actor`` says where it runs."""

    in_actor = False


def is_in_actor(kind: str) -> bool:
    """Whether sources of this kind run in an actor of a Ray cluster."""
    return isinstance(kind, Kind) and kind.in_actor


Opener = Callable[..., Any]
"""Opens a new source of the kind under test; all sources of one kind are the same model."""


def noise(vocabulary: PieceVocabulary) -> Callable[[bytes], Mapping[int, float]]:
    """A script that says something else after every text, and ends rarely."""
    tokens = [*vocabulary.encode(" ".join(("", *WORDS)).encode()), *vocabulary.encode(b".\n")]

    def script(response: bytes) -> Mapping[int, float]:
        draw = random.Random(zlib.crc32(response))
        chosen = draw.sample(sorted(set(tokens)), 4)
        return {**dict(zip(chosen, (0.5, 0.25, 0.15, 0.09), strict=True)), END: 0.01}

    return script


def prefilled(source: Session, prompt: RawText = PROMPT, sampling: Sampling = GREEDY) -> Session:
    prefill(source, prompt, sampling=sampling)
    return source


def ahead(session: Session) -> Lookahead:
    found = session.lookahead
    assert found is not None
    return found


def candidate(draft: Draft) -> Candidate:
    return Candidate(draft.text, draft.ends)


def write(source: Session, n_bytes: int) -> bytes:
    """Let the source write alone, word by word."""
    text = b""
    while len(text) < n_bytes:
        draft = source.draft(LIMIT)
        source.commit(candidate(draft))
        text += draft.text
        if draft.ends:
            break
    return text


def draft_tokens(source: Session, n_tokens: int) -> Draft:
    """A draft of exactly ``n_tokens`` (these models do not end so soon)."""
    draft = source.draft(n_tokens)
    while len(draft.token_ends) < n_tokens:
        draft = source.extend(n_tokens)
    return draft


def assert_same(found: Sequence[Score], expected: Sequence[Score]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.n_terms == b.n_terms
        assert a.nll_nats == pytest.approx(b.nll_nats, abs=NLL_NOISE * max(1, a.n_terms))


def assert_alike(source: Session, fresh: Session) -> None:
    """Both think the same of what may come, and would write the same, near ties apart."""
    ends = Candidate(b" shells", True)
    assert_same(source.score([*MIXED, ends]), fresh.score([*MIXED, ends]))
    ours, theirs = candidate(source.draft(1)), candidate(fresh.draft(1))
    own, other = source.score([ours, theirs])
    assert abs(own.nll_nats - other.nll_nats) <= 2 * NLL_NOISE * (ours != theirs)
