"""The tools of OpenAI's chat: functions that an answer may call."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from cf_local.errors import InputError
from cf_local.server.api_errors import invalid
from cf_local.server.dialects import fields
from cf_local.structured.tool_grammar import tools_format
from cf_local.structured.tools import Tool

MOST_TOOLS = 128


class Function(fields.Open):
    """What a function does, and a JSON schema of its arguments."""

    name: fields.SomeText
    description: fields.Text | None = None
    parameters: dict[str, Any] | None = None
    strict: fields.Flag | None = None


IS_FUNCTION = fields.of_types(("function", "allowed_tools"), "a fusion calls functions")


class FunctionTool(fields.Open):
    """A tool; the only kind is a function."""

    type: Literal["function"]
    function: Function


class Named(fields.Open):
    """The name of a function."""

    name: fields.SomeText


class NamedTool(fields.Open):
    """One of the tools."""

    type: Literal["function"]
    function: Named


class AllowedTools(fields.Open):
    """Some of the tools, and whether one has to be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1)]


class AllowedChoice(fields.Open):
    """A choice of some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


Tools = Annotated[list[Annotated[FunctionTool, IS_FUNCTION]], Field(max_length=MOST_TOOLS)]
Word = Literal["none", "auto", "required"]
Choice = Word | Annotated[NamedTool | AllowedChoice, Field(discriminator="type"), IS_FUNCTION]


class HasFunction(Protocol):
    """A tool of any dialect of OpenAI."""

    @property
    def function(self) -> Function:
        """The function."""


def tools_of(tools: Sequence[HasFunction]) -> tuple[Tool, ...]:
    """The tools as the engine takes them."""
    return tuple(
        Tool(
            tool.function.name,
            tool.function.description or "",
            tool.function.parameters or {},
            bool(tool.function.strict),
        )
        for tool in tools
    )


def choice_of(
    choice: str | NamedTool | AllowedChoice | None, tools: tuple[Tool, ...]
) -> tuple[str, tuple[Tool, ...]]:
    """The choice as the engine takes it, and the tools that it leaves."""
    match choice:
        case NamedTool():
            return choice.function.name, tools
        case AllowedChoice():
            names = {tool.function.name for tool in choice.allowed_tools.tools}
            if unknown := sorted(names - {tool.name for tool in tools}):
                raise invalid(f"No tool is named {unknown[0][:60]!r}.", "tool_choice.allowed_tools")
            allowed = tuple(tool for tool in tools if tool.name in names)
            return choice.allowed_tools.mode, allowed
    return choice or "auto", tools


def check(tools: Sequence[Tool], choice: str) -> None:
    """Raise ApiError for tools and choices that cannot be kept. May take long."""
    if choice == "none" or (choice == "auto" and not tools):
        return
    if not tools:
        raise invalid("tool_choice needs tools.", "tool_choice")
    if choice not in ("auto", "required") and choice not in [tool.name for tool in tools]:
        raise invalid(f"No tool is named {choice[:60]!r}.", "tool_choice")
    try:
        tools_format(tools, "tags", choice=choice)
    except InputError as error:
        raise invalid(str(error), "tools") from None
