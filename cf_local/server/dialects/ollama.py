"""``POST /api/chat`` and ``POST /api/generate``: answers in Ollama's interface.

Ollama streams by default, one JSON object per line. A prompt that is empty asks to load
the model. ``ollama_models`` has the other endpoints.
"""

import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from cf_local.server.api_errors import ApiError, OllamaErrorBody, invalid
from cf_local.server.choice import Choice, Delta, Reasoning
from cf_local.server.dialects import fields, function_tools, turns
from cf_local.server.dialects.dialect import NDJSON, Dialect, Formatter, Prepared, ndjson
from cf_local.server.requests import AnswerRequest
from cf_local.structured.calls import Text
from cf_local.structured.tools import ToolCall
from cf_local.types import Chat, Infill, Message, Prompt, RawText

_AT_ONCE = (0, "0", "0s", "0m", "0h")
_NoText = Annotated[Annotated[str, Field(max_length=0)] | None, fields.REFUSED]
KeepAlive = fields.Number | fields.Text


@fields.with_sampling
class Options(fields.Body):
    """The options that have an effect; those of other engines (``num_ctx``, ...) have none."""

    num_predict: Annotated[fields.Whole, Field(ge=-2)] | None = None
    stop: fields.Stops | None = None


class OllamaBody(fields.Body):
    """The fields of all requests."""

    model: fields.SomeText
    options: Options | None = None
    keep_alive: KeepAlive | None = None

    def ignored(self) -> list[str]:
        """The names of the fields that have no effect, also of those in ``options``."""
        options = [] if self.options is None else self.options.ignored()
        return [*super().ignored(), *(f"options.{name}" for name in options)]


class AnswerBody(OllamaBody):
    """The fields of both requests for answers."""

    stream: fields.Flag | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    think: fields.Flag | Literal["low", "medium", "high"] | None = None
    cf_local: fields.Extension | None = None

    def request(self, prompt: Prompt | None) -> AnswerRequest:
        """The request for an answer to a prompt, or to load the model. Raises ApiError."""
        options = self.options or Options()
        settings = fields.settings_of(options, self.cf_local)
        if options.num_predict == 0:
            raise invalid("options.num_predict is 0; leave it out.", "options.num_predict")
        if options.num_predict is not None:
            settings["max_tokens"] = fields.token_limit(options.num_predict)
        if isinstance(self.think, str):
            turns.limit_thinking(settings, turns.THINKING_TOKENS[self.think])
        if self.format:
            settings["response_format"] = fields.response_format(_form(self.format), param="format")
        if prompt is None and self.keep_alive in _AT_ONCE:
            raise invalid(
                "A request cannot unload a model: the server unloads what is unused (--idle).",
                "keep_alive",
                "unsupported_parameter",
            )
        return AnswerRequest(
            model=self.model,
            prompts=() if prompt is None else (prompt,),
            streams=self.stream is not False,
            stop=fields.stops_of(options.stop),
            settings=settings,
        )

    @property
    def thinks(self) -> bool | None:
        """Whether models are asked to think first; None leaves it to them."""
        return self.think if self.think is None else self.think is not False


def _form(form: str | dict[str, Any]) -> fields.FormatModel:
    schema = {"type": "object"} if isinstance(form, str) else form
    return fields.JsonObjectFormat(type="json_object", schema=schema)


class OllamaCalledFunction(fields.Open):
    """The function of a call, with its arguments as an object."""

    name: fields.SomeText
    arguments: dict[str, Any] | None = None


class OllamaCall(fields.Open):
    """A call of a tool; older clients send no id."""

    id: fields.Text | None = None
    function: OllamaCalledFunction


class OllamaTurn(fields.Open):
    """A turn; earlier thinking is not read again."""

    role: Literal["system", "user", "assistant", "tool"]
    content: fields.Text | None = None
    images: fields.NoList = None
    tool_calls: list[OllamaCall] | None = None
    tool_name: fields.Text | None = None
    tool_call_id: fields.Text | None = None


class OllamaChatBody(AnswerBody, function_tools.WithTools):
    """The request for the answer to a conversation."""

    messages: Annotated[list[OllamaTurn], Field(max_length=fields.MOST_MESSAGES)] | None = None
    tools: function_tools.Tools | None = None


class GenerateBody(AnswerBody):
    """The request for the answer to a text."""

    prompt: fields.Text | None = None
    suffix: fields.Text | None = None
    system: fields.Text | None = None
    raw: fields.Flag | None = None
    images: fields.NoList = None
    template: _NoText = None
    context: fields.NoList = None


def messages_of(given: Sequence[OllamaTurn]) -> tuple[Message, ...]:
    """The turns as sources read them.

    A result belongs to the call that it names by its id, else to the first one without a result:
    of that tool, if it names a tool.
    """
    found: list[Message] = []
    waiting: list[ToolCall] = []
    for number, turn in enumerate(given):
        calls = [
            ToolCall(
                call.function.name,
                turns.arguments_text(call.function.arguments or {}),
                call.id or f"call_{number}_{index}",
            )
            for index, call in enumerate(turn.tool_calls or ())
        ]
        id = ""
        if turn.role == "tool":
            id = turn.tool_call_id or _answered(turn.tool_name, waiting)
            waiting = [call for call in waiting if call.id != id]
        found.append(Message(turn.role, turn.content or "", tuple(calls), id))
        waiting += calls
    return tuple(found)


def _answered(name: str | None, waiting: Sequence[ToolCall]) -> str:
    named = [call.id for call in waiting if name in (None, call.name)]
    return next(iter(named), "")


def _prepare_chat(body: OllamaChatBody) -> Prepared:
    tools = function_tools.tools_of(body.callable_tools())
    function_tools.check(tools, "auto")
    prompt = Chat(messages_of(body.messages or ()), body.thinks, tools=tools)
    request = body.request(prompt if prompt.messages else None)
    return request, ChatFormatter(body.model)


def _prepare_generate(body: GenerateBody) -> Prepared:
    return body.request(_prompt(body)), GenerateFormatter(body.model)


def _prompt(body: GenerateBody) -> Prompt | None:
    text, suffix = body.prompt or "", body.suffix or ""
    if body.system and (body.raw or suffix):
        raise invalid("A text that is continued or filled has no system prompt.", "system")
    if suffix:
        return Infill(text, suffix)
    if not text:
        return None
    if body.raw:
        return RawText(text)
    system = [Message("system", body.system)] if body.system else []
    return Chat((*system, Message("user", text)), body.thinks)


class OllamaCalledFields(TypedDict):
    """The function of a call, and its arguments."""

    name: str
    arguments: dict[str, Any]


class OllamaCallFields(TypedDict):
    """A call of a tool."""

    id: str
    function: OllamaCalledFields


class OllamaReplyFields(TypedDict):
    """The answer as a turn, or what a line of a stream adds to it."""

    role: Literal["assistant"]
    content: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[OllamaCallFields]]


class AnswerFields(TypedDict):
    """What responses of both kinds have. Durations are in nanoseconds, counts in tokens."""

    model: str
    created_at: str
    done: bool
    done_reason: NotRequired[Literal["stop", "length", "load"]]
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]
    prompt_eval_duration: NotRequired[int]
    eval_count: NotRequired[int]
    eval_duration: NotRequired[int]


class OllamaChatResponse(AnswerFields):
    """The answer to a conversation."""

    message: OllamaReplyFields


class GenerateResponse(AnswerFields):
    """The answer to a text."""

    response: str
    thinking: NotRequired[str]


class OllamaFormatter(Formatter):
    """Formats responses and the lines of a stream; subclasses format what is in them."""

    stream_type, heartbeat = NDJSON, b""

    def __init__(self, model: str) -> None:
        self._model, self._start = model, time.perf_counter()

    @abstractmethod
    def content(
        self, text: str = "", thinking: str = "", calls: Sequence[OllamaCallFields] = ()
    ) -> dict[str, Any]:
        """The content of a response or a line."""

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """The body of a whole response."""
        if not choices:
            return self._line(self.content()) | self._end(None)
        choice = choices[0]
        content = self.content(choice.text, choice.reasoning, calls_of(choice.calls))
        return self._line(content) | self._end(choice)

    async def events(self, deltas: AsyncIterable[Delta]) -> AsyncGenerator[bytes]:
        """A line for each part, with whole calls, and one with the figures."""
        choice, n_calls = None, 0
        async for delta in deltas:
            choice = delta.choice
            for part in delta.parts:
                if isinstance(part, Text):
                    yield ndjson(self._line(self.content(part.text)))
                elif isinstance(part, Reasoning):
                    yield ndjson(self._line(self.content(thinking=part.text)))
            n_whole = max(0, len(choice.calls) - (not delta.ends))
            for call in calls_of(choice.calls[n_calls:n_whole]):
                yield ndjson(self._line(self.content(calls=[call])))
            n_calls = max(n_calls, n_whole)
        yield ndjson(self._line(self.content()) | self._end(choice))

    def failed(self, error: ApiError) -> bytes:
        """A line with the error."""
        body: OllamaErrorBody = {"error": str(error)}
        return ndjson(body)

    def _line(self, content: dict[str, Any]) -> dict[str, Any]:
        now = timestamp(time.time())
        return {"model": self._model, "created_at": now, **content, "done": False}

    def _end(self, choice: Choice | None) -> dict[str, Any]:
        """What the last line of an answer adds; None if the model was only to be loaded."""
        total_s = time.perf_counter() - self._start
        if choice is None or choice.answer is None:
            return {"done": True, "done_reason": "load"}
        answer = choice.answer
        return {
            "done": True,
            "done_reason": "length" if choice.finish_reason == "length" else "stop",
            "total_duration": nanoseconds(total_s),
            "load_duration": nanoseconds(max(0.0, total_s - answer.elapsed_s)),
            "prompt_eval_count": choice.usage.prompt,
            "prompt_eval_duration": nanoseconds(answer.prompt_s),
            "eval_count": choice.usage.completion,
            "eval_duration": nanoseconds(max(0.0, answer.elapsed_s - answer.prompt_s)),
        }


class ChatFormatter(OllamaFormatter):
    """Formats turns."""

    def content(
        self, text: str = "", thinking: str = "", calls: Sequence[OllamaCallFields] = ()
    ) -> dict[str, Any]:
        """A turn, or a part of one."""
        message: OllamaReplyFields = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = [*calls]
        return {"message": message}


class GenerateFormatter(OllamaFormatter):
    """Formats text."""

    def content(
        self, text: str = "", thinking: str = "", calls: Sequence[OllamaCallFields] = ()
    ) -> dict[str, Any]:
        """Text; there are no calls."""
        return {"response": text} | ({"thinking": thinking} if thinking else {})


def calls_of(calls: Sequence[ToolCall]) -> list[OllamaCallFields]:
    """Calls with their arguments as objects; one that was cut is left out."""
    return [
        {"id": call.id, "function": {"name": call.name, "arguments": arguments}}
        for call in calls
        if (arguments := turns.arguments_of(call)) is not None
    ]


def timestamp(seconds: float) -> str:
    """A time since the epoch, as Ollama writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def nanoseconds(seconds: float) -> int:
    """A duration, as Ollama writes it."""
    return round(seconds * 1e9)


CHAT = Dialect(
    "/api/chat",
    "Answer a conversation.",
    OllamaChatBody,
    OllamaChatResponse,
    _prepare_chat,
    NDJSON,
    OllamaErrorBody,
)
GENERATE = Dialect(
    "/api/generate",
    "Answer, continue or fill a text.",
    GenerateBody,
    GenerateResponse,
    _prepare_generate,
    NDJSON,
    OllamaErrorBody,
)
