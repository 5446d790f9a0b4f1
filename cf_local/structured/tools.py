"""Tools (functions) that an answer may call, the calls in it, and how a model learns of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cf_local.errors import InputError

ToolForm = Literal["tags", "json"]
"""How a call is written: ``<tool_call>`` tags around JSON with "name" and "arguments" (Qwen, Hermes
and others), or bare JSON with "name" and "parameters" (Llama 3)."""

OPENING, CLOSING = "<tool_call>", "</tool_call>"
ARGUMENTS: Mapping[ToolForm, str] = {"tags": "arguments", "json": "parameters"}
"""The member of a call that holds its arguments."""

# In the words of the templates of Qwen 2.5 and Hermes, and of Llama 3.
_TAGS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{tools}\n"
    "</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)
_JSON = (
    "You have access to the following functions. To call a function, please respond with JSON for "
    'a function call. Respond in the format {{"name": function name, "parameters": dictionary of '
    "argument name and its value}}. Do not use variables.\n\n{tools}"
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that an answer may call; ``parameters`` is the JSON schema of its arguments.

    Without ``parameters`` it takes none. A ``strict`` one is refused if its schema holds what
    cannot be guaranteed.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; ``arguments`` is the JSON text of an object."""

    name: str
    arguments: str
    id: str = ""


def described(tool: Tool) -> dict[str, Any]:
    """A tool as OpenAI's interface and chat templates describe it."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def tools_text(tools: Sequence[Tool]) -> str:
    """The descriptions of tools, one a line. Raises InputError for what JSON cannot hold."""
    try:
        return "\n".join(json.dumps(described(tool), ensure_ascii=False) for tool in tools)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"The parameters of a tool are not JSON: {error}.") from None


def instructions(tools: Sequence[Tool], form: ToolForm) -> str:
    """System text that explains tools to a model whose template cannot."""
    return (_TAGS if form == "tags" else _JSON).format(tools=tools_text(tools))


def call_text(call: ToolCall, form: ToolForm) -> str:
    """A call as a model writes it."""
    name = json.dumps(call.name, ensure_ascii=False)
    written = f'{{"name": {name}, "{ARGUMENTS[form]}": {call.arguments}}}'
    return f"{OPENING}\n{written}\n{CLOSING}" if form == "tags" else written
