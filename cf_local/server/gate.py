"""A bounded queue in front of a few places, served in order. For one event loop, without locks."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class QueueFull(Exception):
    """So many wait already that one more is sent away."""


class GateClosed(Exception):
    """Nobody is let in any more."""


class Gate:
    """At most ``n_places`` are inside and at most ``n_queue`` wait."""

    def __init__(self, n_places: int, n_queue: int) -> None:
        self._n_free, self._n_queue = n_places, n_queue
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    @property
    def n_waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Be inside while entered. Raises QueueFull and GateClosed."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    def close(self) -> None:
        """Send away who waits; who is inside may finish."""
        self._is_closed = True
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(GateClosed())

    async def _enter(self) -> None:
        if self._is_closed:
            raise GateClosed
        if self._n_free:
            self._n_free -= 1
            return
        if len(self._waiting) >= self._n_queue:
            raise QueueFull
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._leave()  # let in and gone in the same moment
            elif future in self._waiting:
                self._waiting.remove(future)
            raise

    def _leave(self) -> None:
        """Hand the place to who has waited longest."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._n_free += 1
