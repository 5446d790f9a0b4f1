"""What makes a dialect of the interface: its requests, translated, and its responses, formatted."""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cf_local.server.api_errors import ApiError, ErrorBody
from cf_local.server.choice import Choice, Delta
from cf_local.server.dialects.fields import Body
from cf_local.server.requests import AnswerRequest

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


class Formatter(ABC):
    """Formats the answers to one request."""

    stream_type = SSE
    """The media type of a stream."""
    heartbeat = b": still working\n\n"
    """What keeps a silent stream alive; empty where the format has no such thing."""

    @abstractmethod
    def whole(self, choices: Sequence[Choice]) -> Mapping[str, Any]:
        """The body of a response that is not streamed; the choices are complete."""

    @abstractmethod
    def events(self, deltas: AsyncIterable[Delta]) -> AsyncGenerator[bytes]:
        """The events of a stream, encoded, with the last one that ends it.

        Yield nothing before the first delta, so that an earlier failure has a proper status.
        Choices may be interleaved.
        """

    def failed(self, error: ApiError) -> bytes:
        """The event for an error after the start of the stream, which it ends."""
        return sse(error.body)


Prepared = tuple[AnswerRequest, Formatter]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to ask for answers: ``POST path`` with a body of the model ``body``.

    ``prepare`` translates a body and creates the formatter of its answers. It runs in a thread of
    its own and may raise ApiError. ``response`` describes the body of a whole response,
    ``error`` that of an error; ``stream_type`` is the media type of a stream.
    """

    path: str
    summary: str
    body: type[Body]
    response: Any
    prepare: Callable[[Any], Prepared]
    stream_type: str = SSE
    error: Any = ErrorBody


def sse(body: Any, event: str | None = None) -> bytes:
    """A server-sent event with a body in JSON."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def ndjson(body: Any) -> bytes:
    """A line of JSON."""
    return f"{json.dumps(body, ensure_ascii=False)}\n".encode()
