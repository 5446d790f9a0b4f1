"""Tools (functions) that an answer may call, and the calls in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ToolForm = Literal["tags", "json"]
"""How a call is written: ``<tool_call>`` tags around JSON with "name" and "arguments" (Qwen, Hermes
and others), or bare JSON with "name" and "parameters" (Llama 3)."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that an answer may call; ``parameters`` is the JSON schema of its arguments."""

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
