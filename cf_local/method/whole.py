"""Whole answers compete: nobody reads what can no longer win.

To score an answer takes a source as long as to read it, unless it has written it. So the most
promising answer is scored first, by the quickest source first, until it cannot be beaten: a
best-first search, which finds the winner that all scores would have found.
"""

from collections.abc import Sequence

import numpy as np

from cf_local.method.reranker import UNSCORED, Weights, lowest_means
from cf_local.method.session import Session
from cf_local.types import Candidate, Score, ScoreKind


def score_answers(
    sessions: Sequence[Session],
    candidates: Sequence[Candidate],
    wrote: Sequence[Sequence[int]],
    order: Sequence[Session],
    kind: ScoreKind,
    weights: Weights,
) -> list[list[Score]]:
    """A row per source and a column per candidate; UNSCORED where it is not needed any more.

    ``wrote`` are the candidates that each source has had a part in, and ``order`` has the
    sources, the quickest first.
    """
    rows = {session: [UNSCORED] * len(candidates) for session in sessions}
    for session, indices in zip(sessions, wrote, strict=True):
        found = session.score([candidates[index] for index in indices])
        for index, score in zip(indices, found, strict=True):
            rows[session][index] = score
    while True:
        bounds = lowest_means(list(rows.values()), candidates, kind, weights)
        index = int(np.argmin(bounds))
        missing = [session for session in order if rows[session][index] is UNSCORED]
        if not missing:
            return list(rows.values())
        (rows[missing[0]][index],) = missing[0].score([candidates[index]])
