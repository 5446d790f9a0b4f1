"""The routes of the server, and its middleware."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cf_local import __version__
from cf_local.server import catalogue as models
from cf_local.server import openapi, web
from cf_local.server.answering import Answerer
from cf_local.server.api_errors import ApiError
from cf_local.server.catalogue import Catalogue
from cf_local.server.delivery import EventStream, WholeResponse
from cf_local.server.middleware import ApiKey, Guard, Observer, read_body
from cf_local.server.pool import Load, Pool
from cf_local.server.prometheus import Metrics
from cf_local.server.requests import Endpoint, parse_request, read_json
from cf_local.server.responses import ResponseBuilder
from cf_local.server.serve_options import ServeOptions

_NO_STORE = {"cache-control": "no-store"}
_METHODS = {
    "/v1/models": "GET, HEAD",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/health": "GET, HEAD",
    "/metrics": "GET, HEAD",
    "/openapi.json": "GET, HEAD",
}


_WHERE = "The interface is at /v1: for example, POST /v1/chat/completions or GET /v1/models."
_MOST_NAMED = 10
_log = logging.getLogger(__name__)


class Server:
    """OpenAI's interface over a catalogue of models; an ASGI server runs ``app``."""

    def __init__(self, catalogue: Catalogue, load: Load, options: ServeOptions) -> None:
        self.catalogue, self.options = catalogue, options
        self.metrics = Metrics()
        self.pool = Pool(
            load,
            self.metrics,
            n_slots=options.n_slots,
            n_queue=options.n_queue,
            idle_s=options.idle_s,
        )
        self._answerer = Answerer(self.pool, self.metrics, options)
        self._created = int(time.time())
        self._is_ending = False
        self.app = Starlette(
            routes=self._routes(),
            middleware=self._middleware(),
            exception_handlers={HTTPException: _as_api_error},
        )

    def drain(self) -> None:
        """Refuse new requests, as the server is shutting down. Call it from the event loop."""
        self._is_ending = True
        self.pool.drain()

    def _routes(self) -> list[Route | Mount]:
        get = ["GET"]
        return [
            Route("/v1/models", self._models, methods=get),
            Route("/v1/models/{id:path}", self._model, methods=get),
            Route("/v1/chat/completions", self._asked("chat"), methods=["POST"]),
            Route("/v1/completions", self._asked("completion"), methods=["POST"]),
            Route("/health", self._health, methods=get),
            Route("/metrics", self._metrics, methods=get),
            Route("/openapi.json", self._openapi, methods=get),
            Mount("/", _Other(web.page())),
        ]

    def _middleware(self) -> Sequence[Middleware]:
        shared: list[Middleware] = []
        if self.options.allowed_origins:
            shared = [
                Middleware(
                    CORSMiddleware,
                    allow_origins=self.options.allowed_origins,
                    allow_methods=["GET", "POST"],
                    allow_headers=["*"],
                    expose_headers=["retry-after", "warning"],
                )
            ]
        # The observer is inside the CORS layer, so that other origins can read errors.
        observer = Middleware(Observer, self.metrics, self.options)
        return [
            *shared,
            observer,
            Middleware(Guard, self.options),
            Middleware(ApiKey, self.options),
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Unload idle models while entered, and all models at the end."""
        watch = asyncio.create_task(self.pool.watch())
        try:
            yield
        finally:
            watch.cancel()
            await self.pool.close()

    async def _models(self, _request: Request) -> Response:
        found = await asyncio.to_thread(lambda: list(self.catalogue.listed()))
        return _json({"object": "list", "data": [self._as_openai(model) for model in found]})

    async def _model(self, request: Request) -> Response:
        return _json(self._as_openai(self.catalogue.find(request.path_params["id"])))

    def _as_openai(self, model: models.ServedModel) -> dict[str, Any]:
        return models.as_openai(
            model,
            self._created,
            is_default=model.name == self.catalogue.default and model.kind == "fusion",
            is_loaded=self.pool.is_loaded(model),
        )

    def _asked(self, endpoint: Endpoint) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            body = read_json(await read_body(request.receive, request.headers, self.options))
            # Checking a response format may take long.
            parsed = await asyncio.to_thread(
                parse_request,
                body,
                endpoint,
                secrets.randbits(31),
                is_strict=self.options.is_strict,
            )
            headers = _warning(parsed.ignored)
            model = self.catalogue.find(parsed.model)
            builder = ResponseBuilder(parsed)
            if not parsed.streams:
                return WholeResponse(
                    lambda: builder.whole(self._answerer.events(parsed, model)), headers
                )
            events = self._answerer.events(parsed, model)
            return EventStream(builder.chunks(events, model.names), self.options, headers)

        return answer

    async def _health(self, _request: Request) -> Response:
        status = "shutting_down" if self._is_ending else "ok"
        return _json({"status": status, "version": __version__})

    async def _metrics(self, _request: Request) -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return PlainTextResponse(self.metrics.text(), media_type=kind, headers=_NO_STORE)

    async def _openapi(self, _request: Request) -> Response:
        return _json(openapi.description(needs_key=self.options.api_key is not None))


class _Other:
    """The page, and errors for paths of the interface that match no route."""

    def __init__(self, page: ASGIApp) -> None:
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        is_model = path.startswith("/v1/models/")
        if path in _METHODS or is_model:
            allowed = "GET, HEAD" if is_model else _METHODS[path]
            raise HTTPException(405, headers={"Allow": allowed})
        if path == "/v1" or path.startswith("/v1/") or scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(404)
        await self._page(scope, receive, send)


def _warning(ignored: Sequence[str]) -> dict[str, str]:
    """The header, and a line in the log, about parameters without effect."""
    if not ignored:
        return {}
    shown = [re.sub(r"[^\w.-]", "?", name[:40], flags=re.ASCII) for name in ignored[:_MOST_NAMED]]
    more = ", ..." if len(ignored) > _MOST_NAMED else ""
    text = f"Ignored parameters: {', '.join(shown)}{more}"
    _log.warning("%s", text)
    return {"warning": f'299 cf-local "{text}"'}


def _json(content: Any) -> Response:
    return JSONResponse(content, headers=_NO_STORE)


async def _as_api_error(_request: Request, error: Exception) -> Response:
    """Turn errors of the routing into OpenAI's format."""
    known = cast(HTTPException, error)
    messages = {
        404: f"There is nothing at this path. {_WHERE}",
        405: "This path does not take this method.",
    }
    code = {404: "unknown_url", 405: "method_not_allowed"}
    status = known.status_code
    raise ApiError(
        status,
        messages.get(status, known.detail),
        code=code.get(status),
        headers=dict(known.headers or {}),
    )
