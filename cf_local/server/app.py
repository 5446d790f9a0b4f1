"""The routes of the server, and its middleware."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import TypedDict

from cf_local import __version__
from cf_local.server import catalogue as models
from cf_local.server import web
from cf_local.server.answering import Answerer
from cf_local.server.api_errors import (
    AnthropicErrorBody,
    ApiError,
    ErrorBody,
    OllamaErrorBody,
)
from cf_local.server.bodies import JsonRoute, check_known, error_of
from cf_local.server.catalogue import Catalogue
from cf_local.server.delivery import EventStream, WholeResponse, whole_answers
from cf_local.server.dialects import dialects, embeddings, messages, responses
from cf_local.server.dialects.dialect import Dialect
from cf_local.server.dialects.fields import Body
from cf_local.server.dialects.ollama_models import OllamaModels
from cf_local.server.dialects.response_events import ResponseFields
from cf_local.server.embedding import Embeddings
from cf_local.server.metrics import Metrics
from cf_local.server.middleware import ApiKey, Guard, Observer, is_open
from cf_local.server.pool import Load, Pool
from cf_local.server.response_store import ResponseStore
from cf_local.server.serve_options import ServeOptions
from cf_local.server.tokens import (
    DetokenizeBody,
    DetokenizeResponse,
    TokenizeBody,
    TokenizeResponse,
    TokenizerInfo,
    Tokenizers,
)

_NO_STORE = {"cache-control": "no-store"}
_ERRORS = {"4XX": "The request cannot be answered as it is.", "5XX": "The server cannot answer."}
_WHERE = "The interface is at /v1: for example, POST /v1/chat/completions or GET /v1/models."
_MOST_NAMED = 10
_log = logging.getLogger(__name__)


class ModelList(TypedDict):
    """All models."""

    object: Literal["list"]
    data: list[models.ModelFields]


class Health(TypedDict):
    """Whether the server runs."""

    status: Literal["ok", "shutting_down"]
    version: str


class Server:
    """The interface over a catalogue of models; an ASGI server runs ``app``."""

    def __init__(self, catalogue: Catalogue, load: Load, options: ServeOptions) -> None:
        self.catalogue, self.options = catalogue, options
        self.metrics = Metrics()
        self.responses = ResponseStore()
        self.pool = Pool(
            load,
            self.metrics,
            n_slots=options.n_slots,
            n_queue=options.n_queue,
            idle_s=options.idle_s,
        )
        self._answerer = Answerer(self.pool, self.metrics, options)
        self._embeddings = Embeddings(catalogue, self.pool, self.metrics, options)
        self._tokenizers = Tokenizers(catalogue, self.pool)
        self._created = int(time.time())
        self._is_ending = False
        self.app = FastAPI(
            title="cf-local",
            version=__version__,
            description="Fusions of local models by OpenAI's, Anthropic's and Ollama's interfaces.",
            openapi_url=None,  # a route of our own, as /docs and /redoc load scripts from elsewhere
            middleware=self._middleware(),
            exception_handlers={
                HTTPException: _refuse_route,
                RequestValidationError: _refuse_body,
            },
        )
        self.app.state.options = options
        self._add_routes()

    def drain(self) -> None:
        """Refuse new requests, as the server is shutting down. Call it from the event loop."""
        self._is_ending = True
        self.pool.drain()

    def _add_routes(self) -> None:
        self._add("GET", "/v1/models", self._models, "List the models.", ModelList)
        self._add("GET", "/v1/models/{id:path}", self._model, "Show one model.", models.ModelFields)
        for dialect in dialects(self.responses):
            answer = self._answers(dialect)
            content: dict[str, Any] = {"application/json": {}, dialect.stream_type: {}}
            self._add(
                "POST",
                dialect.path,
                answer,
                dialect.summary,
                dialect.response,
                content,
                dialect.error,
            )
        embed = self._works(embeddings.EmbeddingBody, self._embed)
        self._add("POST", "/v1/embeddings", embed, "Embed texts.", embeddings.EmbeddingResponse)
        ollama = OllamaModels(self.catalogue, self.pool, self._embeddings)
        for method, path, summary, work, response, body in ollama.routes():
            answer = self._works(body, work) if body else _gets(work)
            self._add(method, path, answer, summary, response, error=OllamaErrorBody)
        tokenize = self._works(TokenizeBody, self._tokenizers.tokenize)
        self._add("POST", "/tokenize", tokenize, "Cut a text into tokens.", TokenizeResponse)
        detokenize = self._works(DetokenizeBody, self._tokenizers.detokenize)
        self._add("POST", "/detokenize", detokenize, "Turn tokens into text.", DetokenizeResponse)
        info = self._tokenizer_info
        self._add(
            "GET", "/tokenizer_info", info, "Show which tokens begin and end a text.", TokenizerInfo
        )
        stored = "/v1/responses/{id}"
        self._add("GET", stored, self._response, "Show a stored response.", ResponseFields)
        self._add("DELETE", stored, self._delete, "Delete it.", responses.DeletedFields)
        self._add(
            "POST",
            "/v1/messages/count_tokens",
            self._count_tokens,
            "Count the tokens of a conversation.",
            messages.CountResponse,
            error=AnthropicErrorBody,
        )
        self._add("GET", "/health", self._health, "Show whether the server runs.", Health)
        figures = {"text/plain": {"schema": {"type": "string"}}}
        self._add("GET", "/metrics", self._figures, "Show metrics for Prometheus.", None, figures)
        self._add("GET", "/openapi.json", self._openapi, "This document.", dict[str, Any])
        self.app.mount("/", _Other(web.page(), self._allowed))

    def _add(
        self,
        method: str,
        path: str,
        work: Callable[..., Any],
        summary: str,
        response: Any,
        content: Mapping[str, Any] | None = None,
        error: Any = ErrorBody,
    ) -> None:
        """Add a route, described by the types of its responses and other ``content`` of them.

        The body of a POST is that parameter of ``work`` which is a pydantic model.
        """
        bearer = HTTPBearer(scheme_name="key", auto_error=False)  # for the description only
        needs_key = self.options.api_key is not None and not is_open(path)
        router = self.app.router
        described: dict[int | str, Any] = {200: {"content": content}} if content else {}
        for statuses, text in _ERRORS.items():
            described[statuses] = {"model": error, "description": text}
        router.add_api_route(
            path,
            work,
            methods=[method],
            summary=summary,
            response_model=response,
            response_class=JSONResponse if response else PlainTextResponse,
            responses=described,
            dependencies=[Depends(bearer)] if needs_key else [],
            route_class_override=JsonRoute if method == "POST" else None,
        )
        if method == "GET":
            router.add_api_route(path, work, methods=["HEAD"], include_in_schema=False)

    def _middleware(self) -> Sequence[Middleware]:
        shared: list[Middleware] = []
        if self.options.allowed_origins:
            shared = [
                Middleware(
                    CORSMiddleware,
                    allow_origins=self.options.allowed_origins,
                    allow_methods=["GET", "POST", "DELETE"],
                    allow_headers=["*"],
                    expose_headers=["retry-after", "warning"],
                )
            ]
        # The observer is inside the CORS layer, so that other origins can read errors.
        observer = Middleware(Observer, self.metrics, self.options, self._label)
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

    async def _models(self) -> Response:
        found = await asyncio.to_thread(lambda: list(self.catalogue.listed()))
        return _json(ModelList(object="list", data=[self._as_openai(model) for model in found]))

    async def _model(self, id: str) -> Response:
        return _json(self._as_openai(await asyncio.to_thread(self.catalogue.find, id)))

    def _as_openai(self, model: models.ServedModel) -> models.ModelFields:
        return models.as_openai(
            model,
            self._created,
            is_default=model.id == self.catalogue.default,
            is_loaded=self.pool.is_loaded(model),
            loading=self.pool.loading(model),
        )

    def _answers(self, dialect: Dialect) -> Callable[..., Any]:
        """The endpoint of a dialect."""

        async def answer(body: Any) -> Response:
            headers = self._ignoring(body)
            # Checking a response format may take long.
            request, formatter = await asyncio.to_thread(dialect.prepare, body)
            model = await asyncio.to_thread(self.catalogue.answering, request.model)
            deltas = self._answerer.deltas(request, model)
            if request.streams:
                return EventStream(formatter, deltas, self.options, headers)
            return WholeResponse(whole_answers(formatter, deltas), headers)

        answer.__annotations__ = {"body": dialect.body}
        return answer

    def _works(
        self, model: type[Body], work: Callable[[Any], Coroutine[Any, Any, Any]]
    ) -> Callable[..., Any]:
        """The endpoint of work that takes a body of a model, and may take long."""

        async def answer(body: Any) -> Response:
            headers = self._ignoring(body)
            return WholeResponse(work(body), headers)

        answer.__annotations__ = {"body": model}
        return answer

    async def _embed(self, body: embeddings.EmbeddingBody) -> embeddings.EmbeddingResponse:
        return await embeddings.answer(body, self._embeddings)

    async def _count_tokens(self, body: messages.PromptBody) -> Response:
        headers = self._ignoring(body)
        request = await asyncio.to_thread(messages.counted, body)
        model = await asyncio.to_thread(self.catalogue.answering, request.model)

        async def count() -> messages.CountResponse:
            return {"input_tokens": await self._answerer.n_prompt_tokens(request, model)}

        return WholeResponse(count(), headers)

    async def _tokenizer_info(self, model: str | None = None) -> Response:
        return WholeResponse(self._tokenizers.info(model), {})

    async def _response(self, id: str) -> Response:
        found = self.responses.get(id)
        if found is None:
            raise responses.not_found(id)
        return _json(found.body)

    async def _delete(self, id: str) -> Response:
        if not self.responses.delete(id):
            raise responses.not_found(id)
        return _json(responses.DeletedFields(id=id, object="response", deleted=True))

    def _ignoring(self, body: Body) -> dict[str, str]:
        """Headers about unknown parameters of a body, or an ApiError if they are refused."""
        ignored = body.ignored()
        if self.options.is_strict:
            check_known(ignored, list(type(body).model_fields))
        return _warning(ignored)

    async def _health(self) -> Response:
        status: Any = "shutting_down" if self._is_ending else "ok"
        return _json(Health(status=status, version=__version__))

    async def _figures(self) -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        text = await asyncio.to_thread(self.metrics.text)  # it may ask replicas
        return PlainTextResponse(text, media_type=kind, headers=_NO_STORE)

    async def _openapi(self) -> Response:
        return _json(self.app.openapi())

    def _at(self, path: str) -> list[APIRoute]:
        """The routes at a path, of all methods."""
        routes = [route for route in self.app.routes if isinstance(route, APIRoute)]
        return [route for route in routes if route.path_regex.match(path)]

    def _label(self, path: str) -> str:
        """One of a few labels for a path, as clients can invent any number of paths."""
        found = self._at(path)
        return found[0].path_format if found else "/" if path == "/" else "other"

    def _allowed(self, path: str) -> str:
        """The methods that a path takes, as a header lists them; empty for an unknown path."""
        methods = {method for route in self._at(path) for method in route.methods or ()}
        return ", ".join(sorted(methods))


class _Other:
    """The page, and errors for paths of the interface that match no route."""

    def __init__(self, page: ASGIApp, allowed: Callable[[str], str]) -> None:
        self._page, self._allowed = page, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if allowed := self._allowed(path):
            raise HTTPException(405, headers={"Allow": allowed})
        if f"{path}/".startswith(("/v1/", "/api/")) or scope["method"] not in ("GET", "HEAD"):
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


def _gets(work: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
    """The endpoint of work that takes no body."""

    async def answer() -> Response:
        return _json(await work())

    return answer


def _json(content: Any) -> Response:
    return JSONResponse(content, headers=_NO_STORE)


async def _refuse_route(_request: Request, error: Exception) -> Response:
    """Raise errors of the routing as errors of the interface."""
    known = cast(HTTPException, error)
    messages = {
        404: f"There is nothing at this path. {_WHERE}",
        405: "This path does not support this method.",
    }
    code = {404: "unknown_url", 405: "method_not_allowed"}
    status = known.status_code
    raise ApiError(
        status,
        messages.get(status, known.detail),
        code=code.get(status),
        headers=dict(known.headers or {}),
    )


async def _refuse_body(_request: Request, error: Exception) -> Response:
    """Raise errors of validation as errors of the interface."""
    known = cast(RequestValidationError, error)
    # Their places begin with "body", where path and query have places, too.
    raise error_of([{**each, "loc": each["loc"][1:]} for each in known.errors()], known.body)
