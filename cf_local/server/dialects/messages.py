"""``POST /v1/messages``: Anthropic's chat. The requests; ``message_events`` has the responses."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, Tag
from typing_extensions import TypedDict

from cf_local.server.api_errors import AnthropicErrorBody
from cf_local.server.dialects import fields, function_tools, turns
from cf_local.server.dialects.dialect import Dialect, Prepared
from cf_local.server.dialects.message_events import MessageFormatter, MessageResponse
from cf_local.server.requests import AnswerRequest
from cf_local.structured.tools import Tool, ToolCall
from cf_local.types import Chat, Message

_READABLE = fields.readable("text", "tool_use", "tool_result", "thinking", "redacted_thinking")
_CHOICES = {"any": "required"}


TextBlock = fields.TextPart
TextBlocks = list[Annotated[TextBlock, _READABLE]]


class ToolUseBlock(fields.Open):
    """A call of a tool."""

    type: Literal["tool_use"]
    id: fields.Text
    name: fields.SomeText
    input: dict[str, Any]


class ThinkingBlock(fields.Open):
    """Earlier thinking, which is not read again."""

    type: Literal["thinking", "redacted_thinking"]


class ToolResultBlock(fields.Open):
    """The result of a call."""

    type: Literal["tool_result"]
    tool_use_id: fields.Text
    content: fields.Text | TextBlocks | None = None
    is_error: fields.Flag | None = None

    @property
    def message(self) -> Message:
        """The result as sources read it, as a turn of its own."""
        text = fields.text_of(self.content)
        if self.is_error:
            text = f"Error: {text}" if text else "Error"
        return Message("tool", text, tool_call_id=self.tool_use_id)


_UserBlock = Annotated[TextBlock | ToolResultBlock, Field(discriminator="type"), _READABLE]
_ReplyBlock = Annotated[
    TextBlock | ToolUseBlock | ThinkingBlock,
    Field(discriminator="type"),
    _READABLE,
]


class UserTurn(fields.Open):
    """What the user says, and the results of calls."""

    role: Literal["user"]
    content: fields.Text | Annotated[list[_UserBlock], Field(min_length=1)]

    def messages(self) -> Iterator[Message]:
        """The turn as sources read it: each result is a turn of its own."""
        for block in [self.content] if isinstance(self.content, str) else self.content:
            if isinstance(block, ToolResultBlock):
                yield block.message
            else:
                yield Message("user", block if isinstance(block, str) else block.text)


class ReplyTurn(fields.Open):
    """What the assistant said, and its calls."""

    role: Literal["assistant"]
    content: fields.Text | list[_ReplyBlock]

    def messages(self) -> Iterator[Message]:
        """The turn as sources read it."""
        blocks = [] if isinstance(self.content, str) else self.content
        texts = [block for block in blocks if isinstance(block, TextBlock)]
        calls = [
            ToolCall(block.name, turns.arguments_text(block.input), block.id)
            for block in blocks
            if isinstance(block, ToolUseBlock)
        ]
        text = self.content if isinstance(self.content, str) else fields.text_of(texts)
        yield Message("assistant", text, tuple(calls))


class SystemTurn(fields.Open):
    """Instructions within a conversation."""

    role: Literal["system"]
    content: fields.Text | TextBlocks

    def messages(self) -> Iterator[Message]:
        """The turn as sources read it."""
        yield Message("system", fields.text_of(self.content))


class ClientTool(fields.Open):
    """A function of the client, and a JSON schema of its input."""

    type: Literal["custom"] | None = None
    name: fields.SomeText
    description: fields.Text | None = None
    input_schema: dict[str, Any]
    strict: fields.Flag | None = None


class AnyChoice(fields.Open):
    """Whether a tool has to be called, or must not be."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: fields.Flag | None = None


class NamedChoice(fields.Open):
    """The tool to call."""

    type: Literal["tool"]
    name: fields.SomeText
    disable_parallel_tool_use: fields.Flag | None = None


class Thinks(fields.Open):
    """Think first, but not for long."""

    type: Literal["enabled"]
    budget_tokens: Annotated[fields.Whole, Field(ge=1, le=fields.MOST_TOKENS)]


class MayThink(fields.Open):
    """Do not think first, or as the model likes."""

    type: Literal["disabled", "adaptive", "between_tools"]


class OutputForm(fields.Open):
    """A schema for the answer."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(fields.Open):
    """How much thinking, and which form the answer has."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputForm | None = None


class PromptBody(function_tools.WithTools):
    """What a request asks: all that its prompt is made from."""

    model: fields.SomeText
    messages: Annotated[
        list[Annotated[UserTurn | ReplyTurn | SystemTurn, Field(discriminator="role")]],
        Field(min_length=1, max_length=fields.MOST_MESSAGES),
    ]
    system: fields.Text | TextBlocks | None = None
    tools: (
        Annotated[
            list[
                Annotated[
                    Annotated[ClientTool, Tag("known")] | function_tools.Other,
                    function_tools.kinds_of_tools("custom"),
                ]
            ],
            Field(max_length=function_tools.MOST_TOOLS),
        ]
        | None
    ) = None
    tool_choice: Annotated[AnyChoice | NamedChoice, Field(discriminator="type")] | None = None
    thinking: Annotated[Thinks | MayThink, Field(discriminator="type")] | None = None
    output_config: OutputConfig | None = None
    cf_local: fields.Extension | None = None
    mcp_servers: fields.NoList = None
    # Accepted, without effect:
    cache_control: Any = None
    context_management: Any = None
    diagnostics: Any = None
    inference_geo: Any = None
    metadata: Any = None
    service_tier: Any = None
    speed: Any = None

    def chat(self) -> Chat:
        """The conversation. May take long. Raises ApiError."""
        choice, tools = self._tools()
        function_tools.check(tools, choice)
        given = self.tool_choice
        is_parallel = given is None or not given.disable_parallel_tool_use
        thinks = None
        if self.thinking is not None:
            thinks = {"enabled": True, "disabled": False}.get(self.thinking.type)
        return Chat(
            self._messages(),
            thinks,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=is_parallel,
        )

    def settings(self) -> dict[str, Any]:
        """The settings that the body has. May take long. Raises ApiError."""
        settings = fields.settings_of(self, self.cf_local)
        config = self.output_config or OutputConfig()
        if config.format is not None:
            form = fields.JsonObjectFormat(type="json_object", schema=config.format.schema_)
            where = "output_config.format"
            settings["response_format"] = fields.response_format(form, param=where)
        limit = turns.THINKING_TOKENS.get(config.effort or "max")
        if isinstance(self.thinking, Thinks):
            limit = self.thinking.budget_tokens
        turns.limit_thinking(settings, limit)
        return settings

    def _messages(self) -> tuple[Message, ...]:
        """The turns; those of one role that follow each other are one, as with Anthropic."""
        found = [Message("system", text)] if (text := fields.text_of(self.system)) else []
        for turn in self.messages:
            for message in turn.messages():
                last = found[-1] if found else None
                if last is not None and message.role == last.role != "tool":
                    found[-1] = turns.joined(last, message)
                else:
                    found.append(message)
        return tuple(found)

    def _tools(self) -> tuple[str, tuple[Tool, ...]]:
        tools = tuple(
            Tool(tool.name, tool.description or "", tool.input_schema, bool(tool.strict))
            for tool in self.callable_tools()
        )
        match self.tool_choice:
            case NamedChoice(name=name):
                return name, tools
            case AnyChoice(type=kind):
                return _CHOICES.get(kind, kind), tools
        return "auto", tools


@fields.with_sampling
class MessageBody(PromptBody):
    """The request."""

    max_tokens: Annotated[fields.Whole, Field(ge=1)]
    stop_sequences: Annotated[list[fields.Text], Field(max_length=fields.MOST_STOPS)] | None = None
    stream: fields.Flag | None = None


def _prepare(body: MessageBody) -> Prepared:
    settings = body.settings()
    chat = body.chat()
    request = AnswerRequest(
        model=body.model,
        prompts=(chat,),
        streams=bool(body.stream),
        stop=fields.stops_of(body.stop_sequences),
        settings=settings | {"max_tokens": min(body.max_tokens, fields.MOST_TOKENS)},
    )
    return request, MessageFormatter(request)


class CountResponse(TypedDict):
    """The tokens of a prompt, by the first source that takes part."""

    input_tokens: int


def counted(body: PromptBody) -> AnswerRequest:
    """A request whose prompt is only counted. May take long. Raises ApiError."""
    settings = body.settings()
    chat = body.chat()
    return AnswerRequest(model=body.model, prompts=(chat,), settings=settings)


DIALECT = Dialect(
    "/v1/messages",
    "Answer a conversation, as Anthropic's interface does.",
    MessageBody,
    MessageResponse,
    _prepare,
    error=AnthropicErrorBody,
)
