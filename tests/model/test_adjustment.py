"""Penalties are those of llama.cpp, and depend on the tokens of the response alone."""

import ctypes
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.llama.adjustment import PENALTY_WINDOW, Adjustment
from cf_local.llama.distribution import Logits
from cf_local.llama.library import lib
from cf_local.settings import Sampling

N_VOCAB = 20
tokens = st.lists(st.integers(0, N_VOCAB - 1), max_size=2 * PENALTY_WINDOW)


def row(seed: int) -> Logits:
    return np.random.default_rng(seed).normal(0, 3, N_VOCAB).astype(np.float32)


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
    response: list[int], repeat: float, frequency: float, presence: float, seed: int
) -> None:
    sampling = Sampling(
        repeat_penalty=repeat, frequency_penalty=frequency, presence_penalty=presence
    )
    sampler = lib.llama_sampler_init_penalties(N_VOCAB, PENALTY_WINDOW, repeat, frequency, presence)
    expected = by_llama_cpp(sampler, row(seed), response)
    before = row(seed)
    assert Adjustment(sampling).apply(before, response) == pytest.approx(expected, abs=1e-4)
    assert (before == row(seed)).all()


def test_defaults_leave_rows_as_they_are() -> None:
    assert Adjustment(Sampling()).is_neutral
    assert Adjustment(Sampling(0.7, top_k=3, top_p=0.5)).is_neutral
    assert not Adjustment(Sampling(repeat_penalty=1.1)).is_neutral
