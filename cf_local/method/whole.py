"""Whole answers compete: nobody reads what can no longer win.

To score an answer takes a source as long as to read it, unless it has written it. So the most
promising answer is scored first, by the quickest source first, until it cannot be beaten: a
best-first search, which finds the winner that all scores would have found.
"""

from collections.abc import Sequence

import numpy as np

from cf_local.method import reranker as rerank
from cf_local.method.session import Source
from cf_local.types import Candidate, Score, ScoreKind


def scores(
    sources: Sequence[Source],
    candidates: Sequence[Candidate],
    wrote: Sequence[Sequence[int]],
    order: Sequence[Source],
    kind: ScoreKind,
    weights: rerank.Weights,
) -> list[list[Score]]:
    """A row per source and a column per candidate; UNSCORED where it is not needed any more.

    ``wrote`` are the candidates that each source has had a part in, and ``order`` has the
    sources, the quickest first.
    """
    rows = {source: [rerank.UNSCORED] * len(candidates) for source in sources}
    for source, indices in zip(sources, wrote, strict=True):
        found = source.score([candidates[index] for index in indices])
        for index, score in zip(indices, found, strict=True):
            rows[source][index] = score
    while True:
        bounds = rerank.lowest_means(list(rows.values()), candidates, kind, weights)
        index = int(np.argmin(bounds))
        missing = [source for source in order if rows[source][index] is rerank.UNSCORED]
        if not missing:
            return list(rows.values())
        (rows[missing[0]][index],) = missing[0].score([candidates[index]])
