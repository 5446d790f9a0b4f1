"""The choice among whole answers: no source reads an answer that can no longer win.

Scoring an answer takes a source as long as reading it, unless it wrote that answer. So the most
promising answer is scored first, starting with the fastest source, until it cannot be beaten. This
best-first search finds the same winner as all scores would.
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
    """A row per source and a column per candidate; UNSCORED where the score is not needed.

    ``wrote`` has the indices of the candidates that each source took part in writing, and ``order``
    the sessions, the fastest first.
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
