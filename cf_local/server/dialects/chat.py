"""``POST /v1/chat/completions``: OpenAI's chat."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from cf_local.server import tracing
from cf_local.server.api_errors import invalid
from cf_local.server.choice import CallStart, Choice, Part, Reasoning
from cf_local.server.dialects import fields, function_tools, openai, turns
from cf_local.server.dialects.dialect import Dialect, Prepared
from cf_local.server.requests import AnswerRequest
from cf_local.structured.calls import CallArguments, Text
from cf_local.types import Chat

_NoFunction = Annotated[Literal["none", "auto"] | None, fields.REFUSED]
_OnlyText = Annotated[list[Literal["text"]], Field(min_length=1)]


class ChatBody(openai.OpenAIBody, function_tools.WithTools):
    """The request."""

    messages: Annotated[list[turns.AnyTurn], Field(min_length=1, max_length=fields.MOST_MESSAGES)]
    max_completion_tokens: openai.Limit | None = None
    logprobs: fields.Flag | None = None
    top_logprobs: openai.NLogprobs | None = None
    tools: function_tools.Tools | None = None
    tool_choice: function_tools.Choice | None = None
    parallel_tool_calls: fields.Flag | None = None
    reasoning_effort: turns.Effort | None = None
    chat_template_kwargs: turns.TemplateOptions | None = None
    functions: fields.NoList = None
    function_call: _NoFunction = None
    modalities: Annotated[_OnlyText | None, fields.REFUSED] = None
    audio: fields.Nothing = None
    prediction: fields.Nothing = None
    web_search_options: fields.Nothing = None


class Logprobs(TypedDict):
    """The log-probabilities of the text of an answer."""

    content: list[tracing.SegmentLogprobs]
    refusal: None


class CalledFields(TypedDict):
    """The function of a call, and the JSON text of its arguments."""

    name: str
    arguments: str


class CallFields(TypedDict):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFields


class ReplyFields(TypedDict):
    """The answer as a turn."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[CallFields]]


class ChatChoice(openai.ChoiceFields):
    """One answer."""

    message: ReplyFields
    logprobs: Logprobs | None


ChatResponse = openai.ResponseFields[ChatChoice]


def _prepare(body: ChatBody) -> Prepared:
    common = body.common(_max_tokens(body))
    effort, template = body.reasoning_effort, body.chat_template_kwargs
    thinks = False if effort == "none" else None
    if template is not None and template.enable_thinking is not None:
        thinks = template.enable_thinking
    turns.limit_thinking(common["settings"], turns.THINKING_TOKENS.get(effort or "none"))
    choice, tools = function_tools.choice_of(
        body.tool_choice, function_tools.tools_of(body.callable_tools())
    )
    function_tools.check(tools, choice)
    prompt = Chat(
        tuple(turn.message for turn in body.messages),
        thinks,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
    )
    request = AnswerRequest(prompts=(prompt,), n_logprobs=_n_logprobs(body), **common)
    return request, ChatFormatter(body, request)


def _max_tokens(body: ChatBody) -> int | None:
    limits = {body.max_tokens, body.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise invalid(
            "max_tokens and max_completion_tokens mean the same, but differ. Leave one out.",
            "max_tokens",
        )
    return next(iter(limits), None)


def _n_logprobs(body: ChatBody) -> int | None:
    if not body.logprobs:
        if body.top_logprobs:
            raise invalid("top_logprobs needs logprobs: true.", "top_logprobs")
        return None
    return body.top_logprobs or 0


class ChatFormatter(openai.OpenAIFormatter):
    """``chat.completion``."""

    prefix, whole_object, chunk_object = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def opening(self) -> dict[str, Any] | None:
        """A delta with the role."""
        return {"delta": {"role": "assistant", "content": ""}}

    def part(self, part: Part | None) -> dict[str, Any]:
        """A delta with text, thinking, or a piece of a call."""
        match part:
            case Reasoning(text):
                return {"delta": {"reasoning_content": text}}
            case CallStart(index, id, name):
                function = {"name": name, "arguments": ""}
                call = {"index": index, "id": id, "type": "function", "function": function}
                return {"delta": {"tool_calls": [call]}}
            case CallArguments(index, text):
                more = {"index": index, "function": {"arguments": text}}
                return {"delta": {"tool_calls": [more]}}
            case Text(text):
                return {"delta": {"content": text}}
        return {"delta": {"content": ""}}

    def closing(self) -> dict[str, Any]:
        """An empty delta."""
        return {"delta": {}}

    def content(self, choice: Choice) -> dict[str, Any]:
        """A message."""
        text = choice.text
        message: ReplyFields = {"role": "assistant", "content": text, "refusal": None}
        if choice.reasoning:
            message["reasoning_content"] = choice.reasoning
        if choice.calls:
            message["content"] = text or None
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in choice.calls
            ]
        return {"message": message}

    def logprobs(self, choice: Choice, n_pieces: int | None) -> Logprobs:
        """A segment as a token, with the likeliest candidates."""
        n_top = self._request.n_logprobs or 0
        pieces = choice.pieces[-n_pieces:] if n_pieces else choice.pieces
        settings = choice.settings
        tokens = [tracing.chat_logprobs(step, text, settings, n_top) for step, text in pieces]
        return {"content": tokens, "refusal": None}


DIALECT = Dialect(
    "/v1/chat/completions", "Answer a conversation.", ChatBody, ChatResponse, _prepare
)
