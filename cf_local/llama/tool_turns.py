"""Tools, calls and results as a chat template gets them, and as plain turns where it cannot."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cf_local.method.thinking import split
from cf_local.structured.tools import Tool, ToolCall, ToolForm, call_text, instructions
from cf_local.types import Chat, Message

PROBE = Tool(
    "probe_of_tools",
    "Probes the template.",
    {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
)
_PROBE_CALL = ToolCall(PROBE.name, '{"word": "blue"}', "abcdef123")  # Mistral's ids are this long


def has_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> bool:
    """Whether a conversation needs a template that knows tools."""
    return bool(tools) or any(turn.tool_calls or turn.role == "tool" for turn in messages)


def template_turns(messages: Sequence[Message], *, as_text: bool) -> list[dict[str, Any]]:
    """The turns in the shape that chat templates read; ``as_text``: arguments as JSON text."""
    names = {call.id: call.name for turn in messages for call in turn.tool_calls}
    turns = []
    for turn in messages:
        written: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.tool_calls:
            written["tool_calls"] = [_written(call, as_text=as_text) for call in turn.tool_calls]
        if turn.role == "tool":
            written |= {"tool_call_id": turn.tool_call_id, "name": names.get(turn.tool_call_id, "")}
        turns.append(written)
    return turns


def _written(call: ToolCall, *, as_text: bool) -> dict[str, Any]:
    arguments = call.arguments if as_text else _parsed(call.arguments)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _parsed(arguments: str) -> Any:
    """The value of JSON text; other text, which a model may have written, as it is."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def plain_turns(
    messages: Sequence[Message], tools: Sequence[Tool], form: ToolForm
) -> list[Message]:
    """The conversation for a template without tools: all of it as text of the usual roles."""
    turns: list[Message] = []
    was_result = False
    for turn in messages:
        is_result = turn.role == "tool"
        if is_result:
            text = f"<tool_response>\n{turn.content}\n</tool_response>"
            text = f"{turns.pop().content}\n{text}" if was_result else text
            turn = Message("user", text)
        elif turn.tool_calls:
            calls = [call_text(call, form) for call in turn.tool_calls]
            turn = Message(turn.role, "\n".join([turn.content] * bool(turn.content) + calls))
        turns.append(turn)
        was_result = is_result
    if tools:
        text = instructions(tools, form)
        if turns and turns[0].role == "system":
            turns[0] = Message("system", f"{turns[0].content}\n\n{text}")
        else:
            turns.insert(0, Message("system", text))
    return turns


def holds_tools(
    text: str, messages: Sequence[Message], tools: Sequence[Tool], form: ToolForm
) -> bool:
    """Whether a rendered ``text`` has all tools, and all turns with calls as they were written."""
    squeezed = _squeezed(text)
    said = [split(turn.content)[1].strip() for turn in messages if turn.tool_calls]
    calls = [call for turn in messages for call in turn.tool_calls]
    return (
        all(part in text for part in said)
        and all(_squeezed(call_text(_rewritten(call), form)) in squeezed for call in calls)
        and all(tool.name in text for tool in tools)
        and all(n_times(tool.description, text) for tool in tools if tool.description)
    )


def n_times(part: str, text: str) -> int:
    """How often ``text`` has ``part``, as it is or as within JSON."""
    escaped = json.dumps(part, ensure_ascii=False)[1:-1]
    return text.count(part) + (text.count(escaped) if escaped != part else 0)


def _rewritten(call: ToolCall) -> ToolCall:
    return replace(call, arguments=json.dumps(_parsed(call.arguments), ensure_ascii=False))


def _squeezed(text: str) -> str:
    return "".join(text.split())


def probe(form: ToolForm) -> tuple[Message, Message, Message, Message]:
    """A question, an answer that calls PROBE, the same answer as text in ``form``, and a result."""
    return (
        Message("user", "Which word?"),
        Message("assistant", "", (_PROBE_CALL,)),
        Message("assistant", call_text(_PROBE_CALL, form)),
        Message("tool", "It is green.", tool_call_id=_PROBE_CALL.id),
    )


def is_alike(one: str, other: str) -> bool:
    """Whether two rendered texts differ in whitespace only."""
    return _squeezed(one) == _squeezed(other)


def with_texts(chat: Chat, change: Callable[[str], str]) -> Chat:
    """``chat`` with every text changed that a person, a tool or its author wrote."""

    def changed(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, dict):
            return {change(str(key)): changed(inner) for key, inner in value.items()}
        return [changed(inner) for inner in value] if isinstance(value, list | tuple) else value

    def changed_call(call: ToolCall) -> ToolCall:
        # Within JSON, characters may be escaped: what counts is what a template makes of it.
        value = _parsed(call.arguments)
        if isinstance(value, str):
            return replace(call, name=change(call.name), arguments=change(call.arguments))
        arguments = json.dumps(changed(value), ensure_ascii=False)
        return replace(call, name=change(call.name), arguments=arguments)

    turns = tuple(
        replace(
            turn, content=change(turn.content), tool_calls=tuple(map(changed_call, turn.tool_calls))
        )
        for turn in chat.messages
    )
    tools = tuple(
        replace(
            tool,
            name=change(tool.name),
            description=change(tool.description),
            parameters=changed(dict(tool.parameters)),
        )
        for tool in chat.tools
    )
    return replace(chat, messages=turns, tools=tools)
