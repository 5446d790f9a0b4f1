"""Intervals and tests for shares of right answers. Standard library only.

``wilson``: Wilson (1927), as in Newcombe (1998), method 3. ``mcnemar``: the exact, two-sided
binomial test on the pairs that differ (McNemar 1947). ``bootstrap_mean``: percentiles of resampled
means, for scores between 0 and 1, where Wilson's interval does not apply.
"""

import math
import random
from collections.abc import Sequence
from statistics import NormalDist, fmean, quantiles

_N_DRAWS = 2000


def wilson(n_right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
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
