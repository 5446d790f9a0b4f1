"""The tools of OpenAI's chat: functions that an answer may call."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import Discriminator, Field, Tag, model_validator

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


_WHY = "a fusion calls functions"
IS_FUNCTION = fields.of_types(("function", "allowed_tools"), _WHY)


class OtherTool(fields.Open):
    """A tool that a fusion cannot call, such as a search of the web by the server."""

    type: fields.Text


def kinds_of_tools(known: str) -> Discriminator:
    """Tells tools of the type ``known``, or of none, from OtherTool ("other")."""

    def tag(tool: Any) -> str:
        kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
        return "other" if isinstance(kind, str) and kind != known else "known"

    return Discriminator(tag)


Other = Annotated[OtherTool, Tag("other")]


class WithTools(fields.Body):
    """A body with ``tools``. Others than functions are ignored among functions, refused alone.

    Agents offer many, and expect a server to leave out those that it lacks.
    """

    def callable_tools(self) -> list[Any]:
        """The functions."""
        return [tool for tool in self._offered() if not isinstance(tool, OtherTool)]

    def ignored(self) -> list[str]:
        """The names of the fields, and the types of the tools, that have no effect."""
        others = [tool.type for tool in self._offered() if isinstance(tool, OtherTool)]
        return [*super().ignored(), *(f"tools.{kind}" for kind in dict.fromkeys(others))]

    @model_validator(mode="after")
    def _has_a_function(self) -> Self:
        offered = self._offered()
        if offered and not self.callable_tools():
            raise fields.not_supported_type(offered[0].type, _WHY, "tools[0].type")
        return self

    def _offered(self) -> list[Any]:
        return getattr(self, "tools", None) or []


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


Tools = Annotated[
    list[Annotated[Annotated[FunctionTool, Tag("known")] | Other, kinds_of_tools("function")]],
    Field(max_length=MOST_TOOLS),
]
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
