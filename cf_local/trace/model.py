"""What a trace holds: an answer with its steps, and what is needed to write it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cf_local.trace.words import shown
from cf_local.types import Answer, Prompt, Step


@dataclass(frozen=True, slots=True)
class TracedSource:
    """A model that took part; what a trace does not tell is None."""

    name: str
    file: str
    sha256: str | None = None
    size_bytes: int | None = None
    n_ctx: int | None = None
    n_threads: int | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands in front of the steps: the question, and how it was to be answered.

    ``date`` is when the answer began, in ISO format with its time zone. ``versions`` has those of
    "cf_local", "llama_cpp_python" and "python", and the "platform". ``settings`` are those of
    ``types.Settings`` as plain data.
    """

    date: str
    versions: Mapping[str, str]
    prompt: Prompt
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """An answer and how it came about.

    ``heading`` is None for the bare output of ``ask --json``, ``answer`` where the end is missing
    (the process was killed).
    """

    heading: Heading | None
    sources: tuple[TracedSource, ...]
    steps: tuple[Step, ...]
    answer: Answer | None

    @property
    def names(self) -> Sequence[str]:
        """The sources in their order."""
        return [source.name for source in self.sources]

    @property
    def text(self) -> str:
        """The answer, or what came of it."""
        if self.answer is not None:
            return self.answer.text
        return "".join(step.text for step in shown(self.steps))
