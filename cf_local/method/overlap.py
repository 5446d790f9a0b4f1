"""Work of several sources at the same time: their forward passes run outside Python's lock.

One source's pass for one token is bound by reading its weights, which a second core seldom makes
faster; two sources on a core each do it in the time of one. So do sources on different devices.
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from cf_local.method.session import Session

T = TypeVar("T")


class Overlap:
    """Lets sources work, each in a thread of its own or one after the other."""

    def __init__(self, n_workers: int) -> None:
        """With ``n_workers`` below 2 nothing runs at the same time."""
        self.hidden_s = 0.0  # of forward passes during those of a slower source
        self._pool = ThreadPoolExecutor(n_workers, "cf-local") if n_workers > 1 else None

    @property
    def is_one_by_one(self) -> bool:
        """Whether nothing runs at the same time."""
        return self._pool is None

    def for_one(self) -> "Overlap":
        """The same threads for one answer of several, so that ``hidden_s`` is that of this one."""
        overlap = copy.copy(self)
        overlap.hidden_s = 0.0
        return overlap

    def each(self, sessions: Sequence[Session], work: Callable[[Session], T]) -> list[T]:
        """What ``work`` returns for each source, in their order.

        Waits for all of them, whatever happens; then the first error is raised.
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
    except RuntimeError:  # Python is ending, and pools begin nothing any more
        done: Future[T] = Future()
        try:
            done.set_result(work(session))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            done.set_exception(error)
        return done
