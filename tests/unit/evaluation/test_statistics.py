"""Intervals and tests against values from the literature."""

from __future__ import annotations

import math
import random
from itertools import product
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.evaluation.statistics import (
    bootstrap_mean,
    clustered,
    interval,
    mcnemar,
    sign_flip,
    wilson,
)


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


# ---- Words of texts ------------------------------------------------------------------------------


def test_each_text_its_own_word_is_nearly_wilson() -> None:
    n_right = [1] * 81 + [0] * 182
    low, high = clustered(n_right, [1] * 263)
    assert (low, high) == pytest.approx(wilson(81, 263), abs=0.002)


def test_words_that_go_together_count_once() -> None:
    rng = random.Random(3)
    verdicts = [rng.random() < 0.4 for _ in range(60)]
    low, high = clustered([20 * right for right in verdicts], [20] * 60)
    assert (low, high) == pytest.approx(clustered([int(v) for v in verdicts], [1] * 60), abs=1e-9)


def test_the_interval_is_near_that_of_resampled_texts() -> None:
    rng = random.Random(7)
    n = [rng.randint(5, 60) for _ in range(80)]
    n_right = [sum(rng.random() < share for _ in range(size)) for size, share in
               zip(n, (rng.betavariate(4, 5) for _ in n), strict=True)]  # fmt: skip
    draws = []
    for _ in range(2000):
        texts = rng.choices(range(80), k=80)
        draws.append(sum(n_right[t] for t in texts) / sum(n[t] for t in texts))
    cuts = quantiles(draws, n=40)
    assert clustered(n_right, n) == pytest.approx((cuts[0], cuts[-1]), abs=0.008)


def test_the_interval_holds_the_true_share_as_often_as_it_says() -> None:
    rng, n_held = random.Random(1), 0
    for _ in range(400):
        n = [rng.randint(5, 40) for _ in range(12)]
        shares = [rng.betavariate(3, 2) for _ in n]
        pairs = zip(n, shares, strict=True)
        n_right = [sum(rng.random() < share for _ in range(size)) for size, share in pairs]
        low, high = clustered(n_right, n)
        n_held += low <= 0.6 <= high
    assert 0.92 <= n_held / 400 <= 0.99


def test_extreme_and_too_few_texts() -> None:
    assert clustered([3], [5]) == clustered([], []) == (0, 1)
    low, high = clustered([5] * 10, [5] * 10)
    assert (0.6 < low < 0.75, high) == (True, 1)
    low, high = clustered([0] * 10, [5] * 10)
    assert (low, 0.25 < high < 0.4) == (0, True)


@given(st.lists(st.integers(-9, 9), max_size=9))
def test_few_texts_are_flipped_in_all_ways(differences: list[int]) -> None:
    total = abs(sum(differences))
    flipped = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    expected = sum(each >= total for each in flipped) / len(flipped)
    assert sign_flip(differences) == pytest.approx(expected)


def test_many_texts_are_flipped_at_random_and_always_alike() -> None:
    differences = [3, 1, 2, -1] * 10
    z = sum(differences) / math.sqrt(sum(each * each for each in differences))
    assert sign_flip(differences) == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.005)
    assert sign_flip(differences) == sign_flip(differences)
    assert sign_flip([1, -1] * 20) == 1
    assert sign_flip([5] * 40) == pytest.approx(1 / 10_001)


def test_texts_of_few_heavy_words_weigh_more_than_their_number() -> None:
    # 30 words won and 6 lost: beyond chance if all were independent, not if one text won them.
    assert mcnemar(30, 6) < 0.001
    assert sign_flip([30, -1, -1, -1, -1, -1, -1]) > 0.9
