"""Decides with as few sources as possible: a step, and the choice among whole answers.

A source that is not asked can give a candidate at most all of its weight. Once the best candidate
leads by more than that, the rest need not be asked, and the winner is the one that all would have
chosen (method: "Deciding early").
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np

from cf_local.method.reranker import UNSCORED, Weights, lowest_pooled
from cf_local.method.session import Joins, Others, Session
from cf_local.method.speculation import has_word
from cf_local.types import Candidate, Score, ScoreKind

_ROUNDING = 1e-6  # of a probability: sums in another order differ by less
NOTHING = Candidate(b"", ends=False)
"""The draft of a source whose vocabulary cannot continue the required form of the answer."""


def in_order(sessions: Sequence[Session], weights: Weights) -> list[int]:
    """The indices of sources in the order in which they are asked.

    The one of the largest weight comes first, then those that cost least for their weight. Equal
    ones stay in their order.
    """

    def price(index: int) -> float:
        weight = float(weights[index])
        return sessions[index].source.costs.of(1) / weight if weight > 0 else float("inf")

    first = max(range(len(sessions)), key=lambda i: (weights[i], -sessions[i].source.costs.of(1)))
    return [first, *sorted((i for i in range(len(sessions)) if i != first), key=price)]


class Standing:
    """What is known of the weighted probabilities of a step's candidates so far."""

    def __init__(self, weights: Weights) -> None:
        weight = np.asarray(weights, dtype=np.float64)
        self._weights: list[float] = (weight / weight.sum()).tolist()
        self._known: list[Mapping[Candidate, float]] = [{} for _ in weight]
        self._others: list[Sequence[Others]] = [[Others(b"", 1.0)] for _ in weight]

    def note(
        self, source: int, probabilities: Mapping[Candidate, float], others: Sequence[Others]
    ) -> None:
        """What a source gives to some candidates, and at most to any other.

        What it said before is replaced.
        """
        self._known[source], self._others[source] = dict(probabilities), others

    def open_share(self, source: int) -> float:
        """How much of all probability a source may still give to what it has not scored."""
        return self._weights[source] * max(o.probability for o in self._others[source])

    def winner(
        self, candidates: Sequence[Candidate], openings: Iterable[bytes]
    ) -> Candidate | None:
        """The candidate that wins whatever is still unknown; None if that is not certain.

        ``openings`` are the beginnings of what may still be proposed.
        """
        lower = [self._sum([known.get(c, 0.0) for known in self._known]) for c in candidates]
        best = max(range(len(candidates)), key=lambda index: lower[index])
        upper = [self._most(c) for c in candidates if c != candidates[best]]
        upper += [self._most_after(opening) for opening in openings]
        is_certain = lower[best] > max(upper, default=0.0) + _ROUNDING
        return candidates[best] if is_certain else None

    def _sum(self, probabilities: Iterable[float]) -> float:
        return sum(w * p for w, p in zip(self._weights, probabilities, strict=True))

    def _most(self, candidate: Candidate) -> float:
        """The most that all sources together can give to a candidate."""
        bounds = self._bounds(candidate.text)
        known = (each.get(candidate, b) for each, b in zip(self._known, bounds, strict=True))
        return self._sum(known)

    def _bounds(self, text: bytes) -> list[float]:
        """The most each source gives to another segment that is ``text``, or goes on after it."""
        return [
            max((o.probability for o in others if text.startswith(o.text)), default=0.0)
            for others in self._others
        ]

    def _most_after(self, opening: bytes) -> float:
        """The most that all can give to any segment with this beginning, but the candidates.

        The entries that bound a segment are all beginnings of it; so one is the longest, and all
        others are beginnings of that one.
        """
        longest = {o.text for others in self._others for o in others if o.text.startswith(opening)}
        return max(self._sum(self._bounds(text)) for text in {opening, *longest})


class _Part:
    """What one source has said in a step: its own draft, and scores of candidates."""

    def __init__(self) -> None:
        self.draft: Candidate | None = None
        self.scores: dict[Candidate, Score] = {}
        self.opening = b""  # of its own draft, as far as known

    @property
    def is_asked(self) -> bool:
        """Whether it has proposed or scored anything."""
        return self.draft is not None or bool(self.scores)


class Hearing:
    """Asks the sources of one step: what each proposes, and how it scores the proposals.

    The source of the largest weight speaks first. Then whatever can change most per second comes
    next: another source, the own word of one that would write something else, or scores of what was
    proposed meanwhile. All of this follows from weights, costs and probabilities, so the same text
    leads to the same passes.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        first: int,
        weights: Weights,
        joins: Joins,
        draft: Callable[[Session], Candidate],
        *,
        expected: Sequence[bytes] | None,
        phase: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        """``first`` is the index of the source that speaks first (``in_order``).

        ``draft`` writes the next segment of a session; ``phase`` measures a part of the step.

        ``expected`` are texts that a source reads together with the candidates, as they may follow;
        None if nothing is read ahead.
        """
        self._sessions, self._draft, self._phase = sessions, draft, phase
        self._expected, self._looks_ahead = expected or (), expected is not None
        self._standing = Standing(weights)
        self._joins = joins
        self._parts = [_Part() for _ in sessions]
        self._first = first

    @property
    def asked(self) -> list[int]:
        """The indices of the sources that were asked."""
        return [index for index, part in enumerate(self._parts) if part.is_asked]

    @property
    def drafts(self) -> dict[int, Candidate]:
        """What was proposed, by the index of the source."""
        return {i: part.draft for i, part in enumerate(self._parts) if part.draft is not None}

    def scores(self, candidates: Sequence[Candidate]) -> list[list[Score]]:
        """A row per source and a column per candidate; UNSCORED where it was not needed."""
        return [[part.scores.get(c, UNSCORED) for c in candidates] for part in self._parts]

    def winner(self) -> Candidate | None:
        """Ask until the winner is certain; None if everyone was asked, and all is known."""
        self._propose(self._first)
        while (found := self._certain()) is None:
            ways = [way for index in range(len(self._parts)) for way in self._ways(index)]
            if not ways:
                return None
            _, index, ask = max(ways, key=lambda way: (way[0], -way[1]))
            ask(index)
        return found

    @property
    def _candidates(self) -> list[Candidate]:
        """The distinct proposals so far."""
        return [c for c in dict.fromkeys(self.drafts.values()) if c != NOTHING]

    def _certain(self) -> Candidate | None:
        candidates = self._candidates
        if not candidates:
            return None
        openings = {part.opening for part in self._parts if part.draft is None}
        return self._standing.winner(candidates, openings)

    def _ways(self, index: int) -> Iterator[tuple[float, int, Callable[[int], None]]]:
        """What can be asked of a source, and how much of the decision that settles per second."""
        part, session = self._parts[index], self._sessions[index]
        open_share = self._standing.open_share(index)
        costs = session.source.costs
        if not part.is_asked:
            yield (
                open_share / (costs.of(1) if self._is_ready(session) else costs.of(4)),
                index,
                self._ask,
            )
        elif part.draft is None:
            yield open_share / costs.of(2), index, self._propose
        elif any(candidate not in part.scores for candidate in self._candidates):
            yield open_share / costs.of(2), index, self._score

    def _is_ready(self, session: Session) -> bool:
        """Whether a source knows its own word without a pass."""
        ahead = session.lookahead
        return self._looks_ahead and ahead is not None and has_word(ahead.known(), 0)

    def _ask(self, index: int) -> None:
        """Let a source read the candidates, and propose its own word if that takes no pass."""
        session, texts = self._sessions[index], [candidate.text for candidate in self._candidates]
        ahead = session.lookahead if self._looks_ahead else None
        if ahead is not None and (may_follow := [*self._expected, *texts]):
            with self._phase("draft"):
                ahead.prefetch(may_follow)
                known = ahead.known()
            # Where it would write the text of a candidate in other tokens, its own tokens count.
            is_own = has_word(known, 0) or any(text.startswith(known.text) for text in texts)
            if texts and not is_own:
                self._parts[index].opening = known.text
                self._score(index)
                return
        self._propose(index)

    def _propose(self, index: int) -> None:
        """Let a source write its own word."""
        with self._phase("draft"):
            self._parts[index].draft = self._draft(self._sessions[index])
        self._score(index)

    def _score(self, index: int) -> None:
        """Let a source score all candidates, and bound what it gives to any other."""
        part, session, candidates = self._parts[index], self._sessions[index], self._candidates
        if not candidates:
            return
        with self._phase("score"):
            scores = session.score(candidates, word_ends=True)
            part.scores = dict(zip(candidates, scores, strict=True))
            probabilities = {
                candidate: math.exp(-score.nll_nats - score.word_end_nats)
                for candidate, score in part.scores.items()
            }
            self._standing.note(index, probabilities, session.others(candidates, self._joins))


def score_answers(
    sessions: Sequence[Session],
    candidates: Sequence[Candidate],
    wrote: Sequence[Sequence[int]],
    order: Sequence[Session],
    kind: ScoreKind,
    weights: Weights,
) -> list[list[Score]]:
    """A row per source and a column per candidate; UNSCORED where the score is not needed.

    Scoring a whole answer takes a source as long as reading it, unless it wrote that answer. So the
    most promising answer is scored first, starting with the fastest source, until it cannot be
    beaten. ``wrote`` has the indices of the candidates that each source took part in writing, and
    ``order`` the sessions, the fastest first.
    """
    rows = {session: [UNSCORED] * len(candidates) for session in sessions}
    for session, indices in zip(sessions, wrote, strict=True):
        found = session.score([candidates[index] for index in indices])
        for index, score in zip(indices, found, strict=True):
            rows[session][index] = score
    while True:
        bounds = lowest_pooled(list(rows.values()), candidates, kind, weights)
        index = int(np.argmin(bounds))
        missing = [session for session in order if rows[session][index] is UNSCORED]
        if not missing:
            return list(rows.values())
        (rows[missing[0]][index],) = missing[0].score([candidates[index]])
