"""One answer being written: draft, score, rerank, commit, until it ends.

``Writer.step`` is one round of the paper's algorithm (Cool-Fusion, arXiv 2407.19807, section 3),
as ``docs/method.md`` fixes it. What it leaves out: how a source decodes (``llama``), where a
segment may be cut (``synchronizer``), how scores become a winner (``rerank``).
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

from cf_local import contest, rerank
from cf_local.crew import Crew
from cf_local.decoding import TextStream
from cf_local.errors import ContextError
from cf_local.repetition import is_looping
from cf_local.source import IsCancelled, Progress, Source, share_of
from cf_local.speculation import Speculator
from cf_local.synchronizer import draft_segment
from cf_local.types import (
    Answer,
    Candidate,
    FinishReason,
    Prompt,
    ScoredCandidate,
    Settings,
    Step,
    text_of,
)
from cf_local.weighing import weighing_of

FUSED = "cool"
"""Who is named as the proposer of the fused answer in mode "cool+r"."""


class Writer:
    """Writes one answer with ``sources``: ``begin``, then ``write`` to the end, then ``answer``."""

    def __init__(
        self,
        sources: tuple[Source, ...],
        settings: Settings,
        is_cancelled: IsCancelled,
        speculator: Speculator | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.finish_reason: FinishReason | None = None
        self._sources = sources
        self._settings = settings
        self._weighing = weighing_of(settings, len(sources))
        self._is_cancelled = is_cancelled
        self._names = tuple(source.info.name for source in sources)
        self._chosen = self._names[0] if settings.mode == "single" else FUSED
        self._response = bytearray()
        self._stream = TextStream(settings.stop)
        self._shown: list[str] = []
        self._speculator = speculator or Speculator()
        self._crew = crew or Crew(0)
        self._start = time.perf_counter()
        self._before = self._after_prompt = [source.counters for source in sources]
        self._hidden_before_s = self._crew.hidden_s
        self._prompt_tokens: dict[str, int] = {}
        self._prompt_s = 0.0

    def begin(self, prompt: Prompt, on_progress: Progress | None) -> None:
        """Evaluate the prompt in every source."""
        for index, source in enumerate(self._sources):
            sampling = self._settings.sampling
            self._prompt_tokens[source.info.name] = source.begin(
                prompt,
                # A seed of its own for each, or equal models would always agree.
                sampling=replace(sampling, seed=sampling.seed + index),
                reserve_tokens=self._settings.reserve_tokens,
                speculates=self._settings.speculation,
                revisits=self._settings.speculation and self._settings.mode == "cool+r",
                scores_prompt=self._weighing.hears_prompt,
                tells_uncertainty=self._weighing.has_primary and index == 0,
                is_cancelled=self._is_cancelled,
                on_progress=share_of(on_progress, index, len(self._sources)),
            )
        if self._weighing.hears_prompt:
            self._weighing.begin([source.prompt_score() for source in self._sources])
        # Now each source knows whether it samples, which decides whether it can foresee.
        able = self._sources if self._settings.speculation else ()
        self._speculator.begin(able, text_of(prompt))
        self._after_prompt = [source.counters for source in self._sources]
        self._prompt_s = time.perf_counter() - self._start

    def write(self) -> Iterator[Step]:
        """All steps of the mode (method: "Modes")."""
        if self._settings.mode == "rerank":
            yield self.choose({})
            return
        ends = False
        while self.finish_reason is None:
            step = self.step()
            ends = step.ends
            yield step
        if self._settings.mode == "cool+r":
            self._speculator.end_response()
            for source in self._sources:
                # Its own answer may be much the same.
                source.restart(expect_same=self._settings.speculation)
            yield self.choose({Candidate(bytes(self._response), ends): self.finish_reason})

    def step(self) -> Step:
        """One fused segment (method: "One step")."""
        watch = _StepWatch(self._sources)
        with watch.phase("draft"):
            self._speculator.prepare()
            drafts = self._drafts()
            proposals = _Proposals.gather(zip(self._names, drafts, strict=False))
        verdict = self._rerank(proposals, self._crew, watch)
        with watch.phase("rerank"):
            if verdict.matrix is not None:
                own = [proposals.candidates.index(draft) for draft in drafts]
                self._weighing.observe(verdict.matrix, own)
        with watch.phase("commit"):
            winner = proposals.candidates[verdict.winner]
            text = self._commit(winner)
            self._speculator.advance(winner.text, len(proposals.candidates))
        return watch.report(text, proposals, verdict)

    def choose(self, fused: Mapping[Candidate, FinishReason]) -> Step:
        """One choice among the sources' whole answers and the ``fused`` one, if there is one."""
        watch = _StepWatch(self._sources)
        with watch.phase("draft"):
            # Several tokens a pass keep all cores busy: one source after the other is faster.
            crew = Crew(0) if self._settings.speculation else self._crew
            own = crew.each(self._sources, self._draft_answer)
            proposals = _Proposals.gather(
                [*zip(self._names, (c for c, _ in own), strict=True), *((FUSED, c) for c in fused)]
            )
        verdict = self._rerank_answers(proposals, watch)
        winner = proposals.candidates[verdict.winner]
        self._chosen = proposals.proposers[verdict.winner][0]
        self.finish_reason = {**fused, **dict(own)}[winner]
        self._stream, self._shown = TextStream(self._settings.stop), []
        text = self._stream.feed(winner.text)
        return replace(watch.report(self._show(text), proposals, verdict), whole=True)

    def rollback(self) -> None:
        """Leave every source without drafts, whatever happened."""
        for source in self._sources:
            source.rollback()

    def answer(self) -> Answer:
        """The end of the stream; its text is what the steps showed (in "cool+r": the last one)."""
        assert self.finish_reason is not None
        now = [source.counters for source in self._sources]
        spans = list(zip(self._names, self._before, self._after_prompt, now, strict=True))
        return Answer(
            text="".join(self._shown),
            finish_reason=self.finish_reason,
            mode=self._settings.mode,
            chosen=self._chosen,
            passes={name: end.n_passes - start.n_passes for name, _, start, end in spans},
            prompt_s=self._prompt_s,
            prompt_tokens=self._prompt_tokens,
            elapsed_s=time.perf_counter() - self._start,
            decode_s=sum(end.decode_s - start.decode_s for _, start, _, end in spans)
            - (self._crew.hidden_s - self._hidden_before_s),
            sources=tuple(source.info for source in self._sources),
        )

    def _drafts(self) -> list[Candidate]:
        """The next segment of each source, or of the first one alone if no other is asked."""
        own: list[Candidate] = []
        if self._weighing.has_primary:
            own = [self._draft(self._sources[0])]
            if not self._weighing.asks(self._sources[0].uncertainty()):
                return own
        return own + self._crew.each(self._sources[len(own) :], self._draft)

    def _draft(self, source: Source) -> Candidate:
        """The next segment of one source."""
        others = [other for other in self._sources if other is not source]
        limit = min(self._settings.segment_limit, self._room(source))
        kind, n_words = self._settings.segments, self._settings.segment_words
        draft = draft_segment(source, others, kind, limit, n_words)
        return Candidate(draft.text, draft.ends)

    def _draft_answer(self, source: Source) -> tuple[Candidate, FinishReason]:
        """The whole answer of one source alone, and why it ended."""
        stream, limit = TextStream(self._settings.stop), self._room(source)
        draft, n_read = source.draft(limit), 0
        while True:
            stream.feed(draft.text[n_read:])
            n_read = len(draft.text)
            is_full = len(draft.token_ends) >= limit
            # Nothing but control tokens: it has nothing to say, as in ``synchronizer``.
            ends = draft.ends or (is_full and not draft.text)
            reason = self._why_ended(ends, stream.stopped, draft.text, is_full)
            if reason is not None:
                return Candidate(draft.text, ends), reason
            self._speculator.go_on(source, len(draft.text))
            draft = source.extend(limit)

    def _rerank(self, proposals: "_Proposals", crew: Crew, watch: "_StepWatch") -> rerank.Verdict:
        """The winner; nothing is scored when all propose the same (method: "One step")."""
        with watch.phase("score"):
            if len(proposals.candidates) == 1:
                return rerank.Verdict(winner=0)
            scores = crew.each(self._sources, lambda source: source.score(proposals.candidates))
        kind, means_of = self._settings.score, self._weighing.means
        with watch.phase("rerank"):
            return rerank.decide(scores, proposals.candidates, kind, means_of)

    def _rerank_answers(self, proposals: "_Proposals", watch: "_StepWatch") -> rerank.Verdict:
        """The winner among whole answers; unless all scores are wanted, of those that may win."""
        candidates, kind = proposals.candidates, self._settings.score
        all_scores = self._settings.all_scores or not self._weighing.is_monotonic
        if all_scores or len(candidates) == 1:
            return self._rerank(proposals, Crew(0), watch)  # long ones keep all cores busy, too
        wrote = [proposals.of(name, FUSED) for name in self._names]
        order = self._speculator.by_cost(self._sources)
        means_of = self._weighing.means
        with watch.phase("score"):
            scores = contest.scores(self._sources, candidates, wrote, order, kind, means_of)
        with watch.phase("rerank"):
            return rerank.decide(scores, candidates, kind, means_of)

    def _commit(self, winner: Candidate) -> str:
        """Bring every source to the winner's end; returns the text that can be shown now."""
        try:
            self._crew.each(self._sources, lambda source: source.commit(winner))
        except ContextError:  # it fits no more: the answer ends in front of it
            self.finish_reason = "length"
            return self._show("")
        self._response += winner.text
        text = self._stream.feed(winner.text)
        is_full = any(self._room(source) <= 0 for source in self._sources)
        self.finish_reason = self._why_ended(
            winner.ends, self._stream.stopped, bytes(self._response), is_full
        )
        return self._show(text)

    def _show(self, text: str) -> str:
        """Note what a step shows; the last one also what had been held back."""
        if self.finish_reason is not None:
            text += self._stream.flush()
        self._shown.append(text)
        return text

    def _why_ended(
        self, ends: bool, is_stopped: bool, text: bytes, is_full: bool
    ) -> FinishReason | None:
        if ends or is_stopped:
            return "stop"
        if self._settings.repetition_guard and is_looping(text):
            return "repetition"
        return "length" if is_full else None

    def _room(self, source: Source) -> int:
        """Tokens that ``source`` may still write."""
        return min(self._settings.max_tokens - source.n_response_tokens, source.n_free)


@dataclass(frozen=True, slots=True)
class _Proposals:
    """The distinct candidates of one step in the order of the sources, and who proposed each."""

    candidates: tuple[Candidate, ...]
    proposers: tuple[tuple[str, ...], ...]

    @classmethod
    def gather(cls, proposals: Iterable[tuple[str, Candidate]]) -> Self:
        found: dict[Candidate, tuple[str, ...]] = {}
        for name, candidate in proposals:
            found[candidate] = (*found.get(candidate, ()), name)
        return cls(tuple(found), tuple(found.values()))

    def of(self, *names: str) -> list[int]:
        """Indices of what any of ``names`` proposed."""
        return [i for i, who in enumerate(self.proposers) if not set(who).isdisjoint(names)]


class _StepWatch:
    """Takes the time and counts the passes of one step, and reports it."""

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._sources = sources
        self._n_passes = [source.counters.n_passes for source in sources]
        self._timings_s: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        before_s = self._timings_s.get(name, 0.0)  # a phase may come twice
        self._timings_s[name] = before_s + time.perf_counter() - start

    def report(self, text: str, proposals: _Proposals, verdict: rerank.Verdict) -> Step:
        """The step as everything outside the engine sees it."""
        names = [source.info.name for source in self._sources]
        passes = [
            source.counters.n_passes - before
            for source, before in zip(self._sources, self._n_passes, strict=True)
        ]
        return Step(
            text=text,
            ends=proposals.candidates[verdict.winner].ends,
            winner=verdict.winner,
            candidates=tuple(_scored(names, proposals, verdict)),
            passes=dict(zip(names, passes, strict=True)),
            timings_s=self._timings_s,
        )


def _scored(
    names: list[str], proposals: _Proposals, verdict: rerank.Verdict
) -> Iterator[ScoredCandidate]:
    for index, (candidate, proposers) in enumerate(
        zip(proposals.candidates, proposals.proposers, strict=True)
    ):
        column = [] if verdict.matrix is None else verdict.matrix[:, index].tolist()
        mean = math.nan if verdict.means is None else float(verdict.means[index])
        yield ScoredCandidate(
            text=candidate.text.decode("utf-8", errors="replace"),
            ends=candidate.ends,
            sources=proposers,
            scores={n: s for n, s in zip(names, column, strict=False) if not math.isnan(s)},
            mean=None if math.isnan(mean) else mean,
        )
