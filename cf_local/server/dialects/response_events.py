"""Answers as OpenAI's Responses give them: items of output, and the typed events of a stream."""

import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from typing_extensions import TypedDict

from cf_local.server import tracing
from cf_local.server.api_errors import ApiError
from cf_local.server.choice import CallStart, Choice, Delta, Part, Reasoning, new_id
from cf_local.server.dialects.dialect import Formatter, sse
from cf_local.server.requests import AnswerRequest
from cf_local.structured.calls import CallArguments, Text
from cf_local.types import Step

Status = Literal["in_progress", "completed", "incomplete", "failed"]
_ERROR_CODES = {429: "rate_limit_exceeded", 400: "invalid_prompt"}
"""The codes that a failed response may have; any other is a server_error."""


class FailureFields(TypedDict):
    """Why a response failed."""

    code: str
    message: str


class IncompleteFields(TypedDict):
    """Why an answer is cut."""

    reason: Literal["max_output_tokens"]


class InputDetails(TypedDict):
    """Tokens of the prompt that had been read before; those kept for later are not counted."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(TypedDict):
    """Tokens of the thinking."""

    reasoning_tokens: int


class UsageFields(TypedDict):
    """Tokens, counted by the first source that takes part."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseFields(TypedDict):
    """A response; ``output`` has items of the types message, function_call and reasoning."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    error: FailureFields | None
    incomplete_details: IncompleteFields | None
    model: str
    output: list[dict[str, Any]]
    usage: UsageFields | None
    background: bool
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: dict[str, Any]
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: str
    user: str | None


class ResponseFormatter(Formatter):
    """Formats one answer."""

    def __init__(
        self,
        request: AnswerRequest,
        echo: Mapping[str, Any],
        keep: Callable[[Mapping[str, Any], Choice], None],
        *,
        summarizes: bool,
    ) -> None:
        """``echo`` repeats the request; ``keep`` receives the complete response."""
        self._request, self._echo, self._keep = request, echo, keep
        self._output = _Output(_SUMMARY if summarizes else _THINKING)
        self._id = new_id("resp_")
        self._created = int(time.time())
        self._n_sent = 0

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """The response."""
        (choice,) = choices
        for part, step in _parts(choice):
            for _ in self._output.add(part, self._logprobs(choice, part, step)):
                pass
        for _ in self._output.end(choice):
            pass
        return self._ended(choice)

    async def events(self, deltas: AsyncIterable[Delta]) -> AsyncGenerator[bytes]:
        """The events; the last one has the response."""
        async for delta in deltas:
            choice = delta.choice
            if delta.opens:
                for event in self._started():
                    yield event
            for part in delta.parts:
                logprobs = self._logprobs(choice, part, delta.step)
                for body in self._output.add(part, logprobs):
                    yield self._event(body)
            if delta.ends:
                for body in self._output.end(choice):
                    yield self._event(body)
                response = self._ended(choice)
                kind = f"response.{response['status']}"
                yield self._event({"type": kind, "response": response})

    def failed(self, error: ApiError) -> bytes:
        """The response, failed."""
        code = _ERROR_CODES.get(error.status, "server_error")
        failure = {"error": {"code": code, "message": str(error)}}
        before = b"" if self._n_sent else b"".join(self._started())
        response = self._response("failed") | failure | {"output": self._output.items}
        return before + self._event({"type": "response.failed", "response": response})

    def _started(self) -> Iterator[bytes]:
        for kind in ("response.created", "response.in_progress"):
            yield self._event({"type": kind, "response": self._response("in_progress")})

    def _ended(self, choice: Choice) -> dict[str, Any]:
        """The complete response, which is kept."""
        is_cut, usage = choice.finish_reason == "length", choice.usage
        ended = {
            "completed_at": int(time.time()),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": self._output.items,
            "usage": {
                "input_tokens": usage.prompt,
                "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
                "output_tokens": usage.completion,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning},
                "total_tokens": usage.prompt + usage.completion,
            },
        }
        response = self._response("incomplete" if is_cut else "completed") | ended
        self._keep(response, choice)
        return response

    def _response(self, status: Status) -> dict[str, Any]:
        """The response before anything is written."""
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._request.model,
            "output": [],
            "usage": None,
            **self._echo,
        }

    def _event(self, body: dict[str, Any]) -> bytes:
        self._n_sent += 1
        return sse(body | {"sequence_number": self._n_sent - 1}, body["type"])

    def _logprobs(self, choice: Choice, part: Part, step: Step | None) -> list[Any]:
        n_top = self._request.n_logprobs
        if n_top is None or step is None or not isinstance(part, Text):
            return []
        return [tracing.chat_logprobs(step, part.text, choice.settings, n_top)]


def _parts(choice: Choice) -> Iterator[tuple[Part, Step | None]]:
    """The parts of a complete answer, each with the step that it comes from."""
    if choice.reasoning:
        yield Reasoning(choice.reasoning), None
    for step, text in choice.pieces:
        yield Text(text), step
    for index, call in enumerate(choice.calls):
        yield CallStart(index, call.id, call.name), None
        yield CallArguments(index, call.arguments), None


class _Form(NamedTuple):
    """How an item that holds text names it, and the events about it."""

    kind: str
    prefix: str
    parts: str
    part_type: str
    position: str
    part_event: str
    text_event: str


_TALK = _Form(
    "message", "msg_", "content", "output_text", "content_index", "content_part", "output_text"
)
_THINKING = _Form(
    "reasoning", "rs_", "content", "reasoning_text", "content_index", "content_part",
    "reasoning_text",
)  # fmt: skip
_SUMMARY = _Form(
    "reasoning", "rs_", "summary", "summary_text", "summary_index", "reasoning_summary_part",
    "reasoning_summary_text",
)  # fmt: skip


class _Output:
    """The items of a response: one after the other, each opened, added to and closed."""

    def __init__(self, thinking: _Form) -> None:
        """``thinking`` is how thinking is reported."""
        self.items: list[dict[str, Any]] = []
        self._thinking = thinking
        self._form: _Form | None = None  # of the open item; None for a call
        self._is_open = False

    def add(self, part: Part, logprobs: list[Any]) -> Iterator[dict[str, Any]]:
        """The events for a part."""
        match part:
            case Reasoning(text):
                yield from self._add_text(self._thinking, text, [])
            case Text(text):
                yield from self._add_text(_TALK, text, logprobs)
            case CallStart(_, id, name):
                item = {"id": new_id("fc_"), "type": "function_call"}
                item |= {"status": "in_progress", "call_id": id, "name": name, "arguments": ""}
                yield from self._open(item, None)
            case CallArguments(_, text):
                self.items[-1]["arguments"] += text
                yield self._at("response.function_call_arguments.delta", delta=text)

    def end(self, choice: Choice) -> Iterator[dict[str, Any]]:
        """The end of the open item. An answer without any has an empty message."""
        if all(item["type"] == "reasoning" for item in self.items):
            yield from self._add_text(_TALK, "", [])
        yield from self._close("incomplete" if choice.finish_reason == "length" else "completed")

    def _add_text(self, form: _Form, text: str, logprobs: list[Any]) -> Iterator[dict[str, Any]]:
        if not self._is_open or self._form is not form:
            item: dict[str, Any] = {"id": new_id(form.prefix), "type": form.kind}
            item |= {"status": "in_progress"}
            item["role" if form is _TALK else "summary"] = "assistant" if form is _TALK else []
            yield from self._open(item | {form.parts: []}, form)
            part: dict[str, Any] = {"type": form.part_type, "text": ""}
            part |= {"annotations": [], "logprobs": []} if form is _TALK else {}
            yield self._in_part(form, f"{form.part_event}.added", part=part)
            self.items[-1][form.parts].append(part)
        part = self.items[-1][form.parts][0]
        part["text"] += text
        more = {}
        if form is _TALK:
            part["logprobs"] += logprobs
            more = {"logprobs": logprobs}
        if text:
            yield self._in_part(form, f"{form.text_event}.delta", delta=text, **more)

    def _open(self, item: dict[str, Any], form: _Form | None) -> Iterator[dict[str, Any]]:
        yield from self._close("completed")
        self.items.append(item)
        self._form, self._is_open = form, True
        yield {
            "type": "response.output_item.added",
            "output_index": len(self.items) - 1,
            "item": item,
        }

    def _close(self, status: Status) -> Iterator[dict[str, Any]]:
        if not self._is_open:
            return
        self._is_open = False
        item, form = self.items[-1], self._form
        if form is None:
            given = item["arguments"]
            kind = "response.function_call_arguments.done"
            yield self._at(kind, name=item["name"], arguments=given)
        else:
            part = item[form.parts][0]
            more = {"logprobs": part["logprobs"]} if form is _TALK else {}
            yield self._in_part(form, f"{form.text_event}.done", text=part["text"], **more)
            yield self._in_part(form, f"{form.part_event}.done", part=part)
        item["status"] = status
        yield {
            "type": "response.output_item.done",
            "output_index": len(self.items) - 1,
            "item": item,
        }

    def _in_part(self, form: _Form, kind: str, **more: Any) -> dict[str, Any]:
        """An event about the part of the open item; each item has one."""
        return self._at(f"response.{kind}", **{form.position: 0}, **more)

    def _at(self, kind: str, **more: Any) -> dict[str, Any]:
        """An event about the open item."""
        index = len(self.items) - 1
        return {"type": kind, "item_id": self.items[-1]["id"], "output_index": index, **more}
