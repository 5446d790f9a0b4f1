"""Penalties and DRY are those of llama.cpp; a bias is for a text."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf")

from hypothesis import given
from hypothesis import strategies as st

from cf_local.llama.adjustment import PENALTY_WINDOW, Adjustment
from cf_local.llama.distribution import Logits
from cf_local.llama.library import lib
from cf_local.llama.vocabulary import LlamaVocabulary, open_vocabulary
from cf_local.settings import Sampling

tokens = st.lists(st.integers(0, 19), max_size=2 * PENALTY_WINDOW)


@pytest.fixture(scope="module")
def vocabulary(tiny_model: Callable[..., Path]) -> LlamaVocabulary:
    return open_vocabulary(tiny_model("llama"))


def row(seed: int, n_vocab: int) -> Logits:
    return np.random.default_rng(seed).normal(0, 3, n_vocab).astype(np.float32)


def by_llama_cpp(sampler: object, logits: Logits, response: Sequence[int]) -> Logits:
    """What a sampler of llama.cpp makes of a row after ``response``; frees the sampler."""
    for token in response:
        lib.llama_sampler_accept(sampler, token)
    data = (lib.llama_token_data * len(logits))()
    for token, logit in enumerate(logits.tolist()):
        data[token].id, data[token].logit = token, logit
    array = lib.llama_token_data_array(
        data=ctypes.cast(data, lib.llama_token_data_p), size=len(logits), selected=-1
    )
    lib.llama_sampler_apply(sampler, ctypes.byref(array))
    lib.llama_sampler_free(sampler)
    found = np.empty_like(logits)
    for each in data:
        found[each.id] = each.logit
    return found


@given(
    response=tokens,
    repeat=st.floats(0.1, 3),
    frequency=st.floats(-2, 2),
    presence=st.floats(-2, 2),
    seed=st.integers(0, 99),
)
def test_penalties_are_those_of_llama_cpp(
    vocabulary: LlamaVocabulary,
    response: list[int],
    repeat: float,
    frequency: float,
    presence: float,
    seed: int,
) -> None:
    sampling = Sampling(
        repeat_penalty=repeat, frequency_penalty=frequency, presence_penalty=presence
    )
    n_vocab = vocabulary.n_tokens
    sampler = lib.llama_sampler_init_penalties(n_vocab, PENALTY_WINDOW, repeat, frequency, presence)
    expected = by_llama_cpp(sampler, row(seed, n_vocab), response)
    before = row(seed, n_vocab)
    adjusted = Adjustment(sampling, vocabulary).apply(before, response)
    assert adjusted == pytest.approx(expected, abs=1e-4)
    assert (before == row(seed, n_vocab)).all()


@given(
    response=st.lists(st.sampled_from([" the", " fox", "\n", '"', ":", "s"]), max_size=60),
    multiplier=st.floats(0.1, 5),
    base=st.floats(1, 3),
    allowed=st.integers(1, 4),
)
def test_dry_is_that_of_llama_cpp(
    vocabulary: LlamaVocabulary, response: list[str], multiplier: float, base: float, allowed: int
) -> None:
    tokens = vocabulary.encode("".join(response).encode())
    sampling = Sampling(
        dry_multiplier=multiplier, dry_base=base, dry_allowed_length=allowed, logit_bias={}
    )
    breakers = (ctypes.c_char_p * 4)(b"\n", b":", b'"', b"*")
    sampler = lib.llama_sampler_init_dry(
        vocabulary.handle, multiplier, base, allowed, 4096, breakers, 4
    )
    before = row(0, vocabulary.n_tokens)
    lost = before - by_llama_cpp(sampler, before, tokens)
    adjusted = Adjustment(sampling, vocabulary).apply(before, tokens)
    assert before - adjusted == pytest.approx(np.minimum(lost, 1e4), rel=1e-3, abs=1e-4)


def changed(
    vocabulary: LlamaVocabulary, bias: dict[str, float], response: str
) -> dict[bytes, float]:
    """What is added to the logit of each token, by its text."""
    logits = np.zeros(vocabulary.n_tokens, dtype=np.float32)
    adjustment = Adjustment(Sampling(logit_bias=bias), vocabulary)
    found = adjustment.apply(logits, vocabulary.encode(response.encode()))
    return {vocabulary.piece(int(t)): float(found[t]) for t in np.flatnonzero(found)}


def test_a_bias_is_for_a_text_with_and_without_a_space(vocabulary: LlamaVocabulary) -> None:
    assert [vocabulary.piece(t) for t in vocabulary.encode(b" fox")] == [b" fox"]
    plain = [vocabulary.piece(t) for t in vocabulary.encode(b"fox")]
    assert len(plain) > 1
    assert changed(vocabulary, {"fox": 2.0}, "") == {b" fox": 2.0, plain[0]: 2.0}
    assert changed(vocabulary, {" fox": 2.0}, "") == {b" fox": 2.0}


def test_a_text_is_banned_where_it_would_be_complete(vocabulary: LlamaVocabulary) -> None:
    bias = {" the fox": -100.0}
    assert changed(vocabulary, bias, " is") == {}
    assert changed(vocabulary, bias, " is the") == {b" fox": -100.0}
    assert changed(vocabulary, bias, " the dog") == {}


def test_a_wanted_text_is_begun_and_continued(vocabulary: LlamaVocabulary) -> None:
    bias = {" the fox": 5.0}
    assert changed(vocabulary, bias, " is") == {b" the": 5.0}
    assert changed(vocabulary, bias, " is the") == {b" the": 5.0, b" fox": 5.0}
    assert changed(vocabulary, bias | {" fox": 1.0}, " the")[b" fox"] == 6.0


def test_a_ban_and_a_loop_leave_finite_logits(vocabulary: LlamaVocabulary) -> None:
    sampling = Sampling(dry_multiplier=100, dry_base=100, logit_bias={" fox": -100.0})
    logits = row(0, vocabulary.n_tokens)
    adjusted = Adjustment(sampling, vocabulary).apply(logits, vocabulary.encode(b" fox" * 500))
    assert np.isfinite(adjusted).all()


def test_defaults_leave_rows_as_they_are(vocabulary: LlamaVocabulary) -> None:
    for neutral in (Sampling(), Sampling(0.7, top_k=3, top_p=0.5, dry_base=3, logit_bias={"a": 0})):
        assert Adjustment(neutral, vocabulary).is_neutral
    for other in (
        Sampling(repeat_penalty=1.1),
        Sampling(frequency_penalty=-1),
        Sampling(presence_penalty=1),
        Sampling(dry_multiplier=1),
        Sampling(logit_bias={"a": 1}),
    ):
        assert not Adjustment(other, vocabulary).is_neutral
