"""A hub on this machine: the parts of the Hugging Face hub's API that are used, and its bad days.

Two servers, as there: one answers for repositories, the other ("CDN") sends what large files hold.
Every request is recorded, with the bytes of its body that were handed to the network.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

CHUNK = 16_384


@dataclass
class Fault:
    """What goes wrong with the next body of a file; the default is nothing.

    ``status`` answers with that and no body, ``drop_at`` closes the connection after so many bytes
    of the body, ``stall_at`` sends no more after so many until the server ends, ``shift`` sends
    another range than was asked for (and says so), ``swap`` sends other bytes of the same length,
    ``length`` sends (and tells) so many bytes instead, ``pause_s`` waits before every
    ``pause_every`` bytes, ``content`` is what the file has become.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    drop_at: int | None = None
    stall_at: int | None = None
    ignores_range: bool = False
    shift: int = 0
    swap: bool = False
    length: int | None = None
    pause_s: float = 0.0
    pause_every: int = CHUNK
    loops: bool = False
    content: bytes | None = None
    packed: bool = False


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    on_cdn: bool
    status: int = 0
    n_sent: int = 0


def commit_of(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    error: tuple[int, dict[str, str]] | None = None

    def commit(self, name: str, files: dict[str, bytes], ref: str = "main") -> str:
        """Add a commit (named by the hash of ``name``) and let a branch point to it."""
        self.commits[commit_of(name)] = files
        self.refs[ref] = commit_of(name)
        return commit_of(name)


class HubServer:
    """``with HubServer() as hub``: ``hub.url`` is the endpoint, ``hub.repos`` what it holds."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = defaultdict(Repo)
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)  # by file name
        self.api_faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self.requests: list[Request] = []
        self.bytes_per_s: float | None = None
        self.uses_cdn = True
        self.is_over = threading.Event()
        self._servers = [self._serve(on_cdn=False), self._serve(on_cdn=True)]
        self.url, self.cdn_url = (f"http://127.0.0.1:{s.server_address[1]}" for s in self._servers)

    def __enter__(self) -> HubServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, repo: str, files: dict[str, bytes], name: str = "one", ref: str = "main") -> str:
        return self.repos[repo].commit(name, files, ref)

    def bodies(self, file: str) -> list[Request]:
        """The requests that a body of this file was sent for."""
        found = [r for r in self.requests if r.method == "GET" and r.path.endswith(f"/{file}")]
        return [r for r in found if r.status in (200, 206)]

    def sent(self, file: str) -> int:
        return sum(request.n_sent for request in self.bodies(file))

    def fault_for(self, file: str) -> Fault:
        queue = self.faults[file]
        return queue.popleft() if queue else self.always or Fault()

    def content(self, repo: str, revision: str, file: str) -> tuple[str, bytes] | None:
        known = self.repos[repo]
        commit = known.refs.get(revision, revision)
        files = known.commits.get(commit, {})
        return (commit, files[file]) if file in files else None

    def _serve(self, *, on_cdn: bool) -> ThreadingHTTPServer:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub, Handler.on_cdn = hub, on_cdn
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
        return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer
    on_cdn: bool
    record: Request

    def setup(self) -> None:
        # Small buffers: what counts as sent has (nearly) reached the client.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * CHUNK)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.record = Request(self.command, path, dict(self.headers.items()), self.on_cdn)
        self.hub.requests.append(self.record)
        try:
            self._route(urlsplit(self.path).path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _route(self, path: str) -> None:
        if path.startswith("/loop/"):
            return self._head(302, {"Location": self.path, "Content-Length": "0"})
        if path.startswith("/api/models/"):
            return self._api(unquote(path.removeprefix("/api/models/")))
        before, mark, after = path.partition("/resolve/")
        if not mark:
            return self._refuse(404, {})
        revision, _, file = map(unquote, after.partition("/"))
        repo = unquote(before.strip("/"))
        if error := self.hub.repos[repo].error:
            return self._refuse(*error)
        found = self.hub.content(repo, revision, file)
        if found is None:
            return self._refuse(404, {"X-Error-Code": "EntryNotFound"})
        return self._file(file, *found)

    def _file(self, file: str, commit: str, content: bytes) -> None:
        is_large = file.endswith(".gguf")
        etag = hashlib.sha256(content).hexdigest() if is_large else git_hash(content)
        linked = {"X-Repo-Commit": commit, "X-Linked-Etag": f'"{etag}"', "ETag": f'"{etag}"'}
        linked["X-Linked-Size"] = str(len(content))
        moves = is_large and self.hub.uses_cdn and not self.on_cdn
        if self.command == "HEAD":
            if moves:
                target = {"Location": self.hub.cdn_url + self.path, "Content-Length": "0"}
                return self._head(302, linked | target)
            return self._head(200, linked | {"Content-Length": str(len(content))})
        if moves:
            return self._head(
                302, linked | {"Location": self.hub.cdn_url + self.path, "Content-Length": "0"}
            )
        return self._body(self.hub.fault_for(file), content, linked)

    def _body(self, fault: Fault, content: bytes, headers: dict[str, str]) -> None:
        if fault.loops:
            self._head(302, {"Location": f"/loop{self.path}", "Content-Length": "0"})
        elif fault.status:
            self._refuse(fault.status, dict(fault.headers))
        else:
            self._content(fault, content, headers)

    def _content(self, fault: Fault, content: bytes, headers: dict[str, str]) -> None:
        if fault.content is not None:
            content = fault.content
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        start, end, status = self._range(len(content), headers, fault)
        if start is None:
            self._refuse(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        start = min(max(0, start + (fault.shift if status == 206 else 0)), len(content))
        body = content[start:end]
        if fault.swap:
            body = bytes(byte ^ 0xFF for byte in body)
        if fault.length is not None:
            body = (body + bytes(fault.length))[: fault.length]
        headers = headers | {"Content-Length": str(len(body))}
        if fault.packed:
            headers |= {"Content-Encoding": "gzip"}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._head(status, headers)
        self._send(body, fault)

    def _range(
        self, size: int, headers: dict[str, str], fault: Fault
    ) -> tuple[int | None, int, int]:
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        only_if = self.headers.get("If-Range", headers["ETag"])
        if not asked or fault.ignores_range or only_if != headers["ETag"]:
            return 0, size, 200
        first, _, last = asked.partition("-")
        if int(first) >= size:
            return None, size, 416
        return int(first), min(size, int(last) + 1 if last else size), 206

    def _send(self, body: bytes, fault: Fault) -> None:
        end = len(body) if fault.drop_at is None else min(len(body), fault.drop_at)
        step = fault.pause_every if fault.pause_s else CHUNK
        began = time.monotonic()
        for start in range(0, end, step):
            if fault.stall_at is not None and start >= fault.stall_at:
                self.hub.is_over.wait()
            piece = body[start : min(end, start + step)]
            if fault.pause_s:
                time.sleep(fault.pause_s)
            if rate := self.hub.bytes_per_s:
                due = began + start / rate
                time.sleep(max(0.0, due - time.monotonic()))
            self.record.n_sent += len(piece)
            self.wfile.write(piece)
        if end < len(body):
            self.close_connection = True

    def _api(self, rest: str) -> None:
        if self.hub.api_faults and (fault := self.hub.api_faults.popleft()).status:
            return self._refuse(fault.status, dict(fault.headers))
        repo, _, revision = rest.partition("/revision/")
        known = self.hub.repos.get(repo)
        if known is None:
            return self._refuse(404, {"X-Error-Code": "RepoNotFound"})
        if known.error:
            return self._refuse(*known.error)
        commit = known.refs.get(revision or "main", revision)
        if commit not in known.commits:
            return self._refuse(404, {"X-Error-Code": "RevisionNotFound"})
        siblings = [_sibling(name, content) for name, content in known.commits[commit].items()]
        told = {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, "tags": []}
        body = json.dumps(told | {"private": False, "downloads": 0, "likes": 0}).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)
        return None

    def _refuse(self, status: int, headers: dict[str, str]) -> None:
        self._head(status, {"Content-Length": "0"} | headers)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.record.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _sibling(name: str, content: bytes) -> dict[str, object]:
    told: dict[str, object] = {"rfilename": name, "size": len(content)}
    if name.endswith(".gguf"):
        sha256 = hashlib.sha256(content).hexdigest()
        told["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return told | {"blobId": git_hash(content)}
