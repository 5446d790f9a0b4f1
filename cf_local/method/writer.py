"""Writes one answer: draft, score, rerank, commit, until it ends.

``Writer.step`` is one round of the paper's algorithm (Cool-Fusion, arXiv 2407.19807, section 3),
as ``docs/method.md`` fixes it. It leaves out how a source decodes (``llama``), where a segment may
be cut (``synchronizer``) and how scores become a winner (``reranker``).
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from cf_local.errors import ContextError
from cf_local.method.deciding import NOTHING, Hearing, in_order, score_answers
from cf_local.method.output import TextStream, is_looping
from cf_local.method.overlap import Overlap, is_elsewhere
from cf_local.method.proposals import Proposals, StepWatch
from cf_local.method.reranker import Verdict, decide
from cf_local.method.session import Noticing, Session
from cf_local.method.speculation import Speculator, has_word
from cf_local.method.synchronizer import draft_segment
from cf_local.method.thinking import Budget, opening_of
from cf_local.progress import IsCancelled
from cf_local.settings import Settings
from cf_local.structured.calls import TalkEnd
from cf_local.types import FUSED, Answer, Candidate, FinishReason, Prompt, Step, text_of

_Whole = tuple[Candidate, FinishReason]


class Writer:
    """Writes one answer: ``prefill``, then ``steps`` to the end, then ``answer``."""

    def __init__(
        self,
        sessions: tuple[Session, ...],
        settings: Settings,
        is_cancelled: IsCancelled,
        overlap: Overlap | None = None,
    ) -> None:
        self.finish_reason: FinishReason | None = None
        self._sessions = sessions
        self._settings = settings
        self._is_cancelled = is_cancelled
        self._names = tuple(session.source.info.name for session in sessions)
        # A single source needs no weight.
        infos = [session.source.info for session in sessions]
        self._weights = settings.weights_of(infos) if len(sessions) > 1 else [1.0]
        self._order = in_order(sessions, self._weights)
        self._decides_early = decides_early(settings) and len(sessions) > 1
        self._joins = cache(
            lambda char: frozenset().union(*(s.source.joins(char) for s in sessions))
        )
        self._chosen = chosen_at_first(settings, self._names[0])
        self._response = bytearray()
        self._format = settings.response_format
        self._stream = self._new_stream()
        self._shown: list[str] = []
        self._closing = b""  # the end of the thinking, if it is due
        self._speculator = Speculator()
        self._overlap = (overlap or Overlap(0)).for_one()
        self._start = time.perf_counter()
        self._before = self._after_prompt = [session.counters for session in sessions]
        self._n_prefix = [0] * len(self._sessions)  # tokens of the answer before the first step
        self._prompt_tokens: dict[str, int] = {}
        self._cached_tokens: dict[str, int] = {}
        self._prompt_s = 0.0

    def prefill(self, prompt: Prompt, prefix: bytes = b"") -> Iterator[float]:
        """Evaluate in every source the prompt and ``prefix``, with which the answer starts.

        Yields the share of all prompts that was read (0 to 1), weighted by the sizes of the models.
        """
        sizes = [session.source.info.n_parameters for session in self._sessions]
        sizes = sizes if all(sizes) else [1] * len(sizes)
        shares = [0.0] * len(sizes)
        reading = {
            session: self._reading(index, prompt, shares)
            for index, session in enumerate(self._sessions)
        }
        # What reads in one process keeps its cores busy: one source after the other is faster.
        is_apart = any(map(is_elsewhere, self._sessions))
        for rest in [reading] if is_apart else [{s: parts} for s, parts in reading.items()]:
            for _ in self._overlap.rounds(rest):
                done = sum(size * share for size, share in zip(sizes, shares, strict=True))
                yield done / sum(sizes)
        if prefix:
            for session in self._sessions:
                session.commit(Candidate(prefix, ends=False))
            self._n_prefix = [session.n_response_tokens for session in self._sessions]
        self._prompt, self._prefix = prompt, prefix
        self._budget = self._budget_for(self._sessions)
        self._closing = self._budget.closing(prefix, _n_tokens(self._sessions))
        able = self._sessions if self._settings.speculation else ()
        self._speculator.start(able, self._order, text_of(prompt))
        self._after_prompt = [session.counters for session in self._sessions]
        self._prompt_s = time.perf_counter() - self._start

    def _reading(self, index: int, prompt: Prompt, shares: list[float]) -> Generator[None]:
        """Read the prompt in one source, in parts; notes the share that was read."""
        session, sampling = self._sessions[index], self._settings.sampling
        n_before, name = session.counters.n_tokens, session.source.info.name
        parts = session.prefill(
            prompt,
            # Each has its own seed, or equal models would always agree.
            sampling=replace(sampling, seed=sampling.seed + index),
            reserve_tokens=self._settings.reserve_tokens,
            looks_ahead=self._settings.speculation,
            revisits=self._settings.speculation and self._settings.mode == "cool+r",
            grammar=self._format.grammar if self._format else None,
            is_cancelled=self._is_cancelled,
        )
        n_tokens = None
        with closing(parts):
            while n_tokens is None:
                try:
                    shares[index] = next(parts)
                    yield
                except StopIteration as end:
                    n_tokens = end.value
        self._prompt_tokens[name] = n_tokens
        self._cached_tokens[name] = max(n_tokens - session.counters.n_tokens + n_before, 0)

    def steps(self) -> Iterator[Step | None]:
        """All steps of the mode (method: "Modes").

        Yields None where other answers may take a turn within a long step.
        """
        if self._settings.mode == "rerank":
            yield from self._choosing({})
            return
        ends = False
        while self.finish_reason is None:
            step = self.step()
            ends = step.ends
            yield step
        if self._settings.mode == "cool+r":
            self._speculator.end_response()
            for session in self._sessions:
                # Its own answer may be almost the same.
                session.restart(expect_same=self._settings.speculation)
            fused = Candidate(bytes(self._response), ends)
            yield from self._choosing({fused: self.finish_reason})

    def step(self) -> Step:
        """One fused segment (method: "One step")."""
        watch = StepWatch(self._sessions)
        if self._closing:
            end_of_thinking = Proposals((Candidate(self._closing, ends=False),), ((),))
            proposals, verdict, asked = _Decided(end_of_thinking, Verdict(winner=0), ())
        else:
            with watch.phase("draft"):
                self._speculator.prepare()
            proposals, verdict, asked = (self._hear if self._decides_early else self._ask)(watch)
        with watch.phase("commit"):
            winner = proposals.candidates[verdict.winner]
            text = self._commit(winner)
            self._speculator.advance(winner.text, [self._sessions[index] for index in asked])
        return watch.report(text, proposals, verdict, asked)

    def _ask(self, watch: StepWatch) -> "_Decided":
        """What wins when every source drafts, and scores what any of them drafted."""
        with watch.phase("draft"):
            drafts = self._drafts()
            proposals = Proposals.gather(zip(self._names, drafts, strict=False))
        everyone = range(len(self._sessions))
        return _Decided(proposals, self._rerank(proposals, watch), everyone)

    def _hear(self, watch: StepWatch) -> "_Decided":
        """The same winner, found by asking as few sources as possible."""
        hearing = Hearing(
            self._sessions,
            self._order[0],
            self._weights,
            self._joins,
            self._draft,
            expected=self._speculator.expected(),
            phase=watch.phase,
        )
        winner = hearing.winner()
        drafts = sorted(hearing.drafts.items())
        proposals = Proposals.gather((self._names[index], draft) for index, draft in drafts)
        candidates = proposals.candidates
        with watch.phase("rerank"):
            scores = hearing.scores(candidates)
            verdict = decide(scores, candidates, self._settings.score, self._weights)
            if winner is not None:
                verdict = replace(verdict, winner=candidates.index(winner))
        return _Decided(proposals, verdict, hearing.asked)

    def _choosing(self, fused: Mapping[Candidate, FinishReason]) -> Iterator[Step | None]:
        """One choice among the sources' whole answers and the ``fused`` one, if any."""
        watch = StepWatch(self._sessions)
        with watch.phase("draft"):
            own = dict(zip(self._names, (yield from self._answers()), strict=True))
            answers = [*own.items(), *((FUSED, a) for a in fused.items())]
            proposals = Proposals.gather((name, c) for name, (c, _) in self._complete(answers))
        verdict = self._rerank_answers(proposals, watch)
        winner = proposals.candidates[verdict.winner]
        self._chosen = proposals.proposers[verdict.winner][0]
        self.finish_reason = {**fused, **dict(own.values())}[winner]
        self._stream, self._shown = self._new_stream(), []
        text = self._stream.feed(winner.text)
        everyone = range(len(self._sessions))
        yield replace(watch.report(self._show(text), proposals, verdict, everyone), whole=True)

    def _answers(self) -> Generator[None, None, list[_Whole]]:
        """The whole answer of each source, pausing after every segment."""
        own = {session: self._answer_of(session) for session in self._sessions}
        is_long = self._settings.speculation  # passes over several tokens keep all cores busy
        if any(map(is_elsewhere, own)) or not (is_long or self._overlap.is_one_by_one):
            return (yield from self._overlap.rounds(own, is_long=is_long))
        found = []
        for answer in own.values():
            found.append((yield from answer))
        return found

    def rollback(self) -> None:
        """Leave every source without drafts, whatever happened before."""
        for session in self._sessions:
            session.rollback()

    def answer(self) -> Answer:
        """The end of the stream; its text is what the steps showed (in "cool+r": the last one)."""
        assert self.finish_reason is not None
        now = [session.counters for session in self._sessions]
        spans = list(zip(self._names, self._before, self._after_prompt, now, strict=True))
        return Answer(
            text="".join(self._shown),
            finish_reason=self.finish_reason,
            stop=self._stream.stopped_by if self.finish_reason == "stop" else "",
            mode=self._settings.mode,
            chosen=self._chosen,
            passes={name: end.n_passes - start.n_passes for name, _, start, end in spans},
            prompt_s=self._prompt_s,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            elapsed_s=time.perf_counter() - self._start,
            decode_s=sum(end.decode_s - start.decode_s for _, start, _, end in spans)
            - self._overlap.hidden_s,
            sources=tuple(session.source.info for session in self._sessions),
            notices=tuple(n for s in self._sessions if isinstance(s, Noticing) for n in s.notices),
        )

    def _new_stream(self) -> TextStream:
        """The text of an answer, to which the stop strings apply."""
        stop, form = self._settings.stop, self._format
        if form is None or not stop:
            return TextStream(stop)
        # A form itself says where the answer may end, except in talk where tools may be called.
        if form.tool_form is None:
            return TextStream()
        return TextStream(stop, TalkEnd(form.tool_form, form.tool_names))

    def _drafts(self) -> list[Candidate]:
        """The next segment of each source, which reads the expected text first."""
        expected = self._speculator.expected()

        def draft(session: Session) -> Candidate:
            ahead = session.lookahead
            if expected and ahead is not None and not has_word(ahead.known(), 0):
                ahead.prefetch(expected)
            return self._draft(session)

        return self._overlap.each(self._sessions, draft)

    def _draft(self, session: Session) -> Candidate:
        """The next segment of one source."""
        others = [other for other in self._sessions if other is not session]
        limit = min(self._settings.segment_limit, self._room(session))
        kind, n_words = self._settings.segments, self._settings.segment_words
        draft = draft_segment(session, others, kind, limit, n_words)
        return Candidate(draft.text, draft.ends)

    def _answer_of(self, session: Session) -> Generator[None, None, _Whole]:
        """The whole answer of one source, and why it ended; pauses after each segment."""
        stream, limit = self._new_stream(), self._room_alone(session)
        budget = self._budget_for([session])
        head, closing = b"", budget.closing(self._prefix, _n_tokens([session]))
        draft = None if closing else session.draft(limit)
        n_read = 0
        while True:
            if draft is None:  # its thinking ends
                stream.feed(closing)
                try:
                    session.commit(Candidate(closing, ends=False))
                except ContextError:
                    limit = 0
                else:
                    head, limit = head + closing, self._room_alone(session)
                    budget.closing(closing, _n_tokens([session]))
                if limit <= 0 or stream.stopped:
                    self._return(session)
                    return Candidate(head, ends=False), "stop" if stream.stopped else "length"
                draft, n_read = session.draft(limit), 0
            added, n_read = draft.text[n_read:], len(draft.text)
            stream.feed(added)
            is_full = len(draft.token_ends) >= limit
            # Only control tokens: it has nothing to say, as in ``synchronizer``.
            ends = draft.ends or (is_full and not draft.text and not draft.is_stuck)
            reason = self._why_ended(ends, stream.stopped, head + draft.text, is_full)
            if reason is None and draft.is_stuck:
                reason = "stuck"
            if reason is not None:
                if head:
                    self._return(session)
                return Candidate(head + draft.text, ends), reason
            yield
            n_tokens = session.n_response_tokens + len(draft.token_ends)
            if closing := budget.closing(added, [n_tokens]):
                head += draft.text
                session.commit(Candidate(draft.text, ends=False))
                draft = None
            else:
                self._speculator.go_on(session, len(draft.text))
                draft = session.extend(limit)

    def _return(self, session: Session) -> None:
        """Return to where the answer started: what was committed of it is scored as a whole."""
        session.restart(expect_same=self._settings.speculation)
        if self._prefix:
            session.commit(Candidate(self._prefix, ends=False))

    def _complete(self, answers: list[tuple[str, _Whole]]) -> list[tuple[str, _Whole]]:
        """Whole answers that compete: if a form is required, those that have it, if any do."""
        has_form = [answer for answer in answers if answer[1][1] == "stop"]
        return has_form if self._format and has_form else answers

    def _rerank(self, proposals: Proposals, watch: StepWatch, *, whole: bool = False) -> Verdict:
        """The winner; nothing is scored when all sources propose the same (method: "One step")."""
        candidates, kind = proposals.candidates, self._settings.score
        with watch.phase("score"):
            is_wanted = self._settings.score_unanimous and candidates[0] != NOTHING
            if len(candidates) == 1 and not is_wanted:
                return Verdict(winner=0)
            ends = kind == "mixture" and not whole
            scores = self._overlap.each(
                self._sessions,
                lambda session: session.score(candidates, word_ends=ends),
                is_long=whole,
            )
        with watch.phase("rerank"):
            return decide(scores, candidates, kind, self._weights, whole=whole)

    def _rerank_answers(self, proposals: Proposals, watch: StepWatch) -> Verdict:
        """The winner among whole answers; scores only those that may win, unless all are wanted."""
        candidates, kind = proposals.candidates, self._settings.score
        if self._settings.all_scores or len(candidates) == 1:
            return self._rerank(proposals, watch, whole=True)
        wrote = [proposals.of(name, FUSED) for name in self._names]
        order = self._speculator.by_cost(self._sessions)
        with watch.phase("score"):
            scores = score_answers(self._sessions, candidates, wrote, order, kind, self._weights)
        with watch.phase("rerank"):
            return decide(scores, candidates, kind, self._weights, whole=True)

    def _commit(self, winner: Candidate) -> str:
        """Bring every source to the end of the winner; returns the text that can be shown now."""
        try:
            self._overlap.each(self._sessions, lambda session: session.commit(winner))
        except ContextError:  # it no longer fits: the answer ends before it
            self.finish_reason = "length"
            return self._show("")
        if winner == NOTHING:
            self.finish_reason = "stuck"
            return self._show("")
        self._response += winner.text
        self._closing = self._budget.closing(winner.text, _n_tokens(self._sessions))
        text = self._stream.feed(winner.text)
        is_full = self._n_left() <= 0 or any(session.n_free <= 0 for session in self._sessions)
        self.finish_reason = self._why_ended(
            winner.ends, self._stream.stopped, bytes(self._response), is_full
        )
        return self._show(text)

    def _show(self, text: str) -> str:
        """Record what a step shows; the last step also shows what was held back."""
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

    def _budget_for(self, sessions: Sequence[Session]) -> Budget:
        """For the thinking of an answer by these sessions."""
        most, form, talk = self._settings.max_thinking_tokens, self._format, None
        if form is not None and form.tool_form is not None:
            talk = TalkEnd(form.tool_form, form.tool_names)
        elif form is not None:
            most = None  # the form leaves no room for a tag
        opening = opening_of(self._prompt, (session.source.info for session in sessions))
        return Budget(most, opening, talk)

    def _room(self, session: Session) -> int:
        """Tokens of a draft, which need not fit ``max_tokens`` where others need fewer."""
        n_own = self._n_written(session)
        has_fewest = all(n_own <= self._n_written(other) for other in self._sessions)
        return min(self._n_left(), session.n_free) if has_fewest else session.n_free

    def _room_alone(self, session: Session) -> int:
        """Tokens of an answer that ``session`` writes without the others."""
        return min(self._settings.max_tokens - self._n_written(session), session.n_free)

    def _n_left(self) -> int:
        """Tokens up to ``max_tokens`` of the source that needs fewest."""
        return self._settings.max_tokens - min(map(self._n_written, self._sessions))

    def _n_written(self, session: Session) -> int:
        """Tokens that ``session`` has of the answer after its prefix."""
        return session.n_response_tokens - self._n_prefix[self._sessions.index(session)]


def _n_tokens(sessions: Sequence[Session]) -> list[int]:
    """The length of the response in the tokens of each source."""
    return [session.n_response_tokens for session in sessions]


class _Decided(NamedTuple):
    """The proposals of a step, the verdict, and the indices of the sources that were asked."""

    proposals: Proposals
    verdict: Verdict
    asked: Sequence[int]


def decides_early(settings: Settings) -> bool:
    """Whether a step may end before all sources were asked.

    A mean of scores that have no bound can be changed by any source, and segments of several words
    can go on where a word ends.
    """
    is_word = settings.segments != "sentence" and settings.segment_words == 1
    return settings.score == "mixture" and is_word and not settings.all_scores


def chosen_at_first(settings: Settings, first: str) -> str:
    """Who wrote the text, before any choice among whole answers; ``first`` is the first source."""
    return first if settings.mode == "single" else FUSED
