"""The server as a process: socket, signals and shutdown."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import FrameType

import uvicorn

from cf_local.cluster.connection import connect
from cf_local.errors import CfLocalError, InputError
from cf_local.loading.embedder import load_embedder_of
from cf_local.loading.load import load_chosen
from cf_local.loading.load_options import LoadOptions
from cf_local.progress import IsCancelled, Progress
from cf_local.registry.registry import Registry
from cf_local.server.app import Server
from cf_local.server.catalogue import Catalogue, ServedModel
from cf_local.server.pool import Load, Loaded
from cf_local.server.replication.deployment import Replicas, bounds_of
from cf_local.server.serve_options import ServeOptions

_BACKLOG = 128


def serve(
    registry: Registry,
    names: list[str],
    options: ServeOptions,
    load_options: LoadOptions,
    *,
    on_ready: Callable[[str], None],
    on_notice: Callable[[str], None],
) -> None:
    """Serve until a signal; the models ``names`` are loaded before the first request.

    ``on_ready`` is called with the address. Raises what Catalogue raises, CfLocalError
    if the address cannot be used, and what loading raises.
    """
    catalogue = Catalogue(
        registry,
        names,
        aliases=options.aliases,
        answers_any=options.answers_any,
        lists_all=options.cluster is not None and bool(names),
    )
    load = loader(load_options, on_notice)
    with ExitStack() as opened:
        replicas = None
        if options.cluster is not None:
            replicas = opened.enter_context(replicated(options, load_options, on_notice))
            load = replicas.loader(load)
            options = replace(options, n_slots=options.n_slots * replicas.bounds.n_max)
        server = Server(catalogue, load, options)
        if replicas is not None:
            server.metrics.add(replicas)
        bound = opened.enter_context(listening(options))
        runner = Runner(server, bound, on_ready)
        asyncio.run(runner.run(names))


@contextmanager
def replicated(
    options: ServeOptions, load_options: LoadOptions, on_notice: Callable[[str], None]
) -> Iterator[Replicas]:
    """The replicas on the cluster that ``options`` name, without any yet.

    Raises what ``connect`` and ``bounds_of`` raise.
    """
    assert options.cluster is not None
    with connect(options.cluster) as cluster:
        n_min, n_max = options.n_min_replicas, options.n_max_replicas
        bounds = bounds_of(cluster.nodes(), load_options, n_min, n_max)
        with Replicas(bounds, load_options, on_notice) as replicas:
            yield replicas


def loader(options: LoadOptions, on_notice: Callable[[str], None]) -> Load:
    """The function that loads a model, without any download."""

    def load(model: ServedModel, is_cancelled: IsCancelled, on_progress: Progress) -> Loaded:
        if model.kind == "embedding":
            return load_embedder_of(
                model.sources[0],
                options=options,
                is_cancelled=is_cancelled,
                on_progress=on_progress,
            )
        return load_chosen(
            list(model.sources),
            model.settings,
            options=options,
            is_cancelled=is_cancelled,
            on_progress=on_progress,
            on_notice=on_notice,
        )

    return load


class Runner(uvicorn.Server):
    """Shuts down gracefully on the first SIGINT or SIGTERM, at once on the second."""

    def __init__(
        self, server: Server, bound: socket.socket, on_ready: Callable[[str], None]
    ) -> None:
        """``bound`` is the socket to listen on; ``on_ready`` is called with the address."""
        self._served, self._bound, self._on_ready = server, bound, on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        options = server.options
        super().__init__(
            uvicorn.Config(
                server.app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(options.shutdown_s)),
            )
        )

    async def run(self, preloaded: list[str]) -> None:  # type: ignore[override]
        """Load the models ``preloaded``, then serve."""
        self._loop = asyncio.get_running_loop()
        with self.capture_signals():
            async with self._served.running():
                for name in preloaded:
                    if not self.should_exit:
                        await self._served.pool.preload(self._served.catalogue.find(name))
                if not self.should_exit:
                    await self._serve([self._bound])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then report the address."""
        await super().startup(sockets)
        self._on_ready(url_of(self._bound))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but do not raise the signal again at the end."""
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down gracefully on the first signal, at once on the second."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._served.drain)


@contextmanager
def listening(options: ServeOptions) -> Iterator[socket.socket]:
    """A bound socket, closed at the end.

    Raises InputError for an unknown address, CfLocalError for one that cannot be used.
    """
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise InputError(f"--host {options.host}: there is no such address.") from None
    family, _, _, _, address = found[0]
    try:
        bound = socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CfLocalError(
            f"Cannot listen on {options.host} port {options.port}: {error.strerror}. "
            "Choose another port with --port."
        ) from None
    with bound:
        bound.setblocking(False)
        yield bound


def url_of(bound: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port, *_ = bound.getsockname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
