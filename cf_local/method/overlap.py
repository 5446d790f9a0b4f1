"""Several sources work at the same time: their forward passes run outside Python's lock.

A pass over one token is bound by reading the weights, which a second core seldom speeds up. Two
sources on one core each take the time of one. So do sources on different devices.
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from cf_local.method.session import Session

T = TypeVar("T")


class Overlap:
    """Runs work for several sources, each in its own thread or one after the other."""

    def __init__(self, n_workers: int) -> None:
        """``n_workers`` below 2 runs everything in sequence."""
        self.hidden_s = 0.0  # seconds of passes that ran during the passes of a slower source
        self._pool = ThreadPoolExecutor(n_workers, "cf-local") if n_workers > 1 else None

    @property
    def is_one_by_one(self) -> bool:
        """Whether nothing runs at the same time."""
        return self._pool is None

    def for_one(self) -> "Overlap":
        """The same threads for one answer, with a ``hidden_s`` of its own."""
        overlap = copy.copy(self)
        overlap.hidden_s = 0.0
        return overlap

    def each(self, sessions: Sequence[Session], work: Callable[[Session], T]) -> list[T]:
        """What ``work`` returns for each session, in their order.

        Always waits for all of them; then raises the first error.
        """
        if self._pool is None or len(sessions) < 2:
            return [work(session) for session in sessions]
        before = [session.counters.decode_s for session in sessions]
        futures = [_submit(self._pool, work, session) for session in sessions]
        wait(futures)
        spent = [s.counters.decode_s - b for s, b in zip(sessions, before, strict=True)]
        self.hidden_s += sum(spent) - max(spent)
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the threads. May be called twice."""
        if self._pool is not None:
            self._pool.shutdown()


def _submit(
    pool: ThreadPoolExecutor, work: Callable[[Session], T], session: Session
) -> "Future[T]":
    try:
        return pool.submit(work, session)
    except RuntimeError:  # Python is exiting, and pools accept no more work
        done: Future[T] = Future()
        try:
            done.set_result(work(session))
        except BaseException as error:  # noqa: BLE001 - raised by result()
            done.set_exception(error)
        return done
