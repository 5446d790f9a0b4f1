"""``POST /v1/completions``: OpenAI's continuation of a text, without a chat template."""

from typing import Annotated, Any

from pydantic import Field

from cf_local.server import tracing
from cf_local.server.api_errors import invalid
from cf_local.server.choice import Choice, Echoed, Part
from cf_local.server.dialects import fields, openai
from cf_local.server.dialects.dialect import Dialect, Prepared
from cf_local.server.requests import MOST_CHOICES, AnswerRequest
from cf_local.structured.calls import Text
from cf_local.types import Infill, Prompt, RawText, Tokens

_One = Annotated[fields.Whole, Field(ge=1, le=1)]
_TokenIds = Annotated[list[fields.TokenId], Field(min_length=1)]


class CompletionBody(openai.OpenAIBody):
    """The request."""

    prompt: (
        fields.Text
        | Annotated[list[fields.SomeText], Field(min_length=1, max_length=MOST_CHOICES)]
        | _TokenIds
        | Annotated[list[_TokenIds], Field(min_length=1, max_length=MOST_CHOICES)]
    )
    max_tokens: openai.Limit | Annotated[fields.Whole, Field(ge=0, le=0)] | None = None
    logprobs: openai.NLogprobs | None = None
    best_of: Annotated[_One | None, fields.REFUSED] = None
    echo: fields.Flag | None = None
    suffix: fields.Text | None = None


class CompletionChoice(openai.ChoiceFields):
    """One answer."""

    text: str
    logprobs: tracing.CompletionLogprobs | None


CompletionResponse = openai.ResponseFields[CompletionChoice]


def _prepare(body: CompletionBody) -> Prepared:
    answers = body.max_tokens != 0
    if not answers and not body.echo:
        raise invalid("max_tokens: 0 needs echo: true.", "max_tokens")
    request = AnswerRequest(
        prompts=_prompts(body),
        n_logprobs=body.logprobs,
        echoes=bool(body.echo),
        answers=answers,
        **body.common(body.max_tokens if answers else None),
    )
    return request, CompletionFormatter(body, request)


def _prompts(body: CompletionBody) -> tuple[Prompt, ...]:
    given: Any = body.prompt
    is_one = isinstance(given, str) or isinstance(given[0], int)
    prompts = [given] if is_one else given
    if body.suffix:
        if body.echo:
            raise invalid("suffix and echo cannot be combined.", "suffix")
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise invalid("suffix needs a prompt of text, not of tokens.", "suffix")
        return tuple(Infill(prompt, body.suffix) for prompt in prompts)
    if given == "":
        raise invalid("prompt is empty.", "prompt")
    return tuple(
        RawText(prompt) if isinstance(prompt, str) else Tokens(tuple(prompt)) for prompt in prompts
    )


class CompletionFormatter(openai.OpenAIFormatter):
    """``text_completion``."""

    prefix, whole_object, chunk_object = "cmpl-", "text_completion", "text_completion"

    def opening(self) -> dict[str, Any] | None:
        """None: there is no role to report."""
        return None

    def part(self, part: Part | None) -> dict[str, Any]:
        """Some text."""
        return {"text": part.text if isinstance(part, Text | Echoed) else ""}

    def closing(self) -> dict[str, Any]:
        """No text."""
        return {"text": ""}

    def content(self, choice: Choice) -> dict[str, Any]:
        """The text."""
        return {"text": (choice.echo.text if choice.echo else "") + choice.text}

    def logprobs(self, choice: Choice, n_pieces: int | None) -> tracing.CompletionLogprobs:
        """Tokens of the prompt, and segments as tokens; offsets count from the text's start."""
        pieces = choice.pieces[-n_pieces:] if n_pieces else [] if n_pieces == 0 else choice.pieces
        if choice.echo and n_pieces is None and not pieces:
            # Clients that ask for one token take the last entry for it: here the end.
            pieces = [(step, "") for step in choice.steps[-1:]]
        offset = len(choice.text) - sum(len(text) for _, text in pieces)
        offset += len(choice.echo.text) if choice.echo else 0
        n_top = self._request.n_logprobs or 0
        found = tracing.completion_logprobs(pieces, choice.settings, n_top, offset)
        if choice.echo and not n_pieces:
            return tracing.joined(tracing.echo_logprobs(choice.echo, n_top), found)
        return found


DIALECT = Dialect(
    "/v1/completions", "Continue a text.", CompletionBody, CompletionResponse, _prepare
)
