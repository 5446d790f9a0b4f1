"""A real server on a free port, in a thread of the tests, and plain requests to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripted import VOCABULARIES

from cf_local.errors import CfLocalError
from cf_local.loading.load_options import LoadOptions
from cf_local.progress import IsCancelled, Progress
from cf_local.registry.registry import load_registry
from cf_local.runtime.fusion import Fusion
from cf_local.server.app import Server
from cf_local.server.catalogue import Catalogue, ServedModel
from cf_local.server.pool import Load
from cf_local.server.running import Runner, listening, loader
from cf_local.server.serve_options import ServeOptions
from cf_local.settings import Settings
from cf_local.testing import ScriptedSession, ScriptedSource, writes

PATIENCE_S = 30.0  # on a machine that does much else
QUESTION = "Tom has 23 apples and buys 45 more. How many apples does he have now?"


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The bodies of a stream, which must have ended well."""
        *events, last, rest = self.body.decode().split("\n\n")
        assert (last, rest) == ("data: [DONE]", "")
        return [json.loads(e.removeprefix("data: ")) for e in events if not e.startswith(":")]


class Served:
    """A running server."""

    def __init__(
        self, server: Server, runner: Runner, port: int, socket_bytes: int | None = None
    ) -> None:
        self.server, self.runner, self.port = server, runner, port
        self.socket_bytes = socket_bytes
        self.url = f"http://127.0.0.1:{port}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        raw: bytes | None = None,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        sent = dict(headers or {})
        if body is not None:
            raw, sent = json.dumps(body).encode(), {"Content-Type": "application/json"} | sent
        try:
            connection.request(method, path, raw, sent)
            got = connection.getresponse()
            told = {name.lower(): value for name, value in got.getheaders()}
            return Reply(got.status, told, got.read())
        finally:
            connection.close()

    def chat(self, text: str = QUESTION, **more: Any) -> Reply:
        messages = [{"role": "user", "content": text}]
        body = {"model": "builtin", "messages": messages} | more
        return self.ask("POST", "/v1/chat/completions", body)

    def open(self, body: Any, path: str = "/v1/chat/completions") -> socket.socket:
        """A request whose response is left to be read; closing it is going away."""
        raw = json.dumps(body).encode()
        sock = socket.socket()
        if self.socket_bytes is not None:  # once connected, it would be too late
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.socket_bytes)
        sock.settimeout(PATIENCE_S)
        sock.connect(("127.0.0.1", self.port))
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        sock.sendall(head.encode() + f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        return sock

    def figure(self, line: str) -> float:
        """The number of a line of /metrics that begins so; 0 without one."""
        for found in self.ask("GET", "/metrics").body.decode().splitlines():
            if found.startswith(line):
                return float(found.rpartition(" ")[2])
        return 0.0

    def wait_for(self, line: str, number: float) -> None:
        wait_until(lambda: self.figure(line) == number, f"{line} {number}")

    def signal(self) -> None:
        """What SIGTERM does."""
        self.runner.handle_exit(signal.SIGTERM, None)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.005)


@contextmanager
def serving(
    load: Load | None = None,
    *,
    socket_bytes: int | None = None,
    models: Path | None = None,
    names: Sequence[str] = (),
    memory_bytes: int | None = None,
    **options: Any,
) -> Iterator[Served]:
    """A server; ``load`` replaces the models of the registry, ``models`` is a file to add to it.

    Of what is unread the system keeps megabytes, unless ``socket_bytes`` says how much.
    """
    how = ServeOptions(port=0, **options)
    load = load or loader(
        LoadOptions(
            n_conversations=how.n_slots, offline=True, n_threads=1, memory_bytes=memory_bytes
        ),
        lambda _text: None,
    )
    more: Any = {"aliases": how.aliases, "answers_any": how.answers_any}
    server = Server(Catalogue(load_registry(models), names, **more), load, how)
    ready = threading.Event()
    with listening(how) as bound:
        if socket_bytes is not None:  # connections inherit it
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, socket_bytes)
        runner = Runner(server, bound, lambda _url: ready.set())
        thread = threading.Thread(target=lambda: asyncio.run(runner.run([])), daemon=True)
        thread.start()
        assert ready.wait(PATIENCE_S)
        try:
            yield Served(server, runner, bound.getsockname()[1], socket_bytes)
        finally:
            runner.handle_exit(signal.SIGTERM, None)
            runner.handle_exit(signal.SIGTERM, None)
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


class Slow(ScriptedSource):
    """Takes some time for every pass."""

    pass_s = 0.01

    def open_session(self) -> ScriptedSession:
        return SlowSession(self)


class SlowSession(ScriptedSession):
    source: Slow

    def _pass(self, n_tokens: int) -> None:
        super()._pass(n_tokens)
        time.sleep(self.source.pass_s)


def slow(
    text: str = " fox" * 5000, n_sessions: int = 4, n_ctx: int = 100_000, pass_s: float = 0.01
) -> Load:
    """Loads two sources that write ``text``, a word every ``pass_s`` or so."""

    def load(model: ServedModel, _is_cancelled: IsCancelled, _on_progress: Progress) -> Fusion:
        pieces = VOCABULARIES[0]
        sources = [
            Slow(name, pieces, writes(text, pieces), n_sessions=n_sessions, n_ctx=n_ctx)
            for name in model.names
        ]
        for source in sources:
            source.pass_s = pass_s
        settings = Settings(max_tokens=100_000, repetition_guard=False, speculation=False)
        return Fusion(sources, settings)

    return load


def failing(error: CfLocalError) -> Load:
    def load(_model: ServedModel, _is_cancelled: IsCancelled, _on_progress: Progress) -> Fusion:
        raise error

    return load


def endless(**more: Any) -> dict[str, Any]:
    """A request whose answer takes for ever."""
    return {
        "model": "builtin",
        "messages": [{"role": "user", "content": "Go on."}],
        "max_tokens": 100_000,
        "cf_local": {"repetition_guard": False, "speculation": False},
    } | more
