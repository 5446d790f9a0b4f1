"""What a row of logits says of its likeliest tokens, against plain softmax."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from cf_local.llama.distribution import Distribution, Rows

N_VOCAB = 200


def expected(logits: npt.NDArray[np.float32]) -> Distribution:
    return Distribution(logits, "m", Rows(len(logits)))


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(shares / shares.sum())


@pytest.mark.parametrize("width", [0.0, 0.01, 1.0, 4.0, 30.0])  # from flat to one that is certain
@pytest.mark.parametrize("n_left_out", [0, 1, 3, 40])
def test_no_other_token_has_more_than_the_likeliest_say(width: float, n_left_out: int) -> None:
    draw = np.random.default_rng(3)
    for _ in range(20):
        logits = (width * draw.standard_normal(N_VOCAB)).astype(np.float32)
        shares = softmax(logits)
        likely_first = np.argsort(-logits)
        left_out = set(draw.choice(likely_first[: 2 * n_left_out + 1], n_left_out, replace=False))
        likely, rest = expected(logits).likely_but({int(token) for token in left_out})
        tokens = [token for token, _ in likely]
        assert left_out.isdisjoint(tokens)
        assert [share for _, share in likely] == pytest.approx(shares[tokens].tolist())
        assert (np.diff(logits[tokens]) <= 0).all()
        others = np.delete(shares, [*tokens, *left_out])
        assert others.max() <= rest * (1 + 1e-5)


def test_the_rest_of_a_certain_row_is_next_to_nothing() -> None:
    logits = np.zeros(N_VOCAB, dtype=np.float32)
    logits[7], logits[9] = 30.0, 29.0
    likely, rest = expected(logits).likely_but({9})
    ((token, share),) = likely
    assert token == 7
    assert share == pytest.approx(1 / (1 + math.exp(-1)))
    assert rest < 0.02


def test_a_flat_row_lists_a_few_and_bounds_the_rest_by_the_last_of_them() -> None:
    logits = np.linspace(1.0, 0.0, N_VOCAB, dtype=np.float32)
    likely, rest = expected(logits).likely_but({0, 5})
    assert {token for token, _ in likely}.isdisjoint({0, 5})
    assert len(likely) < 30
    assert rest == pytest.approx(likely[-1][1])


def test_tokens_that_are_left_out_still_count_in_the_sum() -> None:
    logits = np.array([3.0, 1.0, 0.0], dtype=np.float32)
    likely, _ = expected(logits).likely_but({0})
    assert dict(likely) == pytest.approx({1: softmax(logits)[1], 2: softmax(logits)[2]})


def test_any_of_several_tokens() -> None:
    logits = np.random.default_rng(1).standard_normal(N_VOCAB).astype(np.float32)
    tokens = np.array([3, 50, 120])
    summed = float(softmax(logits)[tokens].sum())
    assert expected(logits).nll_of_any(tokens) == pytest.approx(-math.log(summed), abs=1e-5)
    assert expected(logits).nll_of_any(np.array([], dtype=np.intp)) == math.inf
