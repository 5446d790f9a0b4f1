"""Intervals and tests for shares of right answers.

``wilson``: Wilson (1927), as in Newcombe (1998), method 3. ``mcnemar``: the exact, two-sided
binomial test on the pairs that differ (McNemar 1947). ``bootstrap_mean``: percentiles of resampled
means, for scores between 0 and 1, where Wilson's interval does not apply.

Words of one text are not independent, so texts are the unit for shares of words. ``clustered``:
Wilson's interval on the effective number of words (Kish 1965; Korn and Graubard 1998), from the
linearized variance of a ratio. ``sign_flip``: Fisher's randomization test on the texts.
"""

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist, fmean, quantiles

import numpy as np
import numpy.typing as npt

_N_DRAWS = 2000
_N_FLIPS = 10_000
_MOST_EXACT = 13  # texts: 2**13 is the last power of two below _N_FLIPS


def wilson(n_right: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the share ``n_right / n``; (0, 1) when nothing was asked."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = n_right + z * z / 2
    spread = z * math.sqrt(n_right * (n - n_right) / n + z * z / 4)
    return max(0.0, (middle - spread) / (n + z * z)), min(1.0, (middle + spread) / (n + z * z))


def mcnemar(n_won: int, n_lost: int) -> float:
    """Probability of a split at least this uneven if winning and losing are equally likely."""
    n = n_won + n_lost
    # In whole numbers: the powers of two overflow floats from 1024 pairs on.
    n_rarer = sum(math.comb(n, k) for k in range(min(n_won, n_lost) + 1))
    return min(1.0, n_rarer / (1 << n) * 2)


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean of ``values``; (0, 1) for fewer than two."""
    if len(values) < 2:
        return 0.0, 1.0
    rng = random.Random(seed)
    cuts = quantiles((fmean(rng.choices(values, k=len(values))) for _ in range(_N_DRAWS)), n=40)
    return cuts[0], cuts[-1]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean: Wilson's where all values are 0 or 1, else the bootstrap's."""
    if all(value in (0, 1) for value in values):
        return wilson(int(sum(values)), len(values))
    return bootstrap_mean(values)


def clustered(n_right: Sequence[int], n: Sequence[int]) -> tuple[float, float]:
    """95% interval of a share of words: an entry per text of its right words and of all its words.

    (0, 1) for fewer than two texts.
    """
    if len(n) < 2 or not sum(n):
        return 0.0, 1.0
    n_texts, n_words = len(n), sum(n)
    share = sum(n_right) / n_words
    squares = sum((right - share * each) ** 2 for right, each in zip(n_right, n, strict=True))
    variance = n_texts / (n_texts - 1) * squares / n_words**2
    # All right or all wrong: nothing is known of the variance, so each text counts as one word.
    n_effective = share * (1 - share) / variance if variance else float(n_texts)
    normal = NormalDist().inv_cdf(0.975)
    n_effective = min(n_effective, n_words) * (normal / _student_t(normal, n_texts - 1)) ** 2
    return wilson(share * n_effective, n_effective)


def sign_flip(differences: Sequence[int]) -> float:
    """Two-sided p of a sum over texts: how often random signs make one at least this large.

    Exact for few texts, else from 10,000 draws that are the same each time.
    """
    moved = np.array([each for each in differences if each], dtype=np.float64)
    if not moved.size:
        return 1.0
    signs = _signs(moved.size)
    n_as_far = np.count_nonzero(np.abs(signs @ moved) >= abs(moved.sum()))
    if moved.size <= _MOST_EXACT:
        return float(n_as_far / len(signs))
    return float((n_as_far + 1) / (len(signs) + 1))


@lru_cache(maxsize=8)
def _signs(n: int) -> npt.NDArray[np.float64]:
    """Signs of ``n`` texts: all combinations of them if there are few, else random ones."""
    if n <= _MOST_EXACT:
        bits = np.arange(1 << n)[:, None] >> np.arange(n) & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (_N_FLIPS, n))
    return bits.astype(np.float64) * 2 - 1


def _student_t(normal: float, freedom: int) -> float:
    """The quantile of Student's t from that of the normal (Abramowitz and Stegun 26.7.5)."""
    return (
        normal
        + (normal**3 + normal) / (4 * freedom)
        + (5 * normal**5 + 16 * normal**3 + 3 * normal) / (96 * freedom**2)
    )
