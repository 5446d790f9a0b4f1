"""What OpenAI's two older interfaces, chats and completions, have in common."""

import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Sequence
from typing import Annotated, Any, Generic, NotRequired, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from cf_local import __version__
from cf_local.server import tracing
from cf_local.server.api_errors import invalid
from cf_local.server.choice import Choice, Delta, Echoed, FinishKind, Part, Usage, new_id, total
from cf_local.server.dialects import fields
from cf_local.server.dialects.dialect import Formatter, sse
from cf_local.server.requests import MOST_CHOICES, AnswerRequest
from cf_local.structured.calls import Text

Limit = Annotated[fields.Whole, Field(ge=1)] | Annotated[fields.Whole, Field(ge=-1, le=-1)]
"""Tokens; -1, as in other local servers, for an answer as long as the context allows."""
NLogprobs = Annotated[fields.Whole, Field(ge=0, le=20)]
FINGERPRINT = f"cf-local-{__version__}"
_DONE = b"data: [DONE]\n\n"


class StreamOptions(fields.Closed):
    """What a stream says besides the answer."""

    include_usage: fields.Flag | None = None
    include_obfuscation: fields.No = None


@fields.with_sampling
class OpenAIBody(fields.Body):
    """The fields of both requests."""

    model: fields.SomeText
    max_tokens: Limit | None = None
    n: Annotated[fields.Whole, Field(ge=1, le=MOST_CHOICES)] | None = None
    stop: fields.Stops | None = None
    stream: fields.Flag | None = None
    stream_options: StreamOptions | None = None
    response_format: fields.AnswerFormat | None = None
    grammar: fields.SomeText | None = None
    cf_local: fields.Extension | None = None
    logit_bias: fields.NoTokenBias = None
    # Accepted, without effect:
    user: fields.Text | None = None
    metadata: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    verbosity: Any = None

    def common(self, max_tokens: int | None) -> dict[str, Any]:
        """What both say of an AnswerRequest. Raises ApiError."""
        settings = fields.settings_of(self, self.cf_local)
        if max_tokens is not None:
            settings["max_tokens"] = fields.token_limit(max_tokens)
        form = fields.response_format(self.response_format, self.grammar)
        if form is not None:
            settings["response_format"] = form
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options needs stream: true.", "stream_options")
        return {
            "model": self.model,
            "n": self.n or 1,
            "streams": bool(self.stream),
            "stop": fields.stops_of(self.stop),
            "settings": settings,
            "traces": bool(self.cf_local and self.cf_local.trace),
        }


class PromptDetails(TypedDict):
    """Tokens of the prompt that had been read before."""

    cached_tokens: int


class CompletionDetails(TypedDict):
    """Tokens of the thinking."""

    reasoning_tokens: int


class UsageFields(TypedDict):
    """Tokens, counted by the first source that takes part."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ChoiceTrace(TypedDict):
    """How an answer came about, if the request asks for a trace."""

    segments: list[tracing.SegmentTrace]
    answer: tracing.AnswerTrace


class ChoiceFields(TypedDict):
    """What choices of both interfaces have."""

    index: int
    finish_reason: FinishKind
    cf_local: NotRequired[ChoiceTrace]


ChoiceT = TypeVar("ChoiceT")


class ResponseFields(TypedDict, Generic[ChoiceT]):
    """A whole response."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChoiceT]
    usage: UsageFields


class OpenAIFormatter(Formatter):
    """Formats responses and chunks; subclasses format their choices."""

    prefix: str
    whole_object: str
    chunk_object: str

    def __init__(self, body: OpenAIBody, request: AnswerRequest) -> None:
        self._request = request
        options = body.stream_options
        self._reports_usage = bool(options and options.include_usage)
        self._id = new_id(self.prefix)
        self._created = int(time.time())

    @abstractmethod
    def opening(self) -> dict[str, Any] | None:
        """The content of a choice's first chunk, before any part, if the format has one."""

    @abstractmethod
    def part(self, part: Part | None) -> dict[str, Any]:
        """The content of a chunk for a part; for None that of a chunk that adds nothing."""

    @abstractmethod
    def closing(self) -> dict[str, Any]:
        """The content of a choice's last chunk."""

    @abstractmethod
    def logprobs(self, choice: Choice, n_pieces: int | None) -> Any:
        """The log-probabilities of the last ``n_pieces`` pieces of a choice; None for all.

        0 for those of an echo.
        """

    @abstractmethod
    def content(self, choice: Choice) -> dict[str, Any]:
        """The content of a complete choice."""

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """The body of a whole response."""
        shown = list(map(self._whole, choices))
        usage = _usage(total(choices, self._request.n))
        return self._body(self.whole_object, shown) | {"usage": usage}

    async def events(self, deltas: AsyncIterable[Delta]) -> AsyncGenerator[bytes]:
        """Chunks, and the mark of the end."""
        choices: dict[int, Choice] = {}
        async for delta in deltas:
            choices[delta.choice.index] = delta.choice
            for choice in self._chunks(delta):
                yield sse(self._chunk(choice))
        if self._reports_usage:
            usage = _usage(total([*choices.values()], self._request.n))
            yield sse(self._body(self.chunk_object, []) | {"usage": usage})
        yield _DONE

    def _whole(self, choice: Choice) -> dict[str, Any]:
        shown = {
            "index": choice.index,
            **self.content(choice),
            "logprobs": self._logprobs(choice, None),
            "finish_reason": choice.finish_reason,
        }
        if self._request.traces and choice.answer is not None:
            segments = [tracing.segment(step, choice.names) for step in choice.steps]
            trace = {"segments": segments, "answer": tracing.end(choice.steps, choice.answer)}
            shown["cf_local"] = trace
        return shown

    def _chunks(self, delta: Delta) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """The choice of each chunk of a delta, and what else the chunk has."""
        choice, traces = delta.choice, self._request.traces
        if delta.opens and (opening := self.opening()) is not None:
            yield _chunk_choice(choice, opening), {}
        more: dict[str, Any] = {}
        if traces and not delta.ends and delta.step is not None:
            more = {"cf_local": {"segment": tracing.segment(delta.step, choice.names)}}
        for part in delta.parts or ([None] if more else []):
            n_pieces = {Echoed: 0, Text: 1}.get(type(part))
            logprobs = None if n_pieces is None else self._logprobs(choice, n_pieces)
            yield _chunk_choice(choice, self.part(part), logprobs), more
            more = {}
        if delta.ends and choice.answer is not None:
            if traces:
                more = {"cf_local": {"answer": tracing.end(choice.steps, choice.answer)}}
            closing = _chunk_choice(choice, self.closing())
            yield closing | {"finish_reason": choice.finish_reason}, more

    def _chunk(self, choice: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
        shown, more = choice
        usage = {"usage": None} if self._reports_usage else {}
        return self._body(self.chunk_object, [shown]) | usage | more

    def _logprobs(self, choice: Choice, n_pieces: int | None) -> Any:
        return None if self._request.n_logprobs is None else self.logprobs(choice, n_pieces)

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._request.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }


def _chunk_choice(choice: Choice, content: dict[str, Any], logprobs: Any = None) -> dict[str, Any]:
    return {"index": choice.index, **content, "logprobs": logprobs, "finish_reason": None}


def _usage(usage: Usage) -> UsageFields:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
