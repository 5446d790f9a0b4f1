"""Reads the body of a request: its limits, strict JSON, and errors in the interface's words."""

import asyncio
import difflib
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from cf_local.server.api_errors import ApiError, invalid
from cf_local.server.serve_options import ServeOptions

_OF_PROGRAMS = ("", "application/x-www-form-urlencoded")
_TYPES = ("_type", "int_from_float", "model_attributes_type")


class JsonRoute(APIRoute):
    """A route whose requests have a body in strict JSON, within the limits of the server."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own handler, given a body that is read and parsed already."""
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            options: ServeOptions = request.app.state.options
            _check_type(request)
            raw = await read_body(request.receive, request.headers, options)
            return await handle(_Parsed(request, read_json(raw)))

        return read


class _Parsed(Request):
    """A request whose body is parsed, and which says that it is JSON."""

    def __init__(self, request: Request, value: Any) -> None:
        headers = [each for each in request.scope["headers"] if each[0] != b"content-type"]
        headers.append((b"content-type", b"application/json"))
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._value = value

    async def body(self) -> bytes:
        """A text that is not empty, as there is a value."""
        return b"null"

    async def json(self) -> Any:
        """The value of the body."""
        return self._value


def _check_type(request: Request) -> None:
    """Raise ApiError unless a request says that its body is JSON.

    A form on another site cannot say so. Clients of Ollama often say nothing, or, as curl does,
    that it is a form: that is accepted from programs. A browser that sends such a type, and JSON,
    names its origin, as only a script can do that.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_program = request.url.path.startswith("/api/") and "origin" not in request.headers
    if given != "application/json" and not (is_program and given in _OF_PROGRAMS):
        raise ApiError(
            415, "Send JSON, with the header 'Content-Type: application/json'.", code="not_json"
        )


async def read_body(receive: Receive, headers: Headers, options: ServeOptions) -> bytes:
    """The body of a request. Raises ApiError unless it is short enough and in time."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > options.body_bytes:
        raise _too_long(options)
    try:
        async with asyncio.timeout(options.body_s):
            return await _read(receive, options)
    except TimeoutError:
        raise ApiError(
            408, f"The body did not arrive within {options.body_s:g} seconds.", code="body_timeout",
            headers={"Connection": "close"},
        ) from None  # fmt: skip


async def _read(receive: Receive, options: ServeOptions) -> bytes:
    body = bytearray()
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise invalid("The connection closed before the end of the body.")
        body += message.get("body", b"")
        if len(body) > options.body_bytes:
            raise _too_long(options)
        if not message.get("more_body"):
            return bytes(body)


def _too_long(options: ServeOptions) -> ApiError:
    return ApiError(
        413,
        f"The body is longer than {options.body_bytes} bytes.",
        code="body_too_long",
        headers={"Connection": "close"},
    )


def read_json(raw: bytes) -> Any:
    """The value of a body in strict JSON. Raises ApiError."""
    try:
        return json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise invalid(f"The body is not JSON: {why}.", None, "invalid_json") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def check_known(unknown: Sequence[str], known: Sequence[str]) -> None:
    """Raise ApiError if there are ``unknown`` parameters, with the nearest that is ``known``."""
    for key in unknown:
        name = _shown(key)
        raise invalid(unknown_parameter(name, key, known), name, "unknown_parameter")


def unknown_parameter(name: str, key: str, known: Sequence[str]) -> str:
    """The message about an unknown parameter, with the nearest that is ``known``."""
    close = difflib.get_close_matches(key, known, n=1)
    return f"Unknown parameter: {name!r}." + (f" Did you mean {close[0]!r}?" if close else "")


def error_of(errors: Sequence[Any], body: Any) -> ApiError:
    """The most helpful of pydantic's errors about a body.

    A value of a union has errors about each of its types: the deepest one says most.
    """
    placed = [(_place(error, body), error) for error in errors]
    first = placed[0][0][:1]
    same = [each for each in placed if each[0][:1] == first]
    place, error = max(same, key=lambda each: (len(each[0]), not each[1]["type"].endswith(_TYPES)))
    name = _named(place)
    kind, message = error["type"], error["msg"]
    if kind == "missing" or kind == "union_tag_not_found":
        where = name or "body"
        return invalid(
            f"Missing required parameter: {where!r}.", name, "missing_required_parameter"
        )
    if kind == "unknown_parameter":
        text = unknown_parameter(name or "", str(place[-1]), error["ctx"]["known"])
        return invalid(text, name, kind)
    if kind == "union_tag_invalid":
        message = f"Input should be one of {error['ctx']['expected_tags']}"
    is_type = kind.endswith(_TYPES)
    if is_type:  # all the types that are possible at this place
        messages = [e["msg"] for p, e in same if p == place and e["type"].endswith(_TYPES)]
        message = " or ".join(
            [messages[0], *(m.partition("Input should be ")[2] for m in messages[1:])]
        )
    code = (
        kind
        if kind in ("unsupported_parameter",)
        else "invalid_type"
        if is_type
        else "invalid_value"
    )
    return invalid(f"{message.replace('Input', name or 'The request', 1)}.", name, code)


def _place(error: Mapping[str, Any], body: Any) -> list[str | int]:
    """Keys and indices that lead to the wrong value; pydantic also names types of unions."""
    found: list[str | int] = []
    *way, last = error["loc"] or ("",)
    for step in (*way, last):
        is_inside = (isinstance(body, dict) and step in body) or (
            isinstance(body, list) and isinstance(step, int) and step < len(body)
        )
        if is_inside:
            body = body[step]
            found.append(step)
    context = error.get("ctx", {})
    if error["type"] == "missing":
        found.append(last)
    elif error["type"].startswith("union_tag"):
        found.append(context["discriminator"].strip("'"))
    elif "at" in context:
        found.append(context["at"])
    return found


def _named(place: Sequence[str | int]) -> str | None:
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{_shown(step)}" for step in place)
    return name.removeprefix(".") or None


def _shown(key: str) -> str:
    return key.encode(errors="replace").decode()[:60]
