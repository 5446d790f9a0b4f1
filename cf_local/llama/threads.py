"""How many threads a forward pass may use: one for each core that no other process needs.

The number never changes a result, to the last bit (tests/real), so it may follow the load of the
machine from pass to pass.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from cf_local.errors import InputError
from cf_local.types import MOST_THREADS

_LOOK_S = 0.1  # a shorter time says little: systems measure CPU time in ticks of 10 ms
_REST_S = 1.0  # after two equal measurements that ask the system twice a pass: 1 ms on many cores
_EQUAL = 0.25  # cores
_TINY_BYTES = 32_000_000
_BUSY = ("user", "nice", "system", "irq", "softirq")  # the last two exist on Linux


class _OtherWork:
    """Measures how many cores other processes keep busy."""

    def __init__(self, *, rests: bool = False) -> None:
        """``rests``: it is paused after each pass, so it measures only some of them."""
        self._cores = _usable_cores()
        self.rests = rests
        self._rest_until = 0.0
        self._since: tuple[float, float] | None = None  # wall time, and what others had worked
        self._span_s = self._others_s = 0.0  # measured since the last mean
        self._mean = 0.0

    def look(self) -> float:
        """Cores they kept busy: the mean of the last two looks, 0 at the first."""
        now = time.perf_counter()
        if self._since is not None:
            if self._span_s + now - self._since[0] < _LOOK_S:
                return self._mean
            self.pause()
        if self._span_s >= _LOOK_S:
            found = max(0.0, self._others_s) / self._span_s
            if self.rests and abs(found - self._mean) < _EQUAL:
                self._rest_until = now + _REST_S
            self._mean = (self._mean + found) / 2
            self._span_s = self._others_s = 0.0
        if now >= self._rest_until:
            self._since = self._now()
        return self._mean

    def pause(self) -> None:
        """Leave out what they do until the next look."""
        if self._since is not None:
            (then, others_then_s), (now, others_now_s) = self._since, self._now()
            self._span_s += now - then
            self._others_s += others_now_s - others_then_s
            self._since = None

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), self._busy_s() - time.process_time()

    def _busy_s(self) -> float:
        """Seconds that the cores of this process have been busy since the system started."""
        import psutil  # here, so that `import cf_local.llama` stays fast

        times = psutil.cpu_times(percpu=True)
        own = [times[core] for core in self._cores if core < len(times)] or times
        return float(sum(getattr(core, kind, 0.0) for core in own for kind in _BUSY))


class _Cores:
    """The cores of this machine, shared by all passes that run at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_busy = 0
        self._others = _OtherWork()

    def look(self) -> float:
        """How many cores other processes keep busy.

        Call it early, at a load, so that a value is known at the first pass.
        """
        with self._lock:
            return self._others.look()

    def take_turns(self) -> None:
        """From now on count only what other processes do during the passes of this one.

        Sources of one fusion in processes of their own mostly work one after the other. Each would
        take the others for a busy program, and leave them cores that they do not need.
        """
        with self._lock:
            self._others = _OtherWork(rests=True)

    @contextmanager
    def share(self, n_threads: int, *, gives_way: bool) -> Iterator[int]:
        """How many of ``n_threads`` a pass that starts now may use.

        Threads that wait for a core also wait for each other, which can take a hundred times as
        long as the work itself. ``gives_way`` leaves cores to other processes.
        """
        with self._lock:
            self._n_busy += 1
            n_free = n_threads
            if gives_way and n_threads > 1:
                n_free = min(n_threads, n_usable_cores() - round(self._others.look()))
            n_share = max(1, n_free // self._n_busy)
        try:
            yield n_share
        finally:
            with self._lock:
                self._n_busy -= 1
                if self._others.rests and not self._n_busy:
                    self._others.pause()


def n_usable_cores() -> int:
    """Cores this process may use; in a container fewer than the machine has."""
    return len(_usable_cores())


def _usable_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


CORES = _Cores()


class Threads:
    """The threads of one context: ``n_threads``, or fewer with ``gives_way`` to busy processes."""

    def __init__(self, n_threads: int, *, gives_way: bool = False) -> None:
        self._n_threads = n_threads
        self._gives_way = gives_way
        self._home: int | None = None  # the thread whose passes may use all threads

    def settle_in(self) -> None:
        """Make passes from this thread use all threads; passes from other threads use one.

        OpenMP has a pool of threads for each thread that calls it. Once there are more threads
        than cores, they stop waiting for each other actively, which made passes two to three
        times slower for the rest of the process (docs/LOG.md).
        """
        self._home = threading.get_ident()

    def share(self) -> AbstractContextManager[int]:
        """How many threads a pass that starts now, in this thread, may use."""
        if self._home is None:
            self.settle_in()
        is_home = threading.get_ident() == self._home
        return CORES.share(self._n_threads if is_home else 1, gives_way=self._gives_way)


def check_threads(n_threads: int | None) -> None:
    """Raise InputError for threads that ggml cannot have; None is the default."""
    if n_threads is not None and not 1 <= n_threads <= MOST_THREADS:
        raise InputError(f"{n_threads} threads: choose 1 to {MOST_THREADS}.")


def threads_for(path: Path) -> int:
    """All cores, but one for a tiny model: its passes are shorter than waiting for each other.

    On a busy machine that wait made the built-in models ten times slower (docs/LOG.md).
    """
    return 1 if path.stat().st_size < _TINY_BYTES else n_usable_cores()
