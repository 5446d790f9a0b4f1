"""Errors in the format of each interface, and how the library's errors map to them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from typing_extensions import TypedDict

from cf_local.errors import (
    BrokenModelError,
    Cancelled,
    CfLocalError,
    ClosedError,
    ClusterError,
    ConfigError,
    ContextError,
    InputError,
    MissingModelError,
    OutOfMemoryError,
)

_log = logging.getLogger(__name__)

INVALID = "invalid_request_error"
SERVER = "server_error"
_MOST_NAMED = 20
NO_RETRY: Mapping[str, str] = {"x-should-retry": "false"}
"""OpenAI's client libraries do not retry then: it would fail in the same way."""


class ErrorFields(TypedDict):
    """What went wrong; ``param`` names the place in the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The body of an error response."""

    error: ErrorFields


class ApiError(Exception):
    """An error response; ``kind``, ``code`` and ``param`` are those of OpenAI's errors."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.param = status, kind, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> ErrorBody:
        """The JSON body of the response in OpenAI's shape."""
        fields: ErrorFields = {
            "message": str(self), "type": self.kind, "param": self.param, "code": self.code,
        }  # fmt: skip
        return {"error": fields}

    def body_at(self, path: str) -> Mapping[str, Any]:
        """The JSON body in the shape of the interface that ``path`` belongs to."""
        for start, shape in SHAPES.items():
            if path.startswith(start):
                return shape(self)
        return self.body


class AnthropicErrorBody(TypedDict):
    """The body of an error response of Anthropic's interface, with OpenAI's fields in it."""

    type: Literal["error"]
    error: ErrorFields


class OllamaErrorBody(TypedDict):
    """The body of an error response of Ollama's interface."""

    error: str


def _of_anthropic(error: ApiError) -> AnthropicErrorBody:
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
    kinds |= {413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error"}
    other = "api_error" if error.status >= 500 else INVALID
    kind = kinds.get(error.status, other)
    return {"type": "error", "error": {**error.body["error"], "type": kind}}


def _of_ollama(error: ApiError) -> OllamaErrorBody:
    return {"error": str(error)}


SHAPES: Mapping[str, Callable[[ApiError], Mapping[str, Any]]] = {
    "/v1/messages": _of_anthropic,
    "/api/": _of_ollama,
}
"""The shapes of errors at paths of interfaces other than OpenAI's, by how the paths begin."""


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The error for an invalid request."""
    return ApiError(400, message, param=param, code=code)


def of_answer(error: CfLocalError) -> ApiError:
    """The error to show a client when an answer fails."""
    if isinstance(error, ContextError):
        return ApiError(400, str(error), code="context_length_exceeded", param="messages")
    if isinstance(error, InputError):
        return invalid(str(error))
    if isinstance(error, ClosedError | Cancelled):
        return shutting_down()
    if isinstance(error, OutOfMemoryError):
        return ApiError(503, str(error), kind=SERVER, code="out_of_memory", headers=NO_RETRY)
    if isinstance(error, ClusterError):
        message = "The replica that was asked has died. Send the request again."
        _log.error("An answer failed: %s", error)
        return ApiError(
            503, message, kind=SERVER, code="replica_lost", headers={"Retry-After": "1"}
        )
    _log.error("An answer failed: %s", error)
    return ApiError(500, "The answer failed. The server's log says why.", kind=SERVER)


def of_load(error: CfLocalError, model: str) -> ApiError:
    """The error for a model that cannot be loaded; paths go to the log, not to clients."""
    _log.error("%s could not be loaded: %s", model, error)
    if isinstance(error, MissingModelError):
        return ApiError(
            404,
            f"The files of the model {model!r} are not on the server's machine. "
            "Run `cf-local pull` there.",
            code="model_not_found",
            param="model",
        )
    if isinstance(error, OutOfMemoryError):
        return ApiError(503, str(error), kind=SERVER, code="out_of_memory", headers=NO_RETRY)
    if isinstance(error, ClosedError | Cancelled):
        return shutting_down()
    why = {BrokenModelError: "its file is broken", ConfigError: "models.toml is wrong"}
    reason = next((text for kind, text in why.items() if isinstance(error, kind)), "loading failed")
    return ApiError(
        503,
        f"The model {model!r} cannot be used: {reason}. The server's log says more.",
        kind=SERVER,
        code="model_unavailable",
        param="model",
        headers=NO_RETRY,
    )


def model_not_found(model: str, hint: str, there: Sequence[str]) -> ApiError:
    """The error for an unknown model; ``there`` are the models that are on this machine."""
    some = ", ".join(there[:_MOST_NAMED]) + (", ..." if len(there) > _MOST_NAMED else "")
    models = (
        f"The models here are {some}." if there else "There are no models on the server's machine."
    )
    return ApiError(
        404,
        f"No model is named {model!r}{hint}. {models}",
        code="model_not_found",
        param="model",
    )


def shutting_down() -> ApiError:
    """The error while the server is shutting down."""
    message = "The server is shutting down."
    return ApiError(503, message, kind=SERVER, code="shutting_down", headers={"Retry-After": "5"})


def queue_full(retry_after_s: int) -> ApiError:
    """The error when the queue is full."""
    return ApiError(
        429,
        "Too many requests are waiting. Try again later, or start the server with a longer --queue "
        "or more --parallel answers.",
        kind="rate_limit_error",
        code="queue_full",
        headers={"Retry-After": str(retry_after_s)},
    )


def timed_out(limit_s: float, advice: str = "Ask for fewer max_tokens.") -> ApiError:
    """The error for an answer that takes longer than the server allows."""
    return ApiError(
        504,
        f"The answer took longer than the {limit_s:g} seconds that the server allows (--timeout). "
        f"{advice}",
        kind=SERVER,
        code="timeout",
        headers=NO_RETRY,
    )
