"""What every request passes: it is timed and logged, and host, origin and key are checked.

The checks come before anything reads the body of a request.
"""

import hmac
import ipaddress
import logging
import socket
import time
import traceback
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cf_local.server.api_errors import SERVER, ApiError
from cf_local.server.delivery import ClientGone
from cf_local.server.metrics import Metrics
from cf_local.server.serve_options import LOOPBACK, ServeOptions

_log = logging.getLogger(__name__)

GONE = 499
"""The logged status of a request whose client did not wait for the response."""


def error_response(error: ApiError, path: str) -> Response:
    """The response for an error at a path."""
    headers = {"cache-control": "no-store"} | error.headers
    return JSONResponse(error.body_at(path), error.status, headers)


class Observer:
    """Times and logs every request, and turns failures into error responses.

    A log line contains nothing that a client sent except method, path and names of parameters.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, options: ServeOptions, label: Callable[[str], str]
    ) -> None:
        """``label`` names the route of a path in the metrics."""
        self._app, self._metrics, self._options, self._label = app, metrics, options, label

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, then log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(send)
        start = time.perf_counter()
        try:
            try:
                await self._app(scope, receive, seen.send)
            except ApiError as error:
                self._metrics.errors.labels(error.code or error.kind).inc()
                await self._respond(error, seen, scope, receive)
        except ClientGone:
            seen.status = GONE
        except Exception as error:  # noqa: BLE001 - the server keeps running
            await self._fail(error, seen, scope, receive)
        finally:
            self._note(scope, seen.status, time.perf_counter() - start)

    async def _fail(self, error: Exception, seen: "_Seen", scope: Scope, receive: Receive) -> None:
        self._metrics.errors.labels("internal").inc()
        # The text of an unexpected error may contain a prompt; its traceback does not.
        description = repr(error) if self._options.logs_prompts else type(error).__name__
        trace = "".join(traceback.format_tb(error.__traceback__))
        _log.error("A request failed: %s\n%s", description, trace)
        message = "The server failed. Its log says why."
        await self._respond(ApiError(500, message, kind=SERVER), seen, scope, receive)

    async def _respond(
        self, error: ApiError, seen: "_Seen", scope: Scope, receive: Receive
    ) -> None:
        if seen.status is None:
            await error_response(error, scope["path"])(scope, receive, seen.send)

    def _note(self, scope: Scope, status: int | None, seconds: float) -> None:
        route = self._label(scope["path"])
        self._metrics.requests.labels(route, str(status or GONE)).inc()
        self._metrics.request_s.labels(route).observe(seconds)
        if is_open(scope["path"]) and status in (200, 304) and not _log.isEnabledFor(logging.DEBUG):
            return  # a file of the page: a browser asks for sixty of them
        path = scope["path"].encode("ascii", "backslashreplace").decode()[:200]
        _log.info("%s %r %s %.3f s", scope["method"][:20], path, status or GONE, seconds)


class _Seen:
    """Forwards messages and remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        """Forward a message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


_KEYED = ("/v1", "/api/", "/metrics", "/tokenize", "/detokenize")


def is_open(path: str) -> bool:
    """Whether a path needs no key, as those of the page: a browser that opens one sends none."""
    return not path.startswith(_KEYED)


HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """Accepts requests that name this server as their host, from its own or allowed origins.

    A page of any website can make a browser send requests to this machine and, with DNS rebinding,
    read the answers. So a request must name a host that is this server's, and come from no other
    origin.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app, self._options = app, options
        self._hosts = {host.lower() for host in (*LOOPBACK, *options.allowed_hosts)}
        if not options.is_local:
            self._hosts |= {options.host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then forward the request. Raises ApiError."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            self._check_host(headers)
            self._check_origin(headers, scope["path"])
            send = _with_headers(send, is_shared=bool(self._options.allowed_origins))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(_name(hosts[0])):
            raise ApiError(
                403,
                "This server does not accept the name in the Host header. To allow it, start the "
                "server with --allow-host NAME.",
                kind="permission_error",
                code="host_not_allowed",
            )

    def _is_ours(self, name: str) -> bool:
        if name in self._hosts:
            return True
        # DNS cannot rebind an address. A local server needs no addresses besides LOOPBACK.
        return not self._options.is_local and _is_address(name)

    def _check_origin(self, headers: Headers, path: str) -> None:
        origin = headers.get("origin")
        if origin in self._options.allowed_origins:
            return
        if origin is None and (is_open(path) or not _is_from_elsewhere(headers)):
            return
        if "*" in self._options.allowed_origins:
            return
        if origin is not None and _host_of(origin) == headers["host"].lower():
            return
        raise ApiError(
            403,
            "Requests from pages of this origin are not allowed. To allow them, start the "
            "server with --allow-origin ORIGIN.",
            kind="permission_error",
            code="origin_not_allowed",
        )


class ApiKey:
    """Requires the API key, if there is one, for the interface and the metrics."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app = app
        self._key = options.api_key.encode() if options.api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then forward the request. Raises ApiError."""
        if scope["type"] == "http" and self._key is not None and not is_open(scope["path"]):
            # Compare in constant time, so that the time does not reveal how much is right.
            given = _key(Headers(scope=scope)).encode(errors="replace")
            if not hmac.compare_digest(given, self._key):
                raise ApiError(
                    401,
                    "This server needs its API key: send it as 'Authorization: Bearer KEY'.",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        await self._app(scope, receive, send)


def _key(headers: Headers) -> str:
    """The key that a request sends; clients of Anthropic's interface have a header of their own."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")


def _with_headers(send: Send, *, is_shared: bool) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            more = [h for h in HEADERS if not (is_shared and h[0].startswith(b"cross-origin"))]
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return sending


def _name(host: str) -> str:
    """The name in a Host header, without the port; empty if it is invalid."""
    return urlsplit(f"//{host}").hostname or "" if _is_plain(host) else ""


def _is_from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that a page of another origin asks, as for an image in it."""
    return headers.get("sec-fetch-site") in ("cross-site", "same-site")


def _is_plain(host: str) -> bool:
    if any(c in host for c in "/\\@?#%, ") or not host.isascii():
        return False
    try:
        urlsplit(f"//{host}").port  # noqa: B018 - raises for an invalid port
    except ValueError:
        return False
    return True


def _host_of(origin: str) -> str | None:
    """Host and port of an origin, in the form of a Host header; None if there is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
