"""A trace: an answer with its steps, how it is recorded, and what can be counted in it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cf_local import hub
from cf_local.settings import Settings
from cf_local.trace.words import shown
from cf_local.types import Answer, Prompt, SourceInfo, Step

if TYPE_CHECKING:
    from cf_local.runtime.fusion import Fusion

from collections import Counter


@dataclass(frozen=True, slots=True)
class TracedSource:
    """A model that took part; None where the trace does not say.

    ``weight`` is the one it had in this answer; only the proportions of weights matter.
    """

    name: str
    file: str
    sha256: str | None = None
    size_bytes: int | None = None
    n_ctx: int | None = None
    n_threads: int | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """What precedes the steps: the question and the settings.

    ``date`` is when the answer started, in ISO 8601 with a time zone. ``versions`` has those of
    "cf_local", "llama_cpp_python" and "python", and the "platform". ``settings`` is a
    ``settings.Settings`` as plain data.
    """

    date: str
    versions: Mapping[str, str]
    prompt: Prompt
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """An answer and how it came about.

    ``heading`` is None for the bare output of ``ask --json``; ``answer`` is None where the end is
    missing (the process was killed).
    """

    heading: Heading | None
    sources: tuple[TracedSource, ...]
    steps: tuple[Step, ...]
    answer: Answer | None

    @property
    def names(self) -> Sequence[str]:
        """The names of the sources, in their order."""
        return [source.name for source in self.sources]

    @property
    def text(self) -> str:
        """The answer, or as much of it as was written."""
        if self.answer is not None:
            return self.answer.text
        return "".join(step.text for step in shown(self.steps))


def now() -> str:
    """The current time in the form of ``Heading.date``."""
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
    """The trace of what ``fusion.stream`` yielded; ``answer`` is None if it did not finish.

    ``date`` is when it started (see ``now``). Large files outside of the hub's cache are read for
    their hashes, once per process.
    """
    infos = [source.info for source in fusion.sources]
    weights = dict(zip((info.name for info in infos), settings.weights_of(infos), strict=True))
    sources = tuple(
        replace(source, weight=weights[source.name])
        for source in traced([source.info for source in fusion.speakers(settings)])
    )
    heading = Heading(date, dict(_versions()), prompt, asdict(settings))
    return Trace(heading, sources, tuple(steps), answer)


def traced(infos: Sequence[SourceInfo]) -> tuple[TracedSource, ...]:
    """The sources with the SHA-256 and size of their files, as far as the files exist."""
    return tuple(map(_traced, infos))


def _traced(info: SourceInfo) -> TracedSource:
    path = Path(info.file)
    digest: str | None = None
    size_bytes: int | None = None
    with suppress(OSError):  # the file is gone: a trace without its hash is still of use
        digest, size_bytes = hub.sha256(path), path.stat().st_size
    return TracedSource(info.name, info.file, digest, size_bytes, info.n_ctx, info.n_threads)


def _versions() -> Iterator[tuple[str, str]]:
    import platform  # imported here: they load slowly, and other commands do not need them
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
    """Figures of one answer; None where the trace does not say.

    ``n_segments`` counts the fused segments (whole answers, if nothing else was written). In
    ``n_agreed`` of them nobody who was asked proposed anything else; ``n_disputed`` had several
    candidates, and ``wins`` counts those by source. ``timings_s`` sums each phase over all steps.
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
    """Count agreement, wins, passes and time in one answer."""
    answer = trace.answer
    segments = [s for s in trace.steps if not s.whole and s.winners] or trace.steps
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
        n_agreed=sum(len(step.candidates) == 1 for step in segments),
        n_disputed=len(disputed),
        wins={name: wins[name] for name in [*trace.names, *sorted(proposers - set(trace.names))]},
        passes=dict(answer.passes if answer is not None else passes),
        prompt_s=answer.prompt_s or None if answer is not None else None,
        timings_s=timings_s,
        elapsed_s=elapsed_s,
        bytes_per_s=n_bytes / elapsed_s if elapsed_s else None,
    )
