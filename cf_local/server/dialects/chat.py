"""``POST /v1/chat/completions``: OpenAI's chat."""

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from cf_local.server import tracing
from cf_local.server.api_errors import invalid
from cf_local.server.choice import Choice, Part, Text
from cf_local.server.dialects import fields, openai
from cf_local.server.dialects.dialect import Dialect, Prepared
from cf_local.server.requests import AnswerRequest
from cf_local.types import Chat, Message

_MOST_MESSAGES = 4096
_NoFunction = Annotated[Literal["none", "auto"] | None, fields.REFUSED]
_Modalities = Annotated[list[Literal["text"]], Field(min_length=1)]


class Turn(fields.Open):
    """A turn. Clients send back what they keep with it: only what cannot be read is refused."""

    role: Literal["system", "developer", "user"]
    content: fields.Text | fields.Parts
    images: fields.NoList = None
    audio: fields.Nothing = None


class Reply(fields.Open):
    """A turn of the assistant."""

    role: Literal["assistant"]
    content: fields.Text | fields.ReplyParts | None = None
    refusal: fields.Text | None = None
    images: fields.NoList = None
    audio: fields.Nothing = None
    function_call: fields.Nothing = None
    tool_calls: fields.NoList = None


class TemplateOptions(fields.Open):
    """Options of chat templates."""

    enable_thinking: fields.Flag | None = None


class ChatBody(openai.OpenAIBody):
    """The request."""

    messages: Annotated[
        list[Annotated[Turn | Reply, Field(discriminator="role")]],
        Field(min_length=1, max_length=_MOST_MESSAGES),
    ]
    max_completion_tokens: openai.Limit | None = None
    logprobs: fields.Flag | None = None
    top_logprobs: openai.NLogprobs | None = None
    chat_template_kwargs: TemplateOptions | None = None
    tools: fields.NoList = None
    tool_choice: _NoFunction = None
    functions: fields.NoList = None
    function_call: _NoFunction = None
    modalities: Annotated[_Modalities | None, fields.REFUSED] = None
    audio: fields.Nothing = None
    prediction: fields.Nothing = None
    web_search_options: fields.Nothing = None


class Logprobs(TypedDict):
    """The log-probabilities of an answer."""

    content: list[tracing.SegmentLogprobs]
    refusal: None


class ReplyFields(TypedDict):
    """The answer as a turn."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(openai.ChoiceFields):
    """One answer."""

    message: ReplyFields
    logprobs: Logprobs | None


ChatResponse = openai.ResponseFields[ChatChoice]


def _prepare(body: ChatBody) -> Prepared:
    template = body.chat_template_kwargs
    thinks = template.enable_thinking if template else None
    request = AnswerRequest(
        prompts=(Chat(tuple(map(_message, body.messages)), thinks),),
        n_logprobs=_n_logprobs(body),
        **body.common(_max_tokens(body)),
    )
    return request, ChatFormatter(body, request)


def _message(turn: Turn | Reply) -> Message:
    text = fields.text_of(turn.content)
    if isinstance(turn, Reply):
        return Message("assistant", text or turn.refusal or "")
    return Message("user" if turn.role == "user" else "system", text)


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
        """A delta with text."""
        return {"delta": {"content": part.text if isinstance(part, Text) else ""}}

    def closing(self) -> dict[str, Any]:
        """An empty delta."""
        return {"delta": {}}

    def content(self, choice: Choice) -> dict[str, Any]:
        """A message."""
        return {"message": {"role": "assistant", "content": choice.text, "refusal": None}}

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
