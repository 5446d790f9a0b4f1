"""Calibration on reference texts: scores, weights and sets of sources, from one walk.

As for questions (``calibration``), one half of the texts decides and the other one confirms; but
all is known from one walk, so everything is tried, and the words of the texts are counted.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cf_local.evaluation.calibration import (
    Outcome,
    Tried,
    check_enough,
    confirm,
    favourite,
    halves,
)
from cf_local.evaluation.search_space import SearchSpace
from cf_local.evaluation.tasks.task import Item
from cf_local.evaluation.word_marks import WordMarks
from cf_local.method.reranker import Matrix

MIN_TEXTS = 20
MIN_GROUP = 10
"""Texts of a group in the confirm half: with fewer, no loss is beyond chance."""
_N_ROUNDS = 1000
_CONVERGED = 1e-5


def calibrate_words(
    space: SearchSpace, items: Sequence[Item], marks: WordMarks, *, seed: int = 0
) -> Outcome:
    """The outcome on texts that were walked along with all sources; ``seed`` draws the halves.

    Raises InputError for fewer than two sources or too few texts.
    """
    check_texts(space, items)
    search, held_out = halves(items, seed)
    nats = marks.next_nats(search)

    def learn(names: Sequence[str]) -> dict[str, float]:
        weights = learnt_weights(nats[[space.names.index(name) for name in names]])
        return {
            name: round(weight / max(weights), 3)
            for name, weight in zip(names, weights, strict=True)
        }

    alone, fused = space.alone(), space.walked(learn)
    best = marks.best(alone, search)
    chosen = favourite(marks, space, best, fused, search, n_tried=len(fused))
    outcome = confirm(marks, alone, chosen, search, held_out, min_group=MIN_GROUP, unit="words")
    tried = [Tried(v, marks.share(v, search), v in alone, False) for v in (*alone, *fused)]
    return replace(outcome, tried=tuple(tried))


def check_texts(space: SearchSpace, items: Sequence[Item]) -> None:
    """Raise InputError for fewer than two sources or too few texts."""
    check_enough(space, items, MIN_TEXTS, "texts", "a hundred")


def learnt_weights(nats: Matrix) -> list[float]:
    """Weights of the linear pool under which some words are most likely, found by EM; sum 1.

    ``nats`` are minus the logs of the words' probabilities, shape (n_sources, n_words). Each round,
    the weight of a source becomes the mean of its shares in the words' probabilities (Jelinek and
    Mercer 1980: interpolation of language models).
    """
    nats = nats[:, np.isfinite(nats).any(axis=0)]
    weights = np.full(len(nats), 1 / len(nats))
    if not nats.size:
        return weights.tolist()
    likelihood = np.exp(nats.min(axis=0) - nats)
    for _ in range(_N_ROUNDS):
        shares = weights[:, None] * likelihood
        former, weights = weights, (shares / shares.sum(axis=0)).mean(axis=1)
        if np.abs(weights - former).max() < _CONVERGED:
            break
    found: list[float] = weights.tolist()
    return found
