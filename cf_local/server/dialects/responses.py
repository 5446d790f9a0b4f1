"""``POST /v1/responses``: OpenAI's newer chat. The requests; ``response_events`` answers them."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, Tag
from typing_extensions import TypedDict

from cf_local.server.api_errors import ApiError, invalid
from cf_local.server.choice import Choice
from cf_local.server.dialects import fields, function_tools, openai, turns
from cf_local.server.dialects.dialect import Dialect, Prepared
from cf_local.server.dialects.response_events import ResponseFields, ResponseFormatter
from cf_local.server.dialects.response_items import Input, messages_of
from cf_local.server.requests import AnswerRequest
from cf_local.server.response_store import ResponseStore
from cf_local.structured.tools import Tool
from cf_local.types import Chat, Message

_LOGPROBS = "message.output_text.logprobs"


class FlatTool(function_tools.Function):
    """A tool; the only kind is a function, whose fields it has itself."""

    type: Literal["function"]

    @property
    def function(self) -> function_tools.Function:
        """The function."""
        return self


class FlatChoice(fields.Open):
    """One of the tools."""

    type: Literal["function"]
    name: fields.SomeText

    @property
    def nested(self) -> function_tools.NamedTool:
        """The same as the chat has it."""
        return function_tools.NamedTool(
            type="function", function=function_tools.Named(name=self.name)
        )


class FlatAllowed(fields.Open):
    """Some of the tools, and whether one has to be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FlatChoice], Field(min_length=1)]

    @property
    def nested(self) -> function_tools.AllowedChoice:
        """The same as the chat has it."""
        allowed = function_tools.AllowedTools(
            mode=self.mode, tools=[tool.nested for tool in self.tools]
        )
        return function_tools.AllowedChoice(type="allowed_tools", allowed_tools=allowed)


class SchemaFormat(fields.JsonSchema):
    """A value of a schema."""

    type: Literal["json_schema"]

    @property
    def nested(self) -> fields.JsonSchemaFormat:
        """The same as the chat has it."""
        return fields.JsonSchemaFormat(type="json_schema", json_schema=self)


class TextConfig(fields.Open):
    """The form of the text; ``verbosity`` has no effect."""

    format: (
        Annotated[
            fields.TextFormat | fields.JsonObjectFormat | SchemaFormat | fields.GrammarFormat,
            Field(discriminator="type"),
        ]
        | None
    ) = None
    verbosity: Any = None


class Reasoning(fields.Open):
    """How long to think; with a ``summary`` thinking is reported as one."""

    effort: turns.Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


@fields.with_sampling
class ResponseBody(function_tools.WithTools):
    """The request."""

    model: fields.SomeText
    input: Input
    instructions: fields.Text | None = None
    max_output_tokens: openai.Limit | None = None
    tools: (
        Annotated[
            list[
                Annotated[
                    Annotated[FlatTool, Tag("known")] | function_tools.Other,
                    function_tools.kinds_of_tools("function"),
                ]
            ],
            Field(max_length=function_tools.MOST_TOOLS),
        ]
        | None
    ) = None
    tool_choice: (
        function_tools.Word
        | Annotated[
            FlatChoice | FlatAllowed, Field(discriminator="type"), function_tools.IS_FUNCTION
        ]
        | None
    ) = None
    parallel_tool_calls: fields.Flag | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    previous_response_id: fields.Text | None = None
    store: fields.Flag | None = None
    stream: fields.Flag | None = None
    include: list[fields.Text] | None = None
    top_logprobs: openai.NLogprobs | None = None
    metadata: Annotated[dict[fields.Text, fields.Text], Field(max_length=16)] | None = None
    cf_local: fields.Extension | None = None
    background: fields.No = None
    conversation: fields.Nothing = None
    prompt: fields.Nothing = None
    # Accepted, without effect:
    max_tool_calls: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    stream_options: Any = None
    truncation: Literal["auto", "disabled"] | None = None
    user: fields.Text | None = None

    def settings(self) -> dict[str, Any]:
        """The settings that the body has. May take long. Raises ApiError."""
        settings = fields.settings_of(self, self.cf_local)
        limit = self.max_output_tokens
        if limit is not None:
            settings["max_tokens"] = fields.token_limit(limit)
        given = self.text.format if self.text is not None else None
        form = given.nested if isinstance(given, SchemaFormat) else given
        wanted = fields.response_format(form, param="text.format")
        if wanted is not None:
            settings["response_format"] = wanted
        turns.limit_thinking(settings, turns.THINKING_TOKENS.get(self._effort or "none"))
        return settings

    def chat(self, before: tuple[Message, ...]) -> Chat:
        """The conversation that goes on from ``before``. May take long. Raises ApiError."""
        choice, tools = self._tools()
        function_tools.check(tools, choice)
        messages = (*before, *messages_of(self.input))
        if not messages:
            raise invalid("The input has no turns. Add a turn of the user.", "input")
        return Chat(
            (*self.instructions_turn, *messages),
            False if self._effort == "none" else None,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=self.parallel_tool_calls is not False,
        )

    @property
    def instructions_turn(self) -> tuple[Message, ...]:
        """The instructions, for this response only, as turns."""
        return (Message("system", self.instructions),) if self.instructions else ()

    @property
    def _effort(self) -> str | None:
        return self.reasoning.effort if self.reasoning is not None else None

    def _tools(self) -> tuple[str, tuple[Tool, ...]]:
        choice = self.tool_choice
        nested = choice if isinstance(choice, str | None) else choice.nested
        return function_tools.choice_of(nested, function_tools.tools_of(self.callable_tools()))

    def echo(self) -> dict[str, Any]:
        """What a response repeats of the request. Raises ApiError for what JSON cannot hold."""
        choice, form = self.tool_choice, self.text.format if self.text is not None else None
        reasoning = self.reasoning or Reasoning()
        repeated = {
            "background": False,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "reasoning": reasoning.model_dump(),
            "store": self.store is not False,
            "temperature": getattr(self, "temperature", None),
            "text": {"format": _dumped(form) if form is not None else {"type": "text"}},
            "tool_choice": choice if isinstance(choice, str) else _dumped(choice) or "auto",
            "tools": [tool.model_dump() for tool in self.callable_tools()],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": getattr(self, "top_p", None),
            "truncation": self.truncation or "disabled",
            "user": self.user,
        }
        try:
            json.dumps(repeated, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            message = (
                "A schema contains a number, or half of a character, that JSON cannot express."
            )
            raise invalid(message, "tools" if self.tools else "text") from None
        return repeated


def dialect(store: ResponseStore) -> Dialect:
    """The dialect of one server, which keeps responses in ``store``."""
    return Dialect(
        "/v1/responses",
        "Answer a conversation, and keep it.",
        ResponseBody,
        ResponseFields,
        partial(_prepare, store=store),
    )


def _prepare(body: ResponseBody, store: ResponseStore) -> Prepared:
    before = _messages_before(body.previous_response_id, store)
    settings = body.settings()
    chat = body.chat(before)
    shows_logprobs = _LOGPROBS in (body.include or ())
    request = AnswerRequest(
        model=body.model,
        prompts=(chat,),
        streams=bool(body.stream),
        settings=settings,
        n_logprobs=body.top_logprobs or 0 if shows_logprobs else None,
    )

    def keep(response: Mapping[str, Any], choice: Choice) -> None:
        if body.store is not False:
            messages = chat.messages[len(body.instructions_turn) :]
            store.add(response, _conversation(messages, choice))

    summarizes = bool(body.reasoning and body.reasoning.summary)
    return request, ResponseFormatter(request, body.echo(), keep, summarizes=summarizes)


def _messages_before(id: str | None, store: ResponseStore) -> tuple[Message, ...]:
    """The conversation up to the end of a stored response. Raises ApiError."""
    if id is None:
        return ()
    found = store.get(id)
    if found is None:
        message = f"Previous response with id {id[:100]!r} not found."
        raise invalid(message, "previous_response_id", "previous_response_not_found")
    return found.messages


class DeletedFields(TypedDict):
    """That a response is deleted."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


def not_found(id: str) -> ApiError:
    """The error for a response that is not stored."""
    return ApiError(404, f"Response with id {id[:100]!r} not found.", param="id", code="not_found")


def _conversation(messages: tuple[Message, ...], choice: Choice) -> tuple[Message, ...]:
    """A conversation with its answer, which continues a last turn of the assistant."""
    answer = Message("assistant", choice.text, tuple(choice.calls))
    if messages[-1].role == "assistant":
        *messages_before, last = messages
        answer = Message("assistant", last.content + choice.text, tuple(choice.calls))
        return (*messages_before, answer)
    return (*messages, answer)


def _dumped(model: Any) -> Any:
    return None if model is None else model.model_dump(by_alias=True, exclude_none=True)
