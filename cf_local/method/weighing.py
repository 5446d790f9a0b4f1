"""How far each source is heard: the ways to weigh that ``Settings.weighing`` chooses from.

A ``Weighing`` lives as long as one answer. It turns a score matrix (n_sources, n_candidates), lower
is better, into the means that ``rerank.decide`` compares, and may learn from prompt and steps.
``docs/method.md`` ("Ways to weigh and to gate") has the formulae; none of them was measured to
be better than equal weights in general. Left out: gates on the length of a segment.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cf_local.method.reranker import Matrix, weighted_mean
from cf_local.types import Score, Settings, WeighingKind

HEDGE_RATE = 0.5
"""What the first scored step may add to the log of a weight."""
TRIM_FACTOR = 10.0
"""A score that many times the smallest one of its candidate is left out."""
DOUBT_DECAY = 0.05
"""Weight of the last segment in the running mean of a primary source's uncertainty."""
DOUBT_MARGIN = 1.0
"""Standard deviations above that mean at which the other sources are asked."""


class Weighing:
    """Weights as given, the same for every step ("static"); what the other ways build on."""

    hears_prompt = False
    """Whether ``begin`` needs the scores of the prompt."""
    has_primary = False
    """Whether the first source writes alone unless ``asks`` says otherwise."""
    is_monotonic = True
    """Whether a mean never falls when a score rises."""

    def __init__(self, weights: Sequence[float] | None, n_sources: int) -> None:
        """``weights`` in the order of the sources, None for equal ones."""
        self._static = np.array(weights or [1.0] * n_sources, dtype=np.float64)

    def begin(self, prompt_scores: Sequence[Score]) -> None:
        """An answer begins; ``prompt_scores`` are empty unless they are heard."""

    def means(self, matrix: Matrix) -> Matrix:
        """Mean scores, shape (n_candidates,)."""
        return weighted_mean(matrix, self._static)

    def observe(self, matrix: Matrix, own: Sequence[int | None]) -> None:
        """A segment was scored; ``own`` has the column that each source proposed."""

    def asks(self, uncertainty: float) -> bool:
        """Whether all are asked, given the primary source's uncertainty of its draft in nats."""
        return True


class Prior(Weighing):
    """Weights by how well each source reads the prompt (PackLLM, arXiv 2404.11531).

    ``weight_k = static_k * softmax_k(-mean NLL of the prompt's tokens)``. The mean is per token of
    the source's own rendering, as PackLLM's perplexity is. Per byte of the user's text it
    would blame a source for the length of its chat template, whose words no other source reads.
    The price: a vocabulary that cuts text into fewer, longer tokens looks a little worse.
    """

    hears_prompt = True

    def begin(self, prompt_scores: Sequence[Score]) -> None:
        """Weigh by the scores; where a prompt has a single token, nobody can be compared."""
        if all(score.n_terms for score in prompt_scores):
            mean = np.array([score.nll_nats / score.n_terms for score in prompt_scores])
            heard = self._static > 0
            self._static[heard] *= np.exp(mean[heard].min() - mean[heard])


class Hedge(Weighing):
    """Weights that grow with what the other sources think of one's drafts (arXiv 2412.07380).

    After the t-th scored segment ``weight_k *= exp(HEDGE_RATE / sqrt(t) * reward_k)``.
    """

    def __init__(self, weights: Sequence[float] | None, n_sources: int) -> None:
        super().__init__(weights, n_sources)
        self._log_weights = np.zeros(n_sources)
        self._n_scored = 0

    def means(self, matrix: Matrix) -> Matrix:
        """Means by the weights learnt so far."""
        learnt = np.exp(self._log_weights - self._log_weights.max())
        return weighted_mean(matrix, self._static * learnt)

    def observe(self, matrix: Matrix, own: Sequence[int | None]) -> None:
        """Reward every source."""
        self._n_scored += 1
        judges = [k for k, weight in enumerate(self._static) if weight > 0]
        rewards = [reward(matrix, own[k], [j for j in judges if j != k]) for k in range(len(own))]
        self._log_weights += HEDGE_RATE / math.sqrt(self._n_scored) * np.array(rewards)


class Trim(Weighing):
    """Leaves out scores far above the others of the same candidate (SweetSpan, arXiv 2409.18583).

    An infinite score is kept: the candidate does not fit a source's context and must not win.
    """

    is_monotonic = False

    def means(self, matrix: Matrix) -> Matrix:
        """Means over the sources whose score is not above TRIM_FACTOR times the smallest."""
        heard = self._static > 0
        scores, weight = matrix[heard], self._static[heard, np.newaxis]
        is_kept = (scores <= TRIM_FACTOR * scores.min(axis=0)) | np.isinf(scores)
        weights = np.where(is_kept, weight, 0.0)
        total: npt.NDArray[np.float64] = np.where(is_kept, scores * weight, 0.0).sum(axis=0)
        return np.asarray(total / weights.sum(axis=0))


class Primary(Weighing):
    """The first source writes alone, and asks the others where it is unsure (ThinkFuse).

    Unsure: the uncertainty of a segment is above its running mean by DOUBT_MARGIN times its running
    deviation. The first segment only sets the mean, with a deviation of 0, and asks nobody;
    from the second on the rule holds, so it asks easily while the deviation is small.
    """

    has_primary = True

    def __init__(self, weights: Sequence[float] | None, n_sources: int) -> None:
        super().__init__(weights, n_sources)
        self._mean: float | None = None
        self._variance = 0.0

    def asks(self, uncertainty: float) -> bool:
        """Compare with the segments before this one, then learn from it, whoever is asked."""
        if self._mean is None:
            self._mean = uncertainty
            return False
        excess = uncertainty - self._mean
        is_unsure = excess > DOUBT_MARGIN * math.sqrt(self._variance)
        self._mean += DOUBT_DECAY * excess
        self._variance += DOUBT_DECAY * (excess**2 - self._variance)
        return is_unsure


def reward(matrix: Matrix, own: int | None, judges: Sequence[int]) -> float:
    """How often column ``own`` beats the others in the rows of ``judges``: a share of [0, 1].

    A tie is half a win; without judges nothing is won, nor without a candidate.
    """
    if own is None or not judges:
        return 0.0
    scores = matrix[list(judges)]
    others = np.delete(scores, own, axis=1)
    mine = scores[:, own : own + 1]
    return float(np.mean((mine < others) + 0.5 * (mine == others)))


_KINDS: dict[WeighingKind, Callable[[Sequence[float] | None, int], Weighing]] = {
    "static": Weighing,
    "prior": Prior,
    "hedge": Hedge,
    "trim": Trim,
    "primary": Primary,
}


def weighing_of(settings: Settings, n_sources: int) -> Weighing:
    """The way to weigh that the settings ask for; one source alone has nothing to weigh."""
    if n_sources == 1:
        return Weighing(None, 1)
    return _KINDS[settings.weighing](settings.weights, n_sources)
