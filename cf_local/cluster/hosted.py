"""A session on its node: it does what messages ask, and guesses what they ask next."""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from cf_local.cluster.messages import (
    Call,
    Guesses,
    Joined,
    Message,
    Missing,
    Reply,
    State,
)
from cf_local.errors import CfLocalError, ClusterError
from cf_local.method.session import Legible, ReadToken, Session
from cf_local.types import Candidate, Draft, Prompt

_DRAFTS = ("draft", "extend", "trim")
_PLAIN = {*_DRAFTS, "token_ends", "commit", "rollback", "n_resident", "time_pass"}
_AHEAD = {"known", "extend", "confidence", "prefetch"}
_log = logging.getLogger(__name__)


class HostedSession:
    """Applies messages to a session. One thread computes; ``cancel`` may come from another."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._number = 0  # of the last message
        self._cancelled = 0  # the last message that was cancelled
        self._reading: Generator[float, None, int] | None = None
        self._tokens: Generator[ReadToken] | None = None
        self._joined: dict[str, frozenset[str]] = {}

    def cancel(self, number: int) -> None:
        """Stop the work for a message: a pass that is running, or the next one."""
        self._cancelled = max(self._cancelled, number)

    def _is_cancelled(self) -> bool:
        return self._cancelled >= self._number

    @property
    def state(self) -> State:
        """Its figures now."""
        session = self._session
        return State(session.counters, session.n_response_tokens, session.n_free)

    def apply(self, message: Message) -> Reply:
        """Do the calls up to the first error, and answer what is likely to be asked next."""
        if message.number != self._number + 1:
            raise CfLocalError(
                f"Message {message.number} came after {self._number}: messages were lost on the "
                "way. Load the fusion again."
            )
        self._number = message.number
        if message.is_cancelled:
            self.cancel(message.number)
        if message.joined is not None:
            self._learn(message.joined)
        results: list[Any] = []
        extras: tuple[tuple[Call, Any], ...] = ()
        error = None
        try:
            for call in message.calls:
                results.append(self._do(call))
            if message.calls:
                extras = self._extras(message.calls, results[-1], message.guesses)
        except Exception as found:  # noqa: BLE001 - raised on the other side
            error = found
        return Reply(tuple(results), error, self.state, extras)

    def _learn(self, joined: Joined) -> None:
        if joined.is_new:
            self._joined = {}
        self._joined |= joined.following

    def _do(self, call: Call) -> Any:
        name, args = call
        if name in _PLAIN:
            return getattr(self._session, name)(*args)
        if name.startswith("ahead."):
            return self._look_ahead(name.removeprefix("ahead."), args)
        does: Mapping[str, Callable[..., Any]] = {
            "score": self._score,
            "others": self._others,
            "restart": self._restart,
            "prefill": self._prefill,
            "read_on": self._read_on,
            "stop_reading": self._stop_reading,
            "read_tokens": self._read_tokens,
        }
        return does[name](*args)

    def _look_ahead(self, name: str, args: tuple[Any, ...]) -> Any:
        ahead = self._session.lookahead
        assert ahead is not None
        assert name in _AHEAD
        return getattr(ahead, name)(*args)

    def _score(self, candidates: tuple[Candidate, ...], word_ends: bool) -> Any:
        return self._session.score(candidates, word_ends=word_ends)

    def _others(self, candidates: tuple[Candidate, ...]) -> Any:
        missing: list[str] = []

        def joins(char: str) -> frozenset[str]:
            if char not in self._joined:
                missing.append(char)
            return self._joined.get(char, frozenset())

        found = self._session.others(candidates, joins)
        return Missing(missing[0]) if missing else found

    def _restart(self, expect_same: bool) -> None:
        self._session.restart(expect_same=expect_same)

    def _prefill(self, prompt: Prompt, how: dict[str, Any]) -> tuple[float, int | None]:
        """Begin to read a prompt; returns what ``_read_on`` returns."""
        self._stop_reading()
        self._reading = self._session.prefill(prompt, **how, is_cancelled=self._is_cancelled)
        return self._read_on()

    def _read_on(self) -> tuple[float, int | None]:
        """Read a part of the prompt: the share that was read, and its tokens if that is all."""
        assert self._reading is not None
        try:
            share = next(self._reading)
            if share >= 1:
                next(self._reading)
        except StopIteration as end:
            self._reading = None
            return 1.0, end.value
        except BaseException:
            self._reading = None
            raise
        return share, None

    def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()

    def _read_tokens(self, start: tuple[Prompt, int] | None, n_most: int) -> list[ReadToken]:
        """The next tokens of a text, after ``start`` from its beginning; none at the end."""
        if start is not None:
            assert isinstance(self._session, Legible)
            self._tokens = self._session.read_tokens(*start)
        if self._tokens is None:  # another actor had begun
            raise ClusterError(
                f"{self._session.source.info.name} was lost while it read a text, and was loaded "
                "again. Ask again."
            )
        return list(islice(self._tokens, n_most))

    def _extras(
        self, calls: Sequence[Call], result: Any, guesses: Guesses
    ) -> tuple[tuple[Call, Any], ...]:
        """What is likely to be asked next, after ``result`` of the last call."""
        known = Call("ahead.known", (b"",))
        guesses = guesses._replace(known=guesses.known and known not in calls)
        try:
            return tuple(self._guessed(calls[-1], result, guesses))
        except Exception as error:  # noqa: BLE001 - nobody has asked for it yet
            _log.info("What may be asked next is unknown: %s", error)
            return ()

    def _guessed(self, last: Call, result: Any, guesses: Guesses) -> Iterator[tuple[Call, Any]]:
        scored: tuple[Candidate, ...] = ()
        if isinstance(result, Draft) and last.name in _DRAFTS:
            own = Candidate(result.text, result.ends)
            if guesses.own_score is not None and not result.is_stuck:
                yield (
                    Call("score", ((own,), guesses.own_score)),
                    self._score((own,), guesses.own_score),
                )
                scored = (own,) if guesses.own_score else ()
        elif last.name == "score" and last.args[1]:
            scored = last.args[0]
        if scored and guesses.others:
            found = self._others(scored)
            if not isinstance(found, Missing):
                yield Call("others", (scored,)), found
        if guesses.known and last.name not in ("rollback", "stop_reading") and not self._reading:
            known = Call("ahead.known", (b"",))
            yield known, self._do(known)
