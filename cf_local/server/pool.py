"""Loads models on demand, shares them between models with the same sources, unloads idle ones.

Everything here runs in one event loop, except loading and closing, which run in threads.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from cf_local.errors import CfLocalError, OutOfMemoryError
from cf_local.loading.embedder import Embedder
from cf_local.progress import IsCancelled, Progress
from cf_local.runtime.fusion import Fusion
from cf_local.server.api_errors import ApiError, of_load, queue_full, shutting_down
from cf_local.server.catalogue import ServedModel
from cf_local.server.metrics import Metrics
from cf_local.server.replication.proxy import ReplicatedFusion


class QueueFull(Exception):
    """The queue is full."""


class GateClosed(Exception):
    """The gate is closed."""


class Gate:
    """A bounded queue in front of a few slots, first come, first served.

    At most ``n_slots`` are inside and at most ``n_queue`` wait. For one event loop, without locks.
    """

    def __init__(self, n_slots: int, n_queue: int) -> None:
        self._n_free, self._n_queue = n_slots, n_queue
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    @property
    def n_waiting(self) -> int:
        """The number of those who wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it while entered. Raises QueueFull and GateClosed."""
        await self._enter()
        try:
            yield
        finally:
            self.leave()

    def take(self) -> bool:
        """Take a slot if one is free now; ``leave`` gives it back."""
        if self._is_closed or not self._n_free:
            return False
        self._n_free -= 1
        return True

    def close(self) -> None:
        """Turn away those who wait; those inside may finish."""
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
                self.leave()  # cancelled in the same moment as let in
            elif future in self._waiting:
                self._waiting.remove(future)
            raise

    def leave(self) -> None:
        """Give the slot to the one who has waited longest."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._n_free += 1


_log = logging.getLogger(__name__)

Served = Fusion | ReplicatedFusion
"""A fusion in this process, or one with replicas on a cluster."""
Loaded = Served | Embedder
Load = Callable[[ServedModel, IsCancelled, Progress], Loaded]
"""Loads a model: its sources for as many conversations as there are slots, or an Embedder."""

_MOST_RETRY_S = 60


class _Loaded:
    """The sources of one model, loaded or being loaded, and their use."""

    def __init__(self, model: ServedModel, n_slots: int, n_queue: int) -> None:
        self.model = model
        self.names = frozenset(model.names)
        self.gate = Gate(n_slots, n_queue)
        self.n_users = 0
        self.last_used = time.monotonic()
        self.loading: asyncio.Task[Loaded] | None = None
        self.share = 0.0  # of the load that is done
        self._parts: dict[str, Served] = {}

    @property
    def loaded(self) -> Loaded | None:
        """What was loaded; None unless the load has succeeded."""
        task = self.loading
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        return task.result()

    def progress(self, share: float) -> None:
        """Note the share of the load that is done; called in the thread that loads."""
        self.share = share

    def part(self, fusion: Served, model: ServedModel) -> Served:
        """The fusion for a model on these sources, without a second load.

        It is cached, as it learns from its answers.
        """
        if model.name not in self._parts:
            # If a source has no template, the whole set uses its stop texts.
            settings = replace(model.settings, stop=fusion.settings.stop)
            self._parts[model.name] = fusion.of(model.names, settings)
        return self._parts[model.name]


class Place:
    """A slot on a loaded fusion, and more slots for as long as no request waits for them."""

    def __init__(self, fusion: Served, gate: Gate) -> None:
        self.fusion = fusion
        self._gate, self._n_more = gate, 0

    def take_more(self) -> bool:
        """Take one more slot, if one is free."""
        is_free = self._gate.take()
        self._n_more += is_free
        return is_free

    def give_back(self) -> None:
        """Give back one of the additional slots."""
        self._n_more -= 1
        self._gate.leave()

    def give_back_all(self) -> None:
        """Give back all additional slots."""
        while self._n_more:
            self.give_back()


class Pool:
    """Gives each request a slot on a loaded fusion, at most ``n_slots`` at once on the same one."""

    def __init__(
        self, load: Load, metrics: Metrics, *, n_slots: int, n_queue: int, idle_s: float
    ) -> None:
        """Models unused for ``idle_s`` seconds are unloaded; 0 keeps them loaded."""
        self._load, self._metrics = load, metrics
        self._n_slots, self._n_queue, self._idle_s = n_slots, n_queue, idle_s
        self._entries: list[_Loaded] = []
        self._one_load = asyncio.Lock()  # a load plans with the memory that is free
        self._is_draining = self._is_closing = False
        metrics.gauge("cf_local_queue_length", "Requests that wait for a slot.", self._n_waiting)
        metrics.gauge("cf_local_running", "Requests that hold a slot.", self._n_running)
        metrics.gauge(
            "cf_local_loaded",
            "Sets of sources, and embedding models, that are loaded.",
            self._n_loaded,
        )

    @asynccontextmanager
    async def place(self, model: ServedModel) -> AsyncIterator[Place]:
        """A slot on the fusion of a model, loaded if needed, while entered. Raises ApiError."""
        async with self._slot(model) as (entry, loaded):
            assert not isinstance(loaded, Embedder)
            place = Place(entry.part(loaded, model), entry.gate)
            try:
                yield place
            finally:
                place.give_back_all()

    @asynccontextmanager
    async def embedder(self, model: ServedModel) -> AsyncIterator[Embedder]:
        """The same for an embedding model."""
        async with self._slot(model) as (_, loaded):
            assert isinstance(loaded, Embedder)
            yield loaded

    @asynccontextmanager
    async def _slot(self, model: ServedModel) -> AsyncIterator[tuple[_Loaded, Loaded]]:
        if self._is_draining:
            raise shutting_down()
        entry = self._entry(model)
        entry.n_users += 1
        try:
            async with entry.gate.slot():
                yield entry, await self._ready(entry)
        except QueueFull:
            raise queue_full(self._retry_after_s(entry)) from None
        except GateClosed:
            raise shutting_down() from None
        finally:
            entry.n_users -= 1
            entry.last_used = time.monotonic()

    async def preload(self, model: ServedModel) -> None:
        """Load a model before the first request. Raises what loading raises."""
        entry = self._entry(model)
        if entry.loading is None:
            entry.loading = asyncio.create_task(self._loaded(entry))
        await entry.loading

    def is_loaded(self, model: ServedModel) -> bool:
        """Whether the sources of a model are loaded."""
        return self.usage(model) is not None

    def usage(self, model: ServedModel) -> tuple[Loaded, float | None] | None:
        """What is loaded of a model, and the seconds until it is unloaded if it stays unused.

        None if it is not loaded; the seconds are None if it stays.
        """
        for entry in self._entries:
            if set(model.names) <= entry.names and entry.loaded:
                if not self._idle_s:
                    return entry.loaded, None
                used = time.monotonic() if entry.n_users else entry.last_used
                return entry.loaded, max(0.0, used + self._idle_s - time.monotonic())
        return None

    def loading(self, model: ServedModel) -> float | None:
        """The share of a model that has been loaded so far (0 to 1); None unless it is loading."""
        for entry in self._entries:
            if set(model.names) <= entry.names and entry.loading and not entry.loading.done():
                return entry.share
        return None

    def drain(self) -> None:
        """Start nothing new: waiting requests are refused, running ones continue."""
        self._is_draining = True
        for entry in self._entries:
            entry.gate.close()

    async def close(self) -> None:
        """Unload everything; running answers end."""
        self._is_closing = True
        self.drain()
        for entry in list(self._entries):
            if entry.loading is not None:
                with suppress(CfLocalError, ApiError, asyncio.CancelledError):
                    await entry.loading
            await self._unload(entry)

    async def watch(self) -> None:
        """Unload idle models, until cancelled."""
        while self._idle_s:
            await asyncio.sleep(min(self._idle_s / 4, 5.0))
            await self.unload_idle()

    async def unload_idle(self) -> None:
        """Unload models that are unused for ``idle_s`` seconds."""
        now = time.monotonic()
        idle = [entry for entry in self._unused() if now - entry.last_used >= self._idle_s]
        async with self._one_load:
            for entry in idle:
                if not entry.n_users:
                    _log.info("%s: unloaded, as it was idle.", entry.model.name)
                    await self._unload(entry)

    def _entry(self, model: ServedModel) -> _Loaded:
        """An entry whose sources include those of the model; a new one if there is none."""
        wanted = set(model.names)
        for entry in self._entries:
            if wanted <= entry.names:
                return entry
        entry = _Loaded(model, self._n_slots, self._n_queue)
        self._entries.append(entry)
        return entry

    async def _ready(self, entry: _Loaded) -> Loaded:
        """What was loaded; a cancelled request does not cancel the load for others."""
        if entry.loading is None:
            entry.loading = asyncio.create_task(self._loaded(entry))
            # Retrieve the error even if every request has left by now.
            entry.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            return await asyncio.shield(entry.loading)
        except CfLocalError as error:
            raise of_load(error, entry.model.name) from error

    async def _loaded(self, entry: _Loaded) -> Loaded:
        try:
            async with self._one_load:
                loaded = await self._load_with_room(entry)
        except BaseException:
            self._metrics.loads.labels("failed").inc()
            self._forget(entry)  # the next request tries again
            raise
        self._metrics.loads.labels("loaded").inc()
        # First in the list, so that it is preferred over smaller sets of its sources.
        self._forget(entry)
        self._entries.insert(0, entry)
        for other in self._unused():
            if other.names < entry.names:
                await self._unload(other)
        return loaded

    async def _load_with_room(self, entry: _Loaded) -> Loaded:
        """Load; if memory is short, unload unused models and load once more."""

        def load() -> Loaded:
            return self._load(entry.model, lambda: self._is_closing, entry.progress)

        try:
            return await asyncio.to_thread(load)
        except OutOfMemoryError:
            unused = self._unused()
            if not unused:
                raise
            for other in unused:
                _log.info("%s: unloaded, to make room.", other.model.name)
                await self._unload(other)
            return await asyncio.to_thread(load)

    async def _unload(self, entry: _Loaded) -> None:
        self._forget(entry)
        if entry.loaded is not None:
            await asyncio.to_thread(entry.loaded.close)

    def _forget(self, entry: _Loaded) -> None:
        if entry in self._entries:
            self._entries.remove(entry)

    def _unused(self) -> list[_Loaded]:
        return [entry for entry in self._entries if entry.loaded and not entry.n_users]

    def _retry_after_s(self, entry: _Loaded) -> int:
        """Estimated seconds until half of the waiting requests have had a slot."""
        mean_s = self._metrics.mean_answer_s() or 1.0
        guess = mean_s * entry.gate.n_waiting / (2 * self._n_slots)
        return max(1, min(_MOST_RETRY_S, round(guess)))

    def _each(self) -> Iterator[tuple[int, int]]:
        """The users of each entry, and how many of them wait."""
        return ((entry.n_users, entry.gate.n_waiting) for entry in self._entries)

    def _n_waiting(self) -> int:
        return sum(waiting for _, waiting in self._each())

    def _n_running(self) -> int:
        return sum(users - waiting for users, waiting in self._each())

    def _n_loaded(self) -> int:
        return sum(entry.loaded is not None for entry in self._entries)
