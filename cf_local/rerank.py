"""From what the sources think of the candidates to one winner. Pure numpy.

Method: "Score", "Rerank" and "Scoring choices"; paper section 3.3. The matrix is
(n_sources, n_candidates) throughout, lower is better.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cf_local.types import Candidate, Score, ScoreKind

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Winner of a step.

    ``matrix`` (n_sources, n_candidates) and ``means`` (n_candidates,) are None if nobody scored.
    """

    winner: int
    matrix: Matrix | None = None
    means: Matrix | None = None


def decide(
    scores: Sequence[Sequence[Score]],
    candidates: Sequence[Candidate],
    kind: ScoreKind,
    means_of: Callable[[Matrix], Matrix],
) -> Verdict:
    """The candidate with the lowest mean score; a tie goes to the one listed first.

    ``scores`` has a row per source and a column per candidate; ``means_of`` says how far each
    source is heard: it takes the matrix to the means, shape (n_candidates,).
    """
    matrix = score_matrix(scores, candidates, kind)
    means = means_of(matrix)
    return Verdict(int(np.argmin(means)), matrix, means)


def score_matrix(
    scores: Sequence[Sequence[Score]], candidates: Sequence[Candidate], kind: ScoreKind
) -> Matrix:
    """Scores per source and candidate as a (n_sources, n_candidates) float64 matrix.

    "perplexity" is exp of the mean NLL per term, "nll" that mean in nats, "bits_per_byte" the NLL
    in bits per byte of the segment (an empty segment counts as one byte).
    """
    nll_nats = np.array([[s.nll_nats for s in row] for row in scores], dtype=np.float64)
    n_terms = np.array([[s.n_terms for s in row] for row in scores], dtype=np.float64)
    if kind == "bits_per_byte":
        n_bytes = np.array([max(1, len(c.text)) for c in candidates], dtype=np.float64)
        bits_per_byte: Matrix = nll_nats / np.log(2) / n_bytes
        return bits_per_byte
    mean: Matrix = nll_nats / n_terms
    with np.errstate(over="ignore"):  # an impossible candidate has infinite perplexity, which loses
        perplexity: Matrix = np.exp(mean)
    return perplexity if kind == "perplexity" else mean


def weighted_mean(matrix: Matrix, weights: Sequence[float] | Matrix) -> Matrix:
    """Arithmetic mean over the sources, shape (n_candidates,)."""
    weight = np.asarray(weights, dtype=np.float64)
    heard = weight > 0  # a source of weight 0 is not heard, even where its score is infinite
    return np.asarray(np.average(matrix[heard], axis=0, weights=weight[heard]))
