"""The same question leads to the same numbers, whatever was asked before or is asked meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import llama_cpp.llama_cpp as lib
import numpy as np
import pytest

import cf_local
from cf_local.llama.context import Context, TokenRow
from cf_local.llama.model import LlamaModel
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.runtime.fusion import Fusion

from . import models

pytestmark = pytest.mark.real

PIRATE = "You are a pirate, and you answer in one short sentence. " * 12  # more than a block
QUESTIONS = (
    cf_local.chat("My name is Zoe.", system="Answer briefly."),
    cf_local.chat("What is the capital of France?"),
    cf_local.chat("Name a colour.", system="Answer briefly."),
    cf_local.chat("Who are you?", system=PIRATE),
    cf_local.chat("What do you eat?", system=PIRATE),
)
GREEDY = cf_local.Settings(max_tokens=12)
SAMPLED = cf_local.Settings(max_tokens=12, sampling=cf_local.Sampling(temperature=0.8, seed=1))


def numbers(fusion: Fusion, index: int, settings: cf_local.Settings) -> list[object]:
    """All candidates and scores of an answer: more sensitive than its text."""
    return [
        [(c.text, c.ends, dict(c.scores)) for c in event.candidates]
        for event in fusion.stream(QUESTIONS[index], settings)
        if isinstance(event, cf_local.Step)
    ]


@pytest.fixture(scope="module")
def expected(set_a: Fusion) -> dict[cf_local.Settings, list[list[object]]]:
    order = range(len(QUESTIONS))
    return {each: [numbers(set_a, i, each) for i in order] for each in (GREEDY, SAMPLED)}


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_whatever_was_asked_before(
    set_a: Fusion,
    expected: dict[cf_local.Settings, list[list[object]]],
    settings: cf_local.Settings,
) -> None:
    for index in (4, 2, 2, 0, 3, 1):
        assert numbers(set_a, index, settings) == expected[settings][index]


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_whatever_is_asked_meanwhile(
    set_a: Fusion,
    expected: dict[cf_local.Settings, list[list[object]]],
    settings: cf_local.Settings,
) -> None:
    for order in ((0, 1, 2, 3, 4), (3, 4, 0, 2, 1)):
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda i: numbers(set_a, i, settings), order))
        assert found == [expected[settings][index] for index in order]


@pytest.fixture(scope="module", params=models.SET_A)
def model(request: pytest.FixtureRequest, _need_models: None) -> Iterator[LlamaModel]:
    opened = LlamaModel(models.path_of(request.param))
    yield opened
    opened.close()


def logits(model: LlamaModel, n_threads: int, size: int) -> np.ndarray:
    """Behind each of 24 tokens that are read ``size`` at a time, shape (24, n_vocab)."""
    text = b"Once upon a time, in a small village by the sea, there lived an old fisherman. " * 2
    tokens = LlamaVocabulary(model).encode(text)[:24]
    context = Context(model, n_cells=256, n_sequences=2, n_threads=n_threads)
    found = []
    try:
        for start in range(0, len(tokens), size):
            chunk = list(enumerate(tokens))[start : start + size]
            context.evaluate([TokenRow(token, position, (0,), True) for position, token in chunk])
            for index in range(len(chunk)):
                row = lib.llama_get_logits_ith(context._handle, index)
                found.append(np.ctypeslib.as_array(row, shape=(context.n_vocab,)).copy())
    finally:
        context.close()
    return np.array(found)


@pytest.mark.parametrize("size", [1, 8])
def test_the_number_of_threads_changes_no_bit(model: LlamaModel, size: int) -> None:
    """So it may follow the load of the machine."""
    assert np.array_equal(logits(model, 1, size), logits(model, 2, size))
