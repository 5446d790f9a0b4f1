"""Intervals and tests against values from the literature."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.evaluation.statistics import bootstrap_mean, interval, mcnemar, wilson


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_as_published(n_right: int, n: int, low: float, high: float) -> None:
    assert wilson(n_right, n) == pytest.approx((low, high), abs=0.00005)


@pytest.mark.parametrize(
    ("n_won", "n_lost", "p_value"),
    [  # exact conditional tests in Fagerland, Lydersen & Laake (2013), BMC Med Res Methodol 13:91
        (1, 7, 0.0703),
        (6, 16, 0.0525),
    ],
)
def test_mcnemar_as_published(n_won: int, n_lost: int, p_value: float) -> None:
    assert mcnemar(n_won, n_lost) == pytest.approx(p_value, abs=0.00005)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_a_symmetric_probability(n_won: int, n_lost: int) -> None:
    p_value = mcnemar(n_won, n_lost)
    assert 0 < p_value <= 1
    assert p_value == mcnemar(n_lost, n_won)
    assert (p_value == 1) == (abs(n_won - n_lost) <= 1)


def test_mcnemar_of_many_pairs() -> None:
    assert mcnemar(0, 1200) == 0  # below the smallest float, not an overflow
    assert mcnemar(600, 600) == 1
    # Normal approximation with continuity correction
    z = (abs(640 - 560) - 1) / math.sqrt(1200)
    assert mcnemar(640, 560) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilson_holds_the_share(n_right: int, n: int) -> None:
    n_right = min(n_right, n)
    low, high = wilson(n_right, n)
    assert 0 <= low <= n_right / n + 1e-12
    assert n_right / n - 1e-12 <= high <= 1


def test_nothing_asked_says_nothing() -> None:
    assert wilson(0, 0) == (0, 1)
    assert bootstrap_mean([0.5]) == (0, 1)


def test_the_bootstrap_is_near_the_normal_interval() -> None:
    values = [i / 199 for i in range(200)]
    low, high = bootstrap_mean(values)
    half = 1.96 * math.sqrt(sum((v - 0.5) ** 2 for v in values) / 200) / math.sqrt(200)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.005)


def test_the_interval_suits_the_values() -> None:
    assert interval([1.0] * 81 + [0.0] * 182) == wilson(81, 263)
    assert interval([1, 0.5, 0, 0.5]) == bootstrap_mean([1, 0.5, 0, 0.5])
