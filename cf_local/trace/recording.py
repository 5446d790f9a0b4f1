"""A trace: an answer with its steps, how it is recorded, and what can be counted in it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cf_local import hub
from cf_local.trace.words import shown
from cf_local.types import Answer, Prompt, Settings, SourceInfo, Step

if TYPE_CHECKING:
    from cf_local.runtime.fusion import Fusion

from collections import Counter


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


def now() -> str:
    """The time as a heading has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record(
    fusion: "Fusion",
    prompt: Prompt,
    settings: Settings,
    steps: Sequence[Step],
    answer: Answer | None,
    *,
    date: str,
) -> Trace:
    """The trace of what ``fusion.stream`` yielded; without ``answer`` if it did not get that far.

    ``date`` is when it began (see ``now``). Large files that do not lie in the hub's cache are read
    for their hashes, once per process.
    """
    sources = traced([source.info for source in fusion.speakers(settings)])
    heading = Heading(date, dict(_versions()), prompt, asdict(settings))
    return Trace(heading, sources, tuple(steps), answer)


def traced(infos: Sequence[SourceInfo]) -> tuple[TracedSource, ...]:
    """The sources with the hashes and sizes of their files, where there are such files."""
    return tuple(map(_traced, infos))


def _traced(info: SourceInfo) -> TracedSource:
    path = Path(info.file)
    digest: str | None = None
    size_bytes: int | None = None
    with suppress(OSError):  # no file, or one gone by now: the answer is there all the same
        digest, size_bytes = hub.sha256(path), path.stat().st_size
    return TracedSource(info.name, info.file, digest, size_bytes, info.n_ctx, info.n_threads)


def _versions() -> Iterator[tuple[str, str]]:
    import platform  # imported here: they take long, and other commands need them not
    from importlib import metadata

    for name, package in (("cf_local", "cf-local"), ("llama_cpp_python", "llama-cpp-python")):
        try:
            yield name, metadata.version(package)
        except metadata.PackageNotFoundError:  # in a bundle of one application
            continue
    yield "python", platform.python_version()
    yield "platform", f"{platform.system()} {platform.machine()}"


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """Figures of one answer; None where the trace does not tell.

    ``n_segments`` are the fused ones (whole answers, if nothing else was written), of which all
    sources proposed ``n_agreed`` and several candidates were reranked in ``n_disputed``. ``wins``
    counts the disputed ones, ``timings_s`` sums the phases of all steps.
    """

    mode: str | None
    chosen: str | None
    finish_reason: str | None
    n_bytes: int
    n_segments: int
    n_agreed: int
    n_disputed: int
    wins: Mapping[str, int]
    passes: Mapping[str, int]
    prompt_s: float | None
    timings_s: Mapping[str, float]
    elapsed_s: float | None
    bytes_per_s: float | None


def summarize(trace: Trace) -> TraceSummary:
    """Count what happened in an answer."""
    answer = trace.answer
    segments = [step for step in trace.steps if not step.whole] or trace.steps
    disputed = [step for step in segments if len(step.candidates) > 1]
    wins = Counter(name for step in disputed for name in step.winners)
    passes: Counter[str] = Counter()
    timings_s: dict[str, float] = {}
    for step in trace.steps:
        passes.update(step.passes)
        for phase, taken_s in step.timings_s.items():
            timings_s[phase] = timings_s.get(phase, 0.0) + taken_s
    elapsed_s = answer.elapsed_s if answer is not None else None
    n_bytes = len(trace.text.encode(errors="replace"))
    proposers = {*trace.names, *wins}
    return TraceSummary(
        mode=answer.mode if answer is not None else None,
        chosen=answer.chosen if answer is not None else None,
        finish_reason=answer.finish_reason if answer is not None else None,
        n_bytes=n_bytes,
        n_segments=len(segments),
        n_agreed=sum(set(trace.names) <= set(step.winners) for step in segments),
        n_disputed=len(disputed),
        wins={name: wins[name] for name in [*trace.names, *sorted(proposers - set(trace.names))]},
        passes=dict(answer.passes if answer is not None else passes),
        prompt_s=answer.prompt_s or None if answer is not None else None,
        timings_s=timings_s,
        elapsed_s=elapsed_s,
        bytes_per_s=n_bytes / elapsed_s if elapsed_s else None,
    )
