"""The exchange of messages between a session here and the one in an actor, also a new actor.

Every message is sent once. When the actor is lost, another one reads prompt and response, repeats
what was done since the last segment, and gets the message that was not answered.
"""

import string
from collections.abc import Generator, Set
from typing import Any, Protocol, cast

from cf_local.cluster.host import Host, SourceLostError
from cf_local.cluster.journal import Journal
from cf_local.cluster.messages import Call, Guesses, Joined, Message, Reply, State
from cf_local.errors import ClusterError
from cf_local.method.session import Joins, Source
from cf_local.progress import IsCancelled, never
from cf_local.types import Counters, Draft

_COMMON = frozenset(string.ascii_letters + string.digits + string.punctuation)
_MOST_LIVES = 3  # lost so often for one call, it is the call that kills


class Hosted(Source, Protocol):
    """What a session needs from its source."""

    host: Host
    is_closed: bool
    notice: str

    def check_open(self) -> None:
        """Raise ClosedError once it is closed."""

    def revive(self, lost: SourceLostError, life: int, is_cancelled: IsCancelled) -> None:
        """Load it again after the actor of that ``life`` was lost."""


class Exchange:
    """Sends the messages of the session with an ``index``, and knows what was done by them."""

    def __init__(self, source: Hosted, index: int, state: State) -> None:
        self.n_round_trips = 0
        """Messages sent since the load, each with its reply."""
        self.notices: tuple[str, ...] = ()
        """What the reader of the answer should know: that the source was loaded again."""
        self.journal = Journal()
        self.guesses = Guesses()
        self._source, self._index, self._state = source, index, state
        self._life, self._n_messages = source.host.life, 0
        self._base = Counters()  # of former lives
        self._is_cancelled: IsCancelled = never
        self._joins: Joins | None = None
        self._following: dict[str, frozenset[str]] = {}
        self._unsent: dict[str, frozenset[str]] = {}
        self._is_new = False

    @property
    def state(self) -> State:
        """The figures after the last message; the counters are those of all lives."""
        return self._state._replace(counters=self._base + self._state.counters)

    def start(self, is_cancelled: IsCancelled) -> None:
        """Another answer begins."""
        self._is_cancelled = is_cancelled
        self.notices, self.guesses = (), Guesses()

    def run(self, batch: tuple[Call, ...]) -> Reply:
        """Do these calls once; the reply may be that of another actor in the same state.

        Raises ClusterError if there is none.
        """
        for _ in range(_MOST_LIVES):
            try:
                if self._life != self._source.host.life:
                    self._replay()
                return self._noted(batch, self._receive(self._send(batch)))
            except SourceLostError as error:
                lost = error
                self._source.revive(lost, self._life, self._is_cancelled)
        raise ClusterError(f"{lost} It was lost {_MOST_LIVES} times, so the answer ends.")

    def read(
        self, pending: tuple[Call, ...], prompt: Call
    ) -> Generator[tuple[Reply, float], None, int]:
        """Read a prompt; yields each reply with the share that was read. Returns its tokens.

        Each part is asked for before the one before it is used, so that the actor need not wait.
        """
        batch: tuple[Call, ...] = (*pending, prompt)
        sent: Any = None
        n_lost = 0
        while True:
            try:
                if sent is None:
                    self._move_in()
                    sent = self._send(batch)
                reply = self._noted(batch, self._receive(sent))
            except SourceLostError as lost:
                n_lost += 1
                if n_lost == _MOST_LIVES:
                    raise
                self._source.revive(lost, self._life, self._is_cancelled)
                self.notices = (*self.notices, self._source.notice)
                sent, batch = None, (prompt,)
                continue
            share, n_tokens = (0.0, None) if reply.error else reply.results[-1]
            if n_tokens is None and not reply.error:
                batch = (Call("read_on"),)
                sent = self._send(batch)
            yield reply, share
            if n_tokens is not None:
                self.journal.start(prompt)
                return cast(int, n_tokens)

    def joined(self, joins: Joins, chars: Set[str]) -> bool:
        """Send with the next message what may follow ``chars``; returns whether all is new.

        ``joins`` that differ from those before, of another set of sources, replace all that was
        sent. Those of another answer seldom do.
        """
        is_other = False
        if joins is not self._joins:
            known = {char: joins(char) for char in self._following}
            is_other = self._joins is None or known != self._following
            self._joins, self._following = joins, known
            if is_other:
                self._unsent, self._is_new = dict(known), True
                chars = chars | _COMMON
        new = {char: joins(char) for char in sorted(chars) if char not in self._following}
        self._following |= new
        self._unsent |= new
        return is_other

    def _send(self, batch: tuple[Call, ...]) -> Any:
        self._n_messages += 1
        self.n_round_trips += 1
        joined = Joined(self._is_new, self._unsent) if self._is_new or self._unsent else None
        message = Message(self._n_messages, self._is_cancelled(), batch, self.guesses, joined)
        self._is_new, self._unsent = False, {}
        return self._source.host.send(self._index, message)

    def _receive(self, sent: Any) -> Reply:
        found = self._source.host.receive(sent, self._index, self._n_messages, self._is_cancelled)
        reply = cast(Reply, found)
        self._state = reply.state
        return reply

    def _noted(self, batch: tuple[Call, ...], reply: Reply) -> Reply:
        for call, result in zip(batch, reply.results, strict=False):
            self.journal.note(call, result)
        return reply

    def _move_in(self) -> None:
        """Be the session of a new life, which has read nothing."""
        if self._life != self._source.host.life:
            self._life, self._n_messages = self._source.host.life, 0
            self._base = self.state.counters
            self._state = self._state._replace(counters=Counters())
            self._is_new, self._unsent = True, dict(self._following)

    def _replay(self) -> None:
        """Read prompt and response again, and do what was done since the last segment."""
        self._move_in()
        if self.journal.prompt is None:
            return
        self.notices = (*self.notices, self._source.notice)
        n_tokens = self._repeated(self.journal.prompt)[1]
        while n_tokens is None:
            n_tokens = self._repeated(Call("read_on"))[1]
        self._repeated(*self.journal.commits)
        for call, before in self.journal.since:
            if self._repeated(call) != before and isinstance(before, Draft):
                raise ClusterError(
                    f"{self._source.notice} There the answer would continue with other words, as "
                    "two were nearly equal, so it ends here. Ask again."
                )

    def _repeated(self, *calls: Call) -> Any:
        """Do calls that were done before; returns the last result."""
        if not calls:
            return None
        reply = self._receive(self._send(calls))
        if reply.error is not None:
            raise reply.error
        return reply.results[-1]
