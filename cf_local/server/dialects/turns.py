"""The turns of OpenAI's chat, and the thinking that a request asks for."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cf_local.server.api_errors import invalid
from cf_local.server.dialects import fields
from cf_local.structured.tools import ToolCall
from cf_local.types import Message

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
THINKING_TOKENS: Mapping[str, int | None] = {
    "minimal": 128,
    "low": 512,
    "medium": 2048,
    "high": 8192,
    "xhigh": None,
}
"""How long a reasoning model may think for each effort that lets it; None for no limit."""


def limit_thinking(settings: dict[str, Any], n_tokens: int | None) -> None:
    """Let thinking take so many tokens, unless ``settings`` say otherwise; None for no limit."""
    if n_tokens is not None:
        settings.setdefault("max_thinking_tokens", n_tokens)


def arguments_text(arguments: Mapping[str, Any]) -> str:
    """The arguments of a call as JSON text. Raises ApiError."""
    try:
        return json.dumps(arguments, ensure_ascii=False)
    except RecursionError:
        raise invalid("The arguments of a call are nested too deeply.", "messages") from None


def arguments_of(call: ToolCall) -> dict[str, Any] | None:
    """The arguments of a call; None if they are cut, or if JSON cannot hold them."""
    try:
        value = json.loads(call.arguments)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def joined(first: Message, second: Message) -> Message:
    """Two turns of the same role, one after the other, as one."""
    text = "\n".join(filter(None, (first.content, second.content)))
    return Message(first.role, text, (*first.tool_calls, *second.tool_calls))


class Turn(fields.Open):
    """A turn. Clients send back what they keep with it: only what cannot be read is refused."""

    role: Literal["system", "developer", "user"]
    content: fields.Text | fields.Parts
    images: fields.NoList = None
    audio: fields.Nothing = None

    @property
    def message(self) -> Message:
        """The turn as sources read it."""
        role = "user" if self.role == "user" else "system"
        return Message(role, fields.text_of(self.content))


class CalledFunction(fields.Open):
    """The function of a call, and the JSON text of its arguments."""

    name: fields.SomeText
    arguments: fields.Text


class Call(fields.Open):
    """A call in a turn of the assistant."""

    id: fields.Text
    type: Literal["function"] | None = None
    function: CalledFunction


class Reply(fields.Open):
    """A turn of the assistant; its thinking (``reasoning_content``) is ignored as in templates."""

    role: Literal["assistant"]
    content: fields.Text | fields.ReplyParts | None = None
    refusal: fields.Text | None = None
    tool_calls: list[Call] | None = None
    images: fields.NoList = None
    audio: fields.Nothing = None
    function_call: fields.Nothing = None

    @property
    def message(self) -> Message:
        """The turn as sources read it."""
        calls = [
            ToolCall(call.function.name, call.function.arguments, call.id)
            for call in self.tool_calls or ()
        ]
        text = fields.text_of(self.content) or self.refusal or ""
        return Message("assistant", text, tuple(calls))


class ToolResult(fields.Open):
    """The result of a call."""

    role: Literal["tool"]
    content: fields.Text | fields.Parts
    tool_call_id: fields.Text

    @property
    def message(self) -> Message:
        """The turn as sources read it."""
        return Message("tool", fields.text_of(self.content), tool_call_id=self.tool_call_id)


def _known_role(turn: object) -> object:
    """Refuse results of functions from before there were tools, as they have no ids."""
    if isinstance(turn, dict) and turn.get("role") == "function":
        raise fields.not_supported("is 'function', which is not supported; use tools", "role")
    return turn


AnyTurn = Annotated[
    Turn | Reply | ToolResult, Field(discriminator="role"), BeforeValidator(_known_role)
]


class TemplateOptions(fields.Open):
    """Options of chat templates."""

    enable_thinking: fields.Flag | None = None
