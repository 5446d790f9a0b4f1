"""From the scores of the candidates to one winner. Pure numpy.

Method: "Score", "Rerank" and "Scoring choices"; paper section 3.3. The matrix is
(n_sources, n_candidates) throughout, lower is better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cf_local.types import Candidate, Score, ScoreKind

Matrix = npt.NDArray[np.float64]
Weights = Sequence[float] | npt.NDArray[np.float64]
"""How much each source counts, shape (n_sources,); only their ratios matter."""
UNSCORED = Score(math.nan, 1)
"""The entry of a table where a source has not scored a candidate."""
_ROUNDING = 1e-6
_IMPOSSIBLE = 1e9  # nats


@dataclass(frozen=True, slots=True)
class Verdict:
    """The winner of a step.

    ``matrix`` (n_sources, n_candidates) and ``pooled`` (n_candidates,) are None if no source
    scored; a score that was left out is NaN.
    """

    winner: int
    matrix: Matrix | None = None
    pooled: Matrix | None = None


def decide(
    scores: Sequence[Sequence[Score]],
    candidates: Sequence[Candidate],
    kind: ScoreKind,
    weights: Weights,
    *,
    whole: bool = False,
) -> Verdict:
    """The candidate with the lowest pooled score; a tie goes to the one listed first.

    ``scores`` has a row per source and a column per candidate. A candidate that any source left
    UNSCORED cannot win. ``whole``: the candidates are whole answers.
    """
    matrix = score_matrix(scores, candidates, kind, whole=whole)
    pooled = pool(matrix, kind, weights)
    return Verdict(int(np.argmin(np.where(np.isnan(pooled), np.inf, pooled))), matrix, pooled)


def lowest_pooled(
    scores: Sequence[Sequence[Score]],
    candidates: Sequence[Candidate],
    kind: ScoreKind,
    weights: Weights,
) -> Matrix:
    """Lower bounds of whole answers' scores, shape (n_candidates,), while some are UNSCORED.

    Missing scores count as the best possible: a perplexity of 1, 0 nats or bits (slightly less, as
    logits are rounded).
    """
    best = (1.0 if kind == "perplexity" else 0.0) - _ROUNDING
    matrix = score_matrix(scores, candidates, kind, whole=True)
    return pool(np.where(np.isnan(matrix), best, matrix), kind, weights)


def score_matrix(
    scores: Sequence[Sequence[Score]],
    candidates: Sequence[Candidate],
    kind: ScoreKind,
    *,
    whole: bool = False,
) -> Matrix:
    """Scores per source and candidate as a (n_sources, n_candidates) float64 matrix.

    "mixture" is the NLL in nats of the segment and of the end of its last word; "perplexity" is exp
    of the mean NLL per term, "nll" that mean in nats, "bits_per_byte" the NLL in bits per byte of
    the segment (an empty segment counts as one byte). "mixture" of ``whole`` answers is the mean
    NLL too. UNSCORED gives NaN.
    """
    nll_nats = np.array([[s.nll_nats for s in row] for row in scores], dtype=np.float64)
    n_terms = np.array([[s.n_terms for s in row] for row in scores], dtype=np.float64)
    if kind == "bits_per_byte":
        n_bytes = np.array([max(1, len(c.text)) for c in candidates], dtype=np.float64)
        bits_per_byte: Matrix = nll_nats / np.log(2) / n_bytes
        return bits_per_byte
    if kind == "mixture" and not whole:
        ends = np.array([[s.word_end_nats for s in row] for row in scores], dtype=np.float64)
        event: Matrix = nll_nats + ends
        return event
    mean: Matrix = nll_nats / n_terms
    with np.errstate(over="ignore"):  # an impossible candidate has infinite perplexity, which loses
        perplexity: Matrix = np.exp(mean)
    return perplexity if kind == "perplexity" else mean


def pool(matrix: Matrix, kind: ScoreKind, weights: Weights) -> Matrix:
    """One score for each candidate from those of all sources, shape (n_candidates,).

    "mixture" is minus the log of the weighted mean of probabilities (the linear opinion pool),
    every other kind the weighted mean. A source of weight 0 does not count, even where its score is
    infinite.
    """
    weight = np.asarray(weights, dtype=np.float64)
    counted = weight > 0
    matrix, weight = matrix[counted], weight[counted] / weight.sum()
    if kind != "mixture":
        return np.asarray(np.average(matrix, axis=0, weights=weight))
    lowest = np.minimum(matrix.min(axis=0), _IMPOSSIBLE)  # so that the exponentials stay above 0
    shares = weight @ np.exp(lowest - matrix)
    with np.errstate(divide="ignore"):
        return np.asarray(lowest - np.log(shares))
