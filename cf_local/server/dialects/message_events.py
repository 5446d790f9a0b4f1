"""Answers as Anthropic's interface gives them: whole messages, and the events of a stream."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Sequence
from typing import Any, Literal

from typing_extensions import TypedDict

from cf_local.server.api_errors import ApiError
from cf_local.server.choice import CallStart, Choice, Delta, Part, Reasoning, Usage, new_id
from cf_local.server.dialects import turns
from cf_local.server.dialects.dialect import Formatter, sse
from cf_local.server.requests import AnswerRequest
from cf_local.structured.calls import CallArguments, Text

_PATH = "/v1/messages"
_SIGNATURE = "unsigned"
"""Clients expect that thinking is signed, and send it back; here it is not read again."""

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class TextFields(TypedDict):
    """Text of the answer."""

    type: Literal["text"]
    text: str


class ThinkingFields(TypedDict):
    """Thinking before the answer."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class ToolUseFields(TypedDict):
    """A call of a tool."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class OutputDetails(TypedDict):
    """Tokens of the thinking."""

    thinking_tokens: int


class UsageFields(TypedDict):
    """Tokens, counted by the first source that takes part; those read before count apart."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputDetails


class MessageResponse(TypedDict):
    """A whole response."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[TextFields | ThinkingFields | ToolUseFields]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: UsageFields


class MessageFormatter(Formatter):
    """Formats one answer."""

    heartbeat = sse({"type": "ping"}, "ping")

    def __init__(self, request: AnswerRequest) -> None:
        self._request = request
        self._id = new_id("msg_")

    def whole(self, choices: Sequence[Choice]) -> MessageResponse:
        """A message."""
        (choice,) = choices
        content: list[TextFields | ThinkingFields | ToolUseFields] = []
        if choice.reasoning:
            thinking = choice.reasoning
            content.append({"type": "thinking", "thinking": thinking, "signature": _SIGNATURE})
        if choice.text:
            content.append({"type": "text", "text": choice.text})
        for call in choice.calls:
            given = turns.arguments_of(call) or {}
            content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
        message = self._message()
        reason, sequence = self._stop(choice)
        message["stop_reason"], message["stop_sequence"] = reason, sequence
        message["content"], message["usage"] = content, _usage(choice)
        return message

    async def events(self, deltas: AsyncIterable[Delta]) -> AsyncGenerator[bytes]:
        """The events; the usage comes with the last but one."""
        blocks = _Blocks()
        async for delta in deltas:
            if delta.opens:
                yield _event({"type": "message_start", "message": self._message()})
                yield self.heartbeat
            for part in delta.parts:
                for event in blocks.add(part):
                    yield _event(event)
            if delta.ends:
                for event in blocks.close():
                    yield _event(event)
                reason, sequence = self._stop(delta.choice)
                end = {"stop_reason": reason, "stop_sequence": sequence}
                usage = _usage(delta.choice)
                yield _event({"type": "message_delta", "delta": end, "usage": usage})
        yield _event({"type": "message_stop"})

    def failed(self, error: ApiError) -> bytes:
        """An event of its own."""
        return sse(error.body_at(_PATH), "error")

    def _message(self) -> MessageResponse:
        """A message before anything is written."""
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(None),
        }

    def _stop(self, choice: Choice) -> tuple[StopReason, str | None]:
        """Why the answer ended, and the stop sequence that ended it, if the request named it."""
        sequence = choice.answer.stop if choice.answer is not None else ""
        if choice.finish_reason == "stop" and sequence in self._request.stop:
            return "stop_sequence", sequence
        reasons: dict[str, StopReason] = {"length": "max_tokens", "tool_calls": "tool_use"}
        return reasons.get(choice.finish_reason, "end_turn"), None


class _Blocks:
    """The blocks of a stream: one after the other, each opened, added to and closed."""

    def __init__(self) -> None:
        self._index = -1
        self._kind: str | None = None

    def add(self, part: Part) -> Iterator[dict[str, Any]]:
        """The events for a part."""
        match part:
            case Reasoning(text):
                if self._kind != "thinking":
                    block = {"type": "thinking", "thinking": "", "signature": ""}
                    yield from self._open(block)
                yield self._delta({"type": "thinking_delta", "thinking": text})
            case Text(text):
                if self._kind != "text":
                    yield from self._open({"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
            case CallStart(_, id, name):
                yield from self._open({"type": "tool_use", "id": id, "name": name, "input": {}})
            case CallArguments(_, text):
                yield self._delta({"type": "input_json_delta", "partial_json": text})

    def close(self) -> Iterator[dict[str, Any]]:
        """The end of the open block, if there is one."""
        if self._kind == "thinking":
            yield self._delta({"type": "signature_delta", "signature": _SIGNATURE})
        if self._kind is not None:
            yield {"type": "content_block_stop", "index": self._index}
        self._kind = None

    def _open(self, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self.close()
        self._index, self._kind = self._index + 1, block["type"]
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def _event(body: dict[str, Any]) -> bytes:
    return sse(body, body["type"])


def _usage(choice: Choice | None) -> UsageFields:
    """The tokens of an answer; zeros before it has any."""
    usage = Usage() if choice is None else choice.usage
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }
