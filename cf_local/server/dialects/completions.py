"""``POST /v1/completions``: OpenAI's continuation of a text, without a chat template."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cf_local.server import tracing
from cf_local.server.choice import Choice, Part, Text
from cf_local.server.dialects import fields, openai
from cf_local.server.dialects.dialect import Dialect, Prepared
from cf_local.server.requests import MOST_CHOICES, AnswerRequest
from cf_local.types import RawText

_One = Annotated[fields.Whole, Field(ge=1, le=1)]
_NoText = Annotated[str, Field(max_length=0)]


def _no_tokens(prompt: Any) -> Any:
    if isinstance(prompt, list) and any(isinstance(part, int | list) for part in prompt):
        raise fields.not_supported("of tokens is not supported: each source has its vocabulary")
    return prompt


class CompletionBody(openai.OpenAIBody):
    """The request."""

    prompt: Annotated[
        fields.SomeText
        | Annotated[list[fields.SomeText], Field(min_length=1, max_length=MOST_CHOICES)],
        BeforeValidator(_no_tokens),
    ]
    logprobs: openai.NLogprobs | None = None
    best_of: Annotated[_One | None, fields.REFUSED] = None
    echo: fields.No = None
    suffix: Annotated[_NoText | None, fields.REFUSED] = None


class CompletionChoice(openai.ChoiceFields):
    """One answer."""

    text: str
    logprobs: tracing.CompletionLogprobs | None


CompletionResponse = openai.ResponseFields[CompletionChoice]


def _prepare(body: CompletionBody) -> Prepared:
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    request = AnswerRequest(
        prompts=tuple(map(RawText, prompts)),
        n_logprobs=body.logprobs,
        **body.common(body.max_tokens),
    )
    return request, CompletionFormatter(body, request)


class CompletionFormatter(openai.OpenAIFormatter):
    """``text_completion``."""

    prefix, whole_object, chunk_object = "cmpl-", "text_completion", "text_completion"

    def opening(self) -> dict[str, Any] | None:
        """None: there is no role to report."""
        return None

    def part(self, part: Part | None) -> dict[str, Any]:
        """Some text."""
        return {"text": part.text if isinstance(part, Text) else ""}

    def closing(self) -> dict[str, Any]:
        """No text."""
        return {"text": ""}

    def content(self, choice: Choice) -> dict[str, Any]:
        """The text."""
        return {"text": choice.text}

    def logprobs(self, choice: Choice, n_pieces: int | None) -> tracing.CompletionLogprobs:
        """Segments as tokens; offsets count from the start of the answer."""
        pieces = choice.pieces[-n_pieces:] if n_pieces else choice.pieces
        offset = len(choice.text) - sum(len(text) for _, text in pieces)
        n_top = self._request.n_logprobs or 0
        return tracing.completion_logprobs(pieces, choice.settings, n_top, offset)


DIALECT = Dialect(
    "/v1/completions", "Continue a text.", CompletionBody, CompletionResponse, _prepare
)
