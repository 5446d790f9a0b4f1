"""The one thread in which a fusion computes, whichever thread asks.

OpenMP has a pool of threads for every thread that computes, and pools with more threads in all than
there are cores slow each other down (docs/speed.md). So there is one such thread. It runs jobs in
the order of their arrival; an answer is a chain of short jobs, so that several answers take turns.

With tiny models, which compute on one core and need no pool, handing a job over takes a few percent
of the time of the job. There the asking thread may run it itself while no other job is waiting.
"""

import logging
import os
import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from cf_local.errors import CfLocalError, ClosedError

T = TypeVar("T")
Work = Callable[[], None]

WAIT_S = 0.1
"""Seconds between checks of a waiting thread: for a cancel, and on Windows for Ctrl-C."""
_EXIT_WAIT_S = 5.0
_log = logging.getLogger(__name__)


class Worker:
    """Runs jobs one after the other in its own thread, started with the first job.

    The thread ends with ``close``, with the last reference to the worker, and with the program.
    """

    def __init__(self, what: str = "fusion") -> None:
        """``what`` names in messages whose models compute here."""
        self._what = what
        self._jobs: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.RLock()  # a finalizer that runs while it is held may submit a job
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._stopping = threading.Event()
        self._computing = threading.Lock()
        self._borrower: int | None = None  # the thread that computes instead of ours
        self.lends_turns = False
        """Whether another thread may compute instead: only if no thread pool is needed."""
        self._is_closed = False

    @property
    def is_stopping(self) -> Callable[[], bool]:
        """Whether the program is exiting, so jobs should end. Holds no reference to this."""
        return self._stopping.is_set

    @property
    def is_here(self) -> bool:
        """Whether this is the thread that computes now: the worker's own, or one it lent a turn."""
        here = threading.current_thread()
        return here is self._thread or here.ident == self._borrower

    @property
    def is_forked(self) -> bool:
        """Whether this is a copy in a forked process, where the thread does not exist."""
        return os.getpid() != self._process

    def submit(self, job: Work) -> None:
        """Run ``job``, which must not raise, in the worker's thread.

        Raises ClosedError, and CfLocalError in a forked process.
        """
        if self.is_forked:
            raise CfLocalError(
                f"This {self._what} was loaded before the process was forked, and cannot compute "
                "here. Load it in the process that uses it."
            )
        with self._lock:
            if self._is_closed:
                raise ClosedError(f"This {self._what} has been closed.")
            if self._thread is None:
                self._thread = self._start()
            self._jobs.put(job)

    def do(self, job: Work) -> None:
        """Like ``submit``, but run here and now if turns are lent and no job is waiting."""
        if self.lends_turns and self._jobs.empty() and self._computing.acquire(blocking=False):
            try:
                is_lent = not (self._is_closed or self.is_forked)
                if is_lent:
                    self._borrower = threading.get_ident()
                    job()
            finally:
                self._borrower = None
                self._computing.release()
            if is_lent:
                return
        self.submit(job)

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the worker's thread; returns or raises what it does.

        Always waits for its end: Ctrl-C in the meantime is raised afterwards.
        """
        if self.is_here:
            return work()
        done: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

        def job() -> None:
            try:
                done.put((work(), None))
            except BaseException as error:  # noqa: BLE001 - raised for the caller
                done.put((None, error))

        self.submit(job)
        interrupt: BaseException | None = None
        while True:
            try:
                result, error = done.get(timeout=WAIT_S)
                break
            except Empty:
                continue
            except BaseException as other:  # noqa: BLE001 - raised below
                interrupt = other
        if interrupt is not None or error is not None:
            raise interrupt or error or AssertionError
        return result  # type: ignore[return-value]  # what ``work`` returned

    def close(self) -> None:
        """End the thread after all submitted jobs. May be called twice."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
            self._jobs.put(None)
        if thread is not None and not self.is_forked and not self.is_here:
            thread.join()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(
            target=_work, args=(self._jobs, self._computing), name="cf-local", daemon=True
        )
        # Also at exit: a pass that runs while the native library is torn down may crash.
        weakref.finalize(self, _end, self._jobs, thread, self._stopping, self._process)
        thread.start()
        return thread


def _work(jobs: "SimpleQueue[Work | None]", computing: threading.Lock) -> None:
    while (job := jobs.get()) is not None:
        try:
            with computing:
                job()
        except BaseException:  # noqa: BLE001 - the next job may belong to another caller
            _log.exception("A job of the fusion failed.")
        del job  # or it would live until the next one arrives


def _end(
    jobs: "SimpleQueue[Work | None]",
    thread: threading.Thread,
    stopping: threading.Event,
    process: int,
) -> None:
    if os.getpid() == process and thread is not threading.current_thread():
        stopping.set()
        jobs.put(None)
        thread.join(_EXIT_WAIT_S)
