"""Sees every request: takes its time, logs a line, and turns a failure into a proper error.

A line has no prompt in it, nor anything else a client sent but method and path.
"""

import logging
import time
import traceback

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cf_local.server.delivery import ClientGone
from cf_local.server.errors import SERVER, ApiError
from cf_local.server.metrics import Metrics
from cf_local.server.options import ServeOptions

_log = logging.getLogger(__name__)

GONE = 499
"""What a request is logged as whose client did not wait for the response."""
_ROUTES = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics"}
    | {"/openapi.json", "/"}
)


def error_response(error: ApiError) -> Response:
    """The response that tells of an error."""
    headers = {"cache-control": "no-store"} | error.headers
    return JSONResponse(error.body, error.status, headers)


class Observer:
    """The outermost layer of ours."""

    def __init__(self, app: ASGIApp, metrics: Metrics, options: ServeOptions) -> None:
        self._app, self._metrics, self._options = app, metrics, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(send)
        start = time.perf_counter()
        try:
            try:
                await self._app(scope, receive, seen.send)
            except ApiError as error:
                self._metrics.errors.add(error.code or error.kind)
                await self._tell(error, seen, scope, receive)
        except ClientGone:
            seen.status = GONE
        except Exception as error:  # noqa: BLE001 - the server goes on
            await self._fail(error, seen, scope, receive)
        finally:
            self._note(scope, seen.status, time.perf_counter() - start)

    async def _fail(self, error: Exception, seen: "_Seen", scope: Scope, receive: Receive) -> None:
        self._metrics.errors.add("internal")
        # The words of an unexpected error may repeat a prompt; where it came from does not.
        told = repr(error) if self._options.logs_prompts else type(error).__name__
        trace = "".join(traceback.format_tb(error.__traceback__))
        _log.error("A request failed: %s\n%s", told, trace)
        message = "Something failed in the server; its log says what."
        await self._tell(ApiError(500, message, kind=SERVER), seen, scope, receive)

    async def _tell(self, error: ApiError, seen: "_Seen", scope: Scope, receive: Receive) -> None:
        if seen.status is None:
            await error_response(error)(scope, receive, seen.send)

    def _note(self, scope: Scope, status: int | None, seconds: float) -> None:
        route = _route(scope["path"])
        self._metrics.requests.add(route, str(status or GONE))
        self._metrics.request_s.observe(seconds, route)
        path = scope["path"].encode("ascii", "backslashreplace").decode()[:200]
        _log.info("%s %r %s %.3f s", scope["method"][:20], path, status or GONE, seconds)


class _Seen:
    """Passes messages on and remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        """Pass it on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _route(path: str) -> str:
    """Few words for many paths, which anybody can make up."""
    if path in _ROUTES:
        return path
    return "/v1/models/{id}" if path.startswith("/v1/models/") else "other"
