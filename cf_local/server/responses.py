"""Answers in OpenAI's format: chats and completions, whole or in chunks."""

import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from cf_local import __version__
from cf_local.server import tracing
from cf_local.server.answering import AnswerEvent, Usage
from cf_local.server.requests import ApiRequest
from cf_local.settings import Settings
from cf_local.types import Answer, Step

Fields = dict[str, Any]

FINGERPRINT = f"cf-local-{__version__}"
_FINAL_AS_WRITTEN = ("cool", "single")  # other modes choose among whole answers at the end


def finish_reason(answer: Answer) -> str:
    """OpenAI's finish reason: "stop" if a model or a stop string ended it, otherwise "length"."""
    return "stop" if answer.finish_reason == "stop" else "length"


@dataclass(slots=True)
class Choice:
    """One answer as it is written: its steps, and the pieces that make up its text."""

    index: int
    settings: Settings
    steps: list[Step] = field(default_factory=list)
    pieces: list[tuple[Step, str]] = field(default_factory=list)
    answer: Answer | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(text for _, text in self.pieces)

    def add(self, step: Step) -> str:
        """Add a step; returns what it adds to the text, empty while the text is not final."""
        self.steps.append(step)
        is_final = step.whole or self.settings.mode in _FINAL_AS_WRITTEN
        text = step.text if is_final else ""
        if text:
            self.pieces.append((step, text))
        return text

    def end(self, event: AnswerEvent) -> str:
        """Add the end; returns the text still missing, which an answer cut short has."""
        assert isinstance(event.event, Answer)
        self.answer, self.usage = event.event, event.usage
        if self.pieces or not self.steps or not self.answer.text:
            return ""
        self.pieces.append((self.steps[-1], self.answer.text))
        return self.answer.text

    @property
    def names(self) -> list[str]:
        """The sources that took part; empty before the end."""
        return [info.name for info in self.answer.sources] if self.answer else []


class ChoiceFormat(Protocol):
    """How one of OpenAI's two interfaces formats a choice."""

    prefix: str
    whole_object: str
    chunk_object: str

    def opening(self, index: int) -> Fields | None:
        """The choice of an opening chunk without text, if the format has one."""

    def piece(self, choice: Choice, step: Step, text: str, n_logprobs: int | None) -> Fields:
        """The choice of a chunk with text."""

    def closing(self, choice: Choice) -> Fields:
        """The choice of the last chunk."""

    def whole(self, choice: Choice, n_logprobs: int | None) -> Fields:
        """The choice of a whole response."""


class ChatFormat:
    """``chat.completion``."""

    prefix, whole_object, chunk_object = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def opening(self, index: int) -> Fields | None:
        """A delta with the role."""
        return _chunk_choice(index, {"delta": {"role": "assistant", "content": ""}})

    def piece(self, choice: Choice, step: Step, text: str, n_logprobs: int | None) -> Fields:
        """A delta with text."""
        logprobs = None
        if n_logprobs is not None and text:
            logprobs = _content(choice, [(step, text)], n_logprobs)
        return _chunk_choice(choice.index, {"delta": {"content": text}}, logprobs)

    def closing(self, choice: Choice) -> Fields:
        """An empty delta."""
        assert choice.answer is not None
        reason = finish_reason(choice.answer)
        return _chunk_choice(choice.index, {"delta": {}}) | {"finish_reason": reason}

    def whole(self, choice: Choice, n_logprobs: int | None) -> Fields:
        """A message."""
        assert choice.answer is not None
        logprobs = None if n_logprobs is None else _content(choice, choice.pieces, n_logprobs)
        return {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": logprobs,
            "finish_reason": finish_reason(choice.answer),
        }


class CompletionFormat:
    """``text_completion``."""

    prefix, whole_object, chunk_object = "cmpl-", "text_completion", "text_completion"

    def opening(self, index: int) -> Fields | None:
        """None: there is no role to report."""
        return None

    def piece(self, choice: Choice, step: Step, text: str, n_logprobs: int | None) -> Fields:
        """Some text."""
        logprobs = None
        if n_logprobs is not None and text:
            offset = len(choice.text) - len(text)
            logprobs = tracing.completion_logprobs(
                [(step, text)], choice.settings, n_logprobs, offset
            )
        return _chunk_choice(choice.index, {"text": text}, logprobs)

    def closing(self, choice: Choice) -> Fields:
        """No text."""
        assert choice.answer is not None
        reason = finish_reason(choice.answer)
        return _chunk_choice(choice.index, {"text": ""}) | {"finish_reason": reason}

    def whole(self, choice: Choice, n_logprobs: int | None) -> Fields:
        """The text."""
        assert choice.answer is not None
        logprobs = None
        if n_logprobs is not None:
            logprobs = tracing.completion_logprobs(choice.pieces, choice.settings, n_logprobs)
        return {
            "index": choice.index,
            "text": choice.text,
            "logprobs": logprobs,
            "finish_reason": finish_reason(choice.answer),
        }


FORMATS: dict[str, ChoiceFormat] = {"chat": ChatFormat(), "completion": CompletionFormat()}


class ResponseBuilder:
    """Builds the bodies of the response to one request."""

    def __init__(self, request: ApiRequest) -> None:
        self._request, self._format = request, FORMATS[request.endpoint]
        self._id = f"{self._format.prefix}{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def whole(self, events: AsyncGenerator[AnswerEvent]) -> Fields:
        """The body of a whole response."""
        choices: list[Choice] = []
        async with aclosing(events):
            async for each in events:
                choice = _choice(choices, each)
                if isinstance(each.event, Step):
                    choice.add(each.event)
                else:
                    choice.end(each)
        shown = []
        for choice in choices:
            fields = self._format.whole(choice, self._request.n_logprobs)
            if self._request.traces and choice.answer is not None:
                segments = [tracing.segment(step, choice.names) for step in choice.steps]
                answer = tracing.end(choice.steps, choice.answer)
                fields["cf_local"] = {"segments": segments, "answer": answer}
            shown.append(fields)
        return self._body(self._format.whole_object, shown) | {"usage": self._usage(choices)}

    async def chunks(
        self, events: AsyncGenerator[AnswerEvent], names: Sequence[str]
    ) -> AsyncGenerator[Fields]:
        """The bodies of a response in chunks; ``names`` are the names of the sources."""
        choices: list[Choice] = []
        async with aclosing(events):
            async for each in events:
                if len(choices) <= each.index and (opening := self._format.opening(each.index)):
                    yield self._chunk(opening)
                for chunk in self._chunks_of(_choice(choices, each), each, names):
                    yield chunk
        if self._request.reports_usage:
            usage = self._usage(choices)
            yield self._body(self._format.chunk_object, []) | {"usage": usage}

    def _chunks_of(
        self, choice: Choice, event: AnswerEvent, names: Sequence[str]
    ) -> Iterator[Fields]:
        """The chunks of one event."""
        step = event.event
        if isinstance(step, Step):
            text = choice.add(step)
            if text or self._request.traces:
                speakers = _speakers(choice.settings, names)
                chunk = self._piece(choice, step, text)
                yield self._traced(chunk, "segment", tracing.segment, step, speakers)
            return
        if missing := choice.end(event):
            yield self._piece(choice, choice.steps[-1], missing)
        closing = self._chunk(self._format.closing(choice))
        yield self._traced(closing, "answer", tracing.end, choice.steps, step)

    def _piece(self, choice: Choice, step: Step, text: str) -> Fields:
        return self._chunk(self._format.piece(choice, step, text, self._request.n_logprobs))

    def _traced(self, chunk: Fields, key: str, describe: Any, *what: Any) -> Fields:
        return chunk | ({"cf_local": {key: describe(*what)}} if self._request.traces else {})

    def _chunk(self, choice: Fields) -> Fields:
        usage = {"usage": None} if self._request.reports_usage else {}
        return self._body(self._format.chunk_object, [choice]) | usage

    def _body(self, kind: str, choices: list[Fields]) -> Fields:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._request.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }

    def _usage(self, choices: Sequence[Choice]) -> Fields:
        """Token counts; a prompt counts once, however many answers it gets."""
        usages = [choice.usage or Usage(0, 0) for choice in choices]
        n_prompt = sum(usage.prompt for usage in usages[:: self._request.n])
        n_completion = sum(usage.completion for usage in usages)
        return {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_completion,
            "total_tokens": n_prompt + n_completion,
        }


def _choice(choices: list[Choice], event: AnswerEvent) -> Choice:
    """The choice that an event belongs to; choices are written one after the other."""
    if len(choices) <= event.index:
        choices.append(Choice(event.index, event.settings))
    return choices[event.index]


def _speakers(settings: Settings, names: Sequence[str]) -> Sequence[str]:
    """The sources that take part (see Fusion.speakers)."""
    return [settings.only or names[0]] if settings.mode == "single" else names


def _chunk_choice(index: int, content: Fields, logprobs: Fields | None = None) -> Fields:
    return {"index": index, **content, "logprobs": logprobs, "finish_reason": None}


def _content(choice: Choice, pieces: Sequence[tuple[Step, str]], n_logprobs: int) -> Fields:
    settings = choice.settings
    tokens = [tracing.chat_logprobs(step, text, settings, n_logprobs) for step, text in pieces]
    return {"content": tokens, "refusal": None}
