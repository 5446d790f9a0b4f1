"""One answer of a request as it is written: what every dialect needs to know of its events."""

import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cf_local.method.thinking import AnswerSplitter, Piece
from cf_local.server.vocabulary import Echo
from cf_local.settings import Settings
from cf_local.structured import calls
from cf_local.structured.calls import CallArguments, CallSplitter, TalkEnd, Text
from cf_local.structured.tools import ToolCall
from cf_local.types import Answer, Chat, Prompt, SourceInfo, Step

_log = logging.getLogger(__name__)
FinishKind = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of prompts and answers, counted by the first source that takes part.

    ``cached`` tokens of the prompt did not have to be read again; ``reasoning`` is the part of
    ``completion`` that is thinking.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text of the thinking before the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The start of call number ``index`` of a tool."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Echoed:
    """The text of the prompt, which comes before the answer."""

    text: str


def new_id(prefix: str) -> str:
    """An id that cannot be guessed."""
    return prefix + secrets.token_hex(16)


Part = Text | Reasoning | CallStart | CallArguments | Echoed


class PartSplitter:
    """Splits the text of one answer into its parts: ``feed`` it as it arrives, then ``flush``.

    A conversation may be answered by thinking, talk, and calls of tools; anything else is answered
    by text alone, as is one whose answer has a required form.
    """

    def __init__(self, prompt: Prompt, settings: Settings, sources: Sequence[SourceInfo]) -> None:
        """``sources`` are those that take part. Raises InputError as ``Settings.weights_of``."""
        self._calls: CallSplitter | None = None
        self._thought = TalkEnd("tags")
        self.took_for_thinking = False
        """Whether the whole answer was reported as thinking, although the model did not think."""
        has_form = settings.response_format is not None
        if isinstance(prompt, Chat) and prompt.tools and prompt.tool_choice != "none":
            form = prompt.tool_form or settings.tool_form_of(sources)
            may_talk = prompt.tool_choice == "auto"
            names = [tool.name for tool in prompt.tools]
            has_form = has_form and may_talk
            self._calls = CallSplitter(form, () if has_form else names, has_form=has_form)
        self._thinking = AnswerSplitter(prompt, sources, has_form=has_form)

    def feed(self, text: str) -> Iterator[Part]:
        """Add text; yields the parts that are certain now."""
        yield from self._parts(self._thinking.feed(text))

    def flush(self, *, is_whole: bool) -> Iterator[Part]:
        """At the end of the text: what was held back; ``is_whole``: it was not cut."""
        yield from self._parts(self._thinking.flush())
        yield from self._thoughts(self._thought.flush())
        text = "" if self._thought.is_over else self._thinking.after_all(ended=is_whole)
        self.took_for_thinking = bool(text)
        yield from self._parts([Piece("answer", text)])
        if self._calls is not None:
            yield from map(_part, self._calls.flush())

    def _parts(self, pieces: Iterable[Piece]) -> Iterator[Part]:
        for piece in pieces:
            text = piece.text
            if self._calls is None:
                if text:
                    yield Reasoning(text) if piece.kind == "thinking" else Text(text)
                continue
            if piece.kind == "thinking":
                # The grammar lets a call begin here, too; it ends the thinking.
                thought, text = self._thought.feed(text)
                yield from self._thoughts(thought)
            elif not self._thought.is_over:
                yield from self._thoughts(self._thought.flush())
            if text:
                yield from map(_part, self._calls.feed(text))

    def _thoughts(self, text: str) -> Iterator[Part]:
        if text:
            yield Reasoning(text)


def _part(piece: calls.CallPiece) -> Part:
    match piece:
        case calls.CallStart(index, name):
            return CallStart(index, new_id("call_"), name)
        case Text() | CallArguments():
            return piece


@dataclass(slots=True)
class Choice:
    """One answer: its steps, its thinking and calls, and the pieces of steps that make up its text.

    ``names`` are the sources that take part. ``add`` and ``end`` take the events of the engine,
    ``begin`` the prompt if it is shown.
    """

    index: int
    settings: Settings
    names: Sequence[str]
    splitter: PartSplitter
    steps: list[Step] = field(default_factory=list)
    pieces: list[tuple[Step, str]] = field(default_factory=list)
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    answer: Answer | None = None
    usage: Usage = field(default_factory=Usage)
    echo: Echo | None = None
    _is_read: bool = False

    @property
    def text(self) -> str:
        """The text so far, without thinking and calls."""
        return "".join(text for _, text in self.pieces)

    @property
    def finish_reason(self) -> FinishKind:
        """Why the answer ended: by calls, or a model or stop string ended it; else it is cut."""
        if self.answer is not None and self.answer.finish_reason != "stop":
            return "length"
        return "tool_calls" if self.calls else "stop"

    def begin(self, echo: Echo) -> "Delta":
        """Begin with the prompt."""
        self.echo = echo
        return Delta(self, (Echoed(echo.text),), None, opens=True)

    def add(self, step: Step) -> "Delta":
        """Add a step; it has no parts while the text is not final."""
        opens = not self.steps and self.echo is None
        self.steps.append(step)
        is_final = step.whole or self.settings.is_final_as_written
        parts = self._added(step, self._read(step.text) if is_final else ())
        return Delta(self, parts, step, opens=opens)

    def end(self, answer: Answer) -> "Delta":
        """Add the end, with the text still missing, which an answer cut short has."""
        opens = not self.steps and self.echo is None
        self.answer = answer
        for notice in answer.notices:
            _log.warning("%s", notice)
        if not self.steps:
            return Delta(self, (), None, opens=opens, ends=True)
        rest = () if self._is_read else tuple(self._read(answer.text))
        rest = (*rest, *self.splitter.flush(is_whole=answer.finish_reason == "stop"))
        step = self.steps[-1]
        parts = self._added(step, rest)
        if self.splitter.took_for_thinking:
            self.reasoning = ""
        return Delta(self, parts, step, opens=opens, ends=True)

    def _read(self, text: str) -> Iterator[Part]:
        self._is_read = self._is_read or bool(text)
        return self.splitter.feed(text)

    def _added(self, step: Step, parts: Iterable[Part]) -> tuple[Part, ...]:
        parts = tuple(parts)
        for part in parts:
            match part:
                case Text(text):
                    self.pieces.append((step, text))
                case Reasoning(text):
                    self.reasoning += text
                case CallStart(_, id, name):
                    self.calls.append(ToolCall(name, "", id))
                case CallArguments(index, text):
                    call = self.calls[index]
                    self.calls[index] = replace(call, arguments=call.arguments + text)
        return parts


@dataclass(frozen=True, slots=True)
class Delta:
    """What one event of the engine adds to a choice.

    ``step`` is the step that the parts come from. ``opens`` marks the first delta of a choice,
    ``ends`` the last one, after which ``choice`` is complete.
    """

    choice: Choice
    parts: tuple[Part, ...]
    step: Step | None
    opens: bool = False
    ends: bool = False


def total(choices: Sequence[Choice], n: int) -> Usage:
    """The usage of a request; a prompt counts once, although it gets ``n`` answers."""
    usages = [choice.usage for choice in choices]
    firsts = [choice.usage for choice in choices if choice.index % n == 0]
    return Usage(
        prompt=sum(usage.prompt for usage in firsts),
        completion=sum(usage.completion for usage in usages),
        cached=sum(usage.cached for usage in firsts),
        reasoning=sum(usage.reasoning for usage in usages),
    )
