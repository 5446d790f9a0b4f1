"""A session in an actor: calls that need no result wait for one that does, answers are remembered.

What the actor says is remembered until the state changes, and not longer: a session answers as it
would in this process, only later.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, Unpack, cast

from cf_local.cluster.exchange import Exchange, Hosted
from cf_local.cluster.journal import CHANGES
from cf_local.cluster.messages import Call, Missing, State
from cf_local.method.session import Joins, Lookahead, Others, Prefill, ReadToken
from cf_local.method.tokenization import ContextEncoder, Vocabulary
from cf_local.progress import IsCancelled, never
from cf_local.types import Candidate, Counters, Draft, KnownText, Prompt, Score

_TOKENS_AT_ONCE = 64  # of a text that is read token by token


class RaySession:
    """A position in a model on another node. Not thread-safe."""

    def __init__(
        self,
        source: Hosted,
        index: int,
        state: State,
        vocabulary: Vocabulary | None,
        *,
        looks_ahead: bool,
    ) -> None:
        """``vocabulary`` is a copy here; without one the actor says where tokens end."""
        self.source = source
        self._exchange = Exchange(source, index, state)
        self._encoder = ContextEncoder(vocabulary) if vocabulary is not None else None
        self._lookahead = RayLookahead(self) if looks_ahead else None
        self._pending: list[Call] = []
        self._remembered: dict[Call, Any] = {}
        self._own: Candidate | None = None  # the draft, if nothing was asked since
        self._told: dict[bytes, int] = {}  # bytes of known text that were reported, by ``after``

    @property
    def counters(self) -> Counters:
        """Passes, evaluated tokens and seconds since the load, of all lives."""
        if any(call.name != "rollback" for call in self._pending) and not self.source.is_closed:
            self._run_all(())
        return self._exchange.state.counters

    @property
    def n_response_tokens(self) -> int:
        """Tokens of the response so far."""
        return self._exchange.state.n_response_tokens

    @property
    def n_free(self) -> int:
        """Tokens by which the response can still grow before the context is full."""
        return self._exchange.state.n_free

    @property
    def n_round_trips(self) -> int:
        """Messages sent since the load, each with its reply."""
        return self._exchange.n_round_trips

    @property
    def notices(self) -> tuple[str, ...]:
        """What the reader of the answer should know (see Noticing.notices)."""
        return self._exchange.notices

    @property
    def lookahead(self) -> Lookahead | None:
        """Evaluates text ahead of the response (see Session.lookahead)."""
        return self._lookahead

    def time_pass(self, n_tokens: int) -> float:
        """Seconds of a forward pass on its node, while no answer is written."""
        return cast(float, self._run(Call("time_pass", (n_tokens,))))

    def n_resident(self, prompt: Prompt) -> int:
        """Tokens of a prompt that it has read (see Session.n_resident)."""
        return cast(int, self._run(Call("n_resident", (prompt,))))

    def prefill(self, prompt: Prompt, **how: Unpack[Prefill]) -> Generator[float, None, int]:
        """Evaluate the prompt in parts (see Session.prefill)."""
        self.source.check_open()
        rest: dict[str, Any] = dict(how)
        self._exchange.start(cast(IsCancelled, rest.pop("is_cancelled", never)))
        looks_ahead = bool(rest.get("looks_ahead")) and self._lookahead is not None
        self._guess(known=looks_ahead)
        self._told = {}
        pending, self._pending = tuple(self._pending), []
        n_tokens = None
        try:
            with closing(self._exchange.read(pending, Call("prefill", (prompt, rest)))) as parts:
                while n_tokens is None:
                    try:
                        reply, share = next(parts)
                    except StopIteration as end:
                        n_tokens = cast(int, end.value)
                        break
                    self._forget()
                    if reply.error is not None:
                        raise reply.error
                    self._remembered = dict(reply.extras)
                    yield share
        finally:
            if n_tokens is None and not self.source.is_closed:
                self._pending = [Call("stop_reading")]
        if self._encoder is not None:
            self._encoder.reset()
        return n_tokens

    def read_tokens(self, prompt: Prompt, n_likely: int) -> Generator[ReadToken]:
        """The tokens of a prompt and how likely each is (see Legible.read_tokens)."""
        start: tuple[Prompt, int] | None = (prompt, n_likely)
        self._exchange.journal.start(None)
        while True:
            tokens = self._run(Call("read_tokens", (start, _TOKENS_AT_ONCE)))
            yield from tokens
            start = None
            if len(tokens) < _TOKENS_AT_ONCE:
                return

    def draft(self, limit: int) -> Draft:
        """Write to the next word boundary (see Session.draft)."""
        return self._drafted(Call("draft", (limit,)))

    def extend(self, limit: int) -> Draft:
        """Continue the draft to its next word boundary (see Session.extend)."""
        return self._drafted(Call("extend", (limit,)))

    def trim(self, n_bytes: int) -> Draft:
        """Cut the draft after one of its tokens (see Session.trim)."""
        return self._drafted(Call("trim", (n_bytes,)))

    def token_ends(self, text: bytes) -> frozenset[int]:
        """Where tokens end in ``text`` after the response (see Session.token_ends)."""
        self.source.check_open()
        if self._encoder is not None:
            return self._encoder.token_ends(text)
        return cast("frozenset[int]", self._asked(Call("token_ends", (text,))))

    def score(self, candidates: Sequence[Candidate], *, word_ends: bool = False) -> list[Score]:
        """Negative log-likelihood of each candidate (see Session.score)."""
        self.source.check_open()
        call = Call("score", (tuple(candidates), word_ends))
        if self._own is not None:
            is_own = list(candidates) == [self._own]
            self._guess(own_score=word_ends if is_own else None)
        if call in self._remembered:
            return list(self._remembered[call])
        return list(self._run(call))

    def others(self, candidates: Sequence[Candidate], joins: Joins) -> list[Others]:
        """Upper bounds of all other segments (see Session.others)."""
        self.source.check_open()
        self._guess(others=True)
        call = Call("others", (tuple(candidates),))
        chars = {char for one in candidates for char in one.text.decode(errors="ignore")}
        if self._exchange.joined(joins, chars):
            self._remembered.pop(call, None)
        while isinstance(found := self._asked(call), Missing):
            self._remembered.pop(call)
            self._exchange.joined(joins, {found.char})
        return list(found)

    def commit(self, candidate: Candidate) -> None:
        """Append a candidate to the response (see Session.commit)."""
        self._run(Call("commit", (candidate,)))
        if self._encoder is not None:
            self._encoder.append(candidate.text)

    def rollback(self) -> None:
        """Drop the draft, the scored candidates and the lookahead."""
        if not self.source.is_closed:
            self.later(Call("rollback"))

    def restart(self, *, expect_same: bool = False) -> None:
        """Drop the response; keep the prompt (see Session.restart)."""
        self._guess(own_score=None, others=False)  # what follows are whole answers
        self._run(Call("restart", (expect_same,)))
        if self._encoder is not None:
            self._encoder.reset()

    # ---- Of the lookahead

    def known(self, after: bytes) -> KnownText:
        """What is known of the text after the response and ``after``, without a pass."""
        call = Call("ahead.known", (after,))
        if call not in self._remembered:
            calls = [call]
            if any(each.name.startswith("ahead.") for each in self._pending):
                # Asked next: how sure it is of what it has written since the last time.
                calls.append(Call("ahead.confidence", (self._told.get(after, 0), after)))
            results = self._run_all(calls)
            self._remembered |= dict(zip(calls, results, strict=True))
        found = cast(KnownText, self._remembered[call])
        self._told[after] = len(found.text)
        return found

    def confidence(self, start: int, after: bytes) -> float:
        """The lowest probability of a token of the known text (see Lookahead.confidence)."""
        return cast(float, self._asked(Call("ahead.confidence", (start, after))))

    def later(self, call: Call) -> None:
        """Do this before the next call that needs a result."""
        self.source.check_open()
        self._pending.append(call)
        self._forget()

    # ---- Messages

    def _drafted(self, call: Call) -> Draft:
        if self._own is not None:  # the draft before was not scored, nor will this one be
            self._guess(own_score=None)
        draft = cast(Draft, self._run(call))
        self._own = Candidate(draft.text, draft.ends)
        return draft

    def _asked(self, call: Call) -> Any:
        """The result of a call that changes nothing; remembered until the state changes."""
        if call not in self._remembered:
            self._remembered[call] = self._run(call)
        return self._remembered[call]

    def _run(self, call: Call) -> Any:
        """Do the pending calls and this one; returns its result."""
        return self._run_all((call,))[0]

    def _run_all(self, calls: Sequence[Call]) -> tuple[Any, ...]:
        """Do the pending calls and these; returns the results of these."""
        self.source.check_open()
        batch, self._pending = (*self._pending, *calls), []
        reply = self._exchange.run(batch)
        names = {call.name for call in batch}
        if names & CHANGES:
            self._forget()
        if names & {"commit", "restart", "rollback"}:
            self._told = {}
        self._remembered |= dict(reply.extras)
        if reply.error is not None:
            raise reply.error
        return reply.results[len(batch) - len(calls) :]

    def _guess(self, **what: Any) -> None:
        self._exchange.guesses = self._exchange.guesses._replace(**what)

    def _forget(self) -> None:
        """The state has changed."""
        self._remembered, self._own = {}, None


class RayLookahead:
    """Looks ahead in a session on another node (see ``Lookahead``)."""

    def __init__(self, session: RaySession) -> None:
        self._session = session

    def known(self, after: bytes = b"") -> KnownText:
        """What it would write next, as far as known without a pass."""
        return self._session.known(after)

    def extend(self, n_tokens: int, after: bytes = b"") -> None:
        """Write up to ``n_tokens`` further ahead, once ``after`` has been read."""
        self._session.later(Call("ahead.extend", (n_tokens, after)))

    def confidence(self, start: int, after: bytes = b"") -> float:
        """The lowest probability of a token of the known text after byte ``start``."""
        return self._session.confidence(start, after)

    def prefetch(self, texts: Sequence[bytes]) -> None:
        """Evaluate texts that may follow the response, in one pass."""
        self._session.later(Call("ahead.prefetch", (tuple(texts),)))
