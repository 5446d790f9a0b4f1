"""The input of OpenAI's Responses: turns, calls of tools and their results, as items of a list."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from cf_local.server.dialects import fields, turns
from cf_local.structured.tools import ToolCall
from cf_local.types import Message

_READABLE = fields.readable("input_text", "output_text", "text", "refusal")


def _kind(item: Any) -> Any:
    """The type of an item; that of a turn may be left out."""
    return (item.get("type") if isinstance(item, dict) else None) or "message"


class TextPart(fields.Open):
    """A part of a content."""

    type: Literal["input_text", "output_text", "text"]
    text: fields.Text


Content = (
    fields.Text
    | list[Annotated[TextPart | fields.RefusalPart, Field(discriminator="type"), _READABLE]]
)


class TurnItem(fields.Open):
    """A turn."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content

    def message(self) -> Message | None:
        """The turn as sources read it."""
        role = "system" if self.role == "developer" else self.role
        return Message(role, fields.text_of(self.content))


class CallItem(fields.Open):
    """A call of a tool, which belongs to the turn of the assistant before it, if there is one."""

    type: Literal["function_call"]
    call_id: fields.Text
    name: fields.SomeText
    arguments: fields.Text

    def message(self) -> Message | None:
        """The call as sources read it."""
        call = ToolCall(self.name, self.arguments, self.call_id)
        return Message("assistant", "", (call,))


class ResultItem(fields.Open):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: fields.Text
    output: Content

    def message(self) -> Message | None:
        """The result as sources read it."""
        return Message("tool", fields.text_of(self.output), tool_call_id=self.call_id)


class ReasoningItem(fields.Open):
    """Earlier thinking, which is not read again."""

    type: Literal["reasoning"]

    def message(self) -> Message | None:
        """None."""
        return None


_KINDS = ("message", "function_call", "function_call_output", "reasoning")


def _known(item: Any) -> Any:
    kind = _kind(item)
    if kind not in _KINDS:
        shown = repr(kind)[:60]
        raise fields.not_supported(f"is {shown}, which is not supported", "type")
    return item


Item = Annotated[
    Annotated[TurnItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[ResultItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind),
    BeforeValidator(_known),
]
Input = fields.Text | Annotated[list[Item], Field(min_length=1, max_length=fields.MOST_MESSAGES)]


def messages_of(given: Input) -> tuple[Message, ...]:
    """The turns of an input."""
    if isinstance(given, str):
        return (Message("user", given),)
    return joined(message for item in given if (message := item.message()) is not None)


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The same turns, but calls in that of the assistant before them."""
    found: list[Message] = []
    for message in messages:
        if found and message.tool_calls and found[-1].role == "assistant":
            found[-1] = turns.joined(found[-1], message)
        else:
            found.append(message)
    return tuple(found)
