"""One answer of a request as it is written: what every dialect needs to know of its events."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from cf_local.settings import Settings
from cf_local.types import Answer, Step

FinishKind = Literal["stop", "length", "tool_calls"]

_FINAL_AS_WRITTEN = ("cool", "single")  # other modes choose among whole answers at the end


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of prompts and answers, counted by the first source that takes part."""

    prompt: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """Text of the answer."""

    text: str


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
class CallArguments:
    """A fragment of the arguments of call number ``index``: JSON text of an object."""

    index: int
    text: str


Part = Text | Reasoning | CallStart | CallArguments


@dataclass(slots=True)
class Choice:
    """One answer: its steps, and the pieces of steps that make up its text.

    ``names`` are the sources that take part. ``add`` and ``end`` take the events of the engine.
    """

    index: int
    settings: Settings
    names: Sequence[str]
    steps: list[Step] = field(default_factory=list)
    pieces: list[tuple[Step, str]] = field(default_factory=list)
    answer: Answer | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def text(self) -> str:
        """The text so far, without thinking and calls."""
        return "".join(text for _, text in self.pieces)

    @property
    def finish_reason(self) -> FinishKind:
        """Why the answer ended: "stop" if a model or a stop string ended it, else it is cut."""
        return "stop" if self.answer is None or self.answer.finish_reason == "stop" else "length"

    def add(self, step: Step) -> "Delta":
        """Add a step; it has no parts while the text is not final."""
        opens = not self.steps
        self.steps.append(step)
        is_final = step.whole or self.settings.mode in _FINAL_AS_WRITTEN
        return Delta(self, self._parts(step, step.text if is_final else ""), step, opens=opens)

    def end(self, answer: Answer, usage: Usage) -> "Delta":
        """Add the end, with the text still missing, which an answer cut short has."""
        opens = not self.steps
        self.answer, self.usage = answer, usage
        parts: tuple[Part, ...] = ()
        if self.steps and not self.pieces:
            parts = self._parts(self.steps[-1], answer.text)
        return Delta(self, parts, self.steps[-1] if parts else None, opens=opens, ends=True)

    def _parts(self, step: Step, text: str) -> tuple[Part, ...]:
        if not text:
            return ()
        self.pieces.append((step, text))
        return (Text(text),)


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
    return Usage(
        sum(choice.usage.prompt for choice in choices if choice.index % n == 0),
        sum(choice.usage.completion for choice in choices),
    )
