"""Several sources work at the same time: their forward passes run outside Python's lock.

A pass over one token is bound by reading the weights, which a second core seldom speeds up. Two
sources on one core each take the time of one. So do sources on different devices.
"""

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Self, TypeVar

from cf_local.method.session import Elsewhere, Session, Source

T = TypeVar("T")


class Overlap:
    """Runs work for several sources, each in its own thread or one after the other.

    Sources in other processes always work at the same time, as this one only waits for them.
    """

    def __init__(self, n_workers: int) -> None:
        """``n_workers`` below 2 runs everything in this process in sequence."""
        self.hidden_s = 0.0  # seconds of passes that ran during the passes of a slower source
        self._n_workers = n_workers if n_workers > 1 else 0
        self._pool: ThreadPoolExecutor | None = None
        if self._n_workers:
            self._pool = ThreadPoolExecutor(self._n_workers, "cf-local")

    @classmethod
    def of(cls, sources: Sequence[Source], *, overlap: bool) -> Self:
        """For these sources; without ``overlap`` those in this process run in sequence."""
        found = cls(len(sources) if overlap else 0)
        n_elsewhere = sum(isinstance(source, Elsewhere) for source in sources)
        if found._pool is None and n_elsewhere and len(sources) > 1:
            found._pool = ThreadPoolExecutor(n_elsewhere, "cf-local")
        return found

    @property
    def is_one_by_one(self) -> bool:
        """Whether nothing runs at the same time."""
        return self._pool is None

    def for_one(self) -> "Overlap":
        """The same threads for one answer, with a ``hidden_s`` of its own."""
        overlap = copy.copy(self)
        overlap.hidden_s = 0.0
        return overlap

    def each(
        self, sessions: Sequence[Session], work: Callable[[Session], T], *, is_long: bool = False
    ) -> list[T]:
        """What ``work`` returns for each session, in their order.

        Work that ``is_long`` keeps all cores of a process busy, so only processes work at the same
        time. Always waits for all of them; then raises the first error.
        """
        lanes = self._lanes(sessions, is_long)
        if len(lanes) < 2:
            return [work(session) for session in sessions]
        assert self._pool is not None
        before = {session: session.counters.decode_s for session in sessions}
        futures: dict[Session, Future[T]] = {}
        for (session,) in lanes[1:]:
            futures[session] = _submit(self._pool, work, session)
        for session in lanes[0]:
            futures[session] = _done(work, session)
        wait(futures.values())
        spent = [sum(s.counters.decode_s - before[s] for s in lane) for lane in lanes]
        self.hidden_s += sum(spent) - max(spent)
        return [futures[session].result() for session in sessions]

    def rounds(
        self, work: Mapping[Session, Generator[None, None, T]], *, is_long: bool = True
    ) -> Generator[None, None, list[T]]:
        """Advance the work of all sessions by one part, until all has ended; returns the results.

        Pauses between two rounds.
        """
        results: dict[Session, T] = {}

        def advance(session: Session) -> None:
            try:
                next(work[session])
            except StopIteration as end:
                results[session] = end.value

        with ExitStack() as opened:
            for parts in work.values():
                opened.callback(parts.close)
            self.each(list(work), advance, is_long=is_long)
            while left := [session for session in work if session not in results]:
                yield
                self.each(left, advance, is_long=is_long)
        return [results[session] for session in work]

    def _lanes(self, sessions: Sequence[Session], is_long: bool) -> list[Sequence[Session]]:
        """What runs at the same time: first what does in this thread, in sequence."""
        if self._pool is None or len(sessions) < 2:
            return [sessions]
        if self._n_workers and not is_long:
            return [(), *([session] for session in sessions)]
        far = [session for session in sessions if is_elsewhere(session)]
        near = [session for session in sessions if session not in far]
        lanes: list[Sequence[Session]] = [near, *([session] for session in far)]
        return lanes if near else lanes[1:]

    def close(self) -> None:
        """End the threads. May be called twice."""
        if self._pool is not None:
            self._pool.shutdown()


def is_elsewhere(session: Session) -> bool:
    """Whether a session computes in another process."""
    return isinstance(session.source, Elsewhere)


def _submit(
    pool: ThreadPoolExecutor, work: Callable[[Session], T], session: Session
) -> "Future[T]":
    try:
        return pool.submit(work, session)
    except RuntimeError:  # Python is exiting, and pools accept no more work
        return _done(work, session)


def _done(work: Callable[[Session], T], session: Session) -> "Future[T]":
    """The result of work that is done in this thread."""
    done: Future[T] = Future()
    try:
        done.set_result(work(session))
    except BaseException as error:  # noqa: BLE001 - raised by result()
        done.set_exception(error)
    return done
