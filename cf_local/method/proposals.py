"""What one step finds: the proposals, and the step as the rest of the program sees it."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from cf_local.method.deciding import NOTHING
from cf_local.method.output import text_of_bytes
from cf_local.method.reranker import Verdict
from cf_local.method.session import Session
from cf_local.types import Candidate, ScoredCandidate, Step


@dataclass(frozen=True, slots=True)
class Proposals:
    """The distinct candidates of one step in the order of the sources, and who proposed each.

    A source that proposes NOTHING abstains, unless all do.
    """

    candidates: tuple[Candidate, ...]
    proposers: tuple[tuple[str, ...], ...]

    @classmethod
    def gather(cls, proposals: Iterable[tuple[str, Candidate]]) -> Self:
        """From the sources' names and what they propose."""
        found: dict[Candidate, tuple[str, ...]] = {}
        for name, candidate in proposals:
            found[candidate] = (*found.get(candidate, ()), name)
        if len(found) > 1:
            found.pop(NOTHING, None)
        return cls(tuple(found), tuple(found.values()))

    def index(self, candidate: Candidate) -> int | None:
        """The index of a candidate; None for one that does not compete."""
        return self.candidates.index(candidate) if candidate in self.candidates else None

    def of(self, *names: str) -> list[int]:
        """Indices of the candidates that any of ``names`` proposed."""
        return [i for i, who in enumerate(self.proposers) if not set(who).isdisjoint(names)]


class StepWatch:
    """Measures the time and passes of one step, and reports the step."""

    def __init__(self, sessions: tuple[Session, ...]) -> None:
        self._sessions = sessions
        self._n_passes = [session.counters.n_passes for session in sessions]
        self._timings_s: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a part of the step under this name."""
        start = time.perf_counter()
        yield
        before_s = self._timings_s.get(name, 0.0)  # a phase may come twice
        self._timings_s[name] = before_s + time.perf_counter() - start

    def report(
        self, text: str, proposals: Proposals, verdict: Verdict, asked: Sequence[int]
    ) -> Step:
        """The step as the rest of the program sees it."""
        names = [session.source.info.name for session in self._sessions]
        passes = [
            session.counters.n_passes - before
            for session, before in zip(self._sessions, self._n_passes, strict=True)
        ]
        return Step(
            text=text,
            ends=proposals.candidates[verdict.winner].ends,
            winner=verdict.winner,
            candidates=tuple(_scored(names, proposals, verdict)),
            passes=dict(zip(names, passes, strict=True)),
            timings_s=self._timings_s,
            asked=tuple(names[index] for index in asked),
        )


def _scored(names: list[str], proposals: Proposals, verdict: Verdict) -> Iterator[ScoredCandidate]:
    for index, (candidate, proposers) in enumerate(
        zip(proposals.candidates, proposals.proposers, strict=True)
    ):
        column = [] if verdict.matrix is None else verdict.matrix[:, index].tolist()
        mean = math.nan if verdict.pooled is None else float(verdict.pooled[index])
        yield ScoredCandidate(
            text=text_of_bytes(candidate.text),
            ends=candidate.ends,
            sources=proposers,
            scores={n: s for n, s in zip(names, column, strict=False) if not math.isnan(s)},
            mean=None if math.isnan(mean) else mean,
        )
