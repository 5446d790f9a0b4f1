"""How many threads a forward pass may use."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


class _Cores:
    """The cores of this machine, shared by all passes that run at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_busy = 0

    @contextmanager
    def share(self, n_threads: int) -> Iterator[int]:
        """How many of ``n_threads`` a pass may use that begins now.

        Threads that wait for a core wait for each other, too, which can take a hundred times as
        long as the work itself.
        """
        with self._lock:
            self._n_busy += 1
            n_share = max(1, n_threads // self._n_busy)
        try:
            yield n_share
        finally:
            with self._lock:
                self._n_busy -= 1


_CORES = _Cores()


class Threads:
    """The threads of one context: at most ``n_threads``, which may be changed at any time."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._home: int | None = None  # the first thread that has a pass

    def settle_in(self) -> None:
        """Make this the thread from which passes may use all threads; from others they use one.

        OpenMP keeps a pool of threads for each thread that calls it. Once there are more of them
        than cores, they stop waiting for each other actively, and that made passes two to three
        times slower for the rest of the process (docs/LOG.md).
        """
        self._home = threading.get_ident()

    def share(self) -> AbstractContextManager[int]:
        """How many of them a pass may use that begins now, in this thread."""
        if self._home is None:
            self.settle_in()
        is_home = threading.get_ident() == self._home
        return _CORES.share(self.n_threads if is_home else 1)
