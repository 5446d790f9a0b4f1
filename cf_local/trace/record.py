"""A Trace of an answer that this process has just written."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cf_local import hub
from cf_local.settings import Settings
from cf_local.trace.model import Heading, Trace, TracedSource
from cf_local.types import Answer, Prompt, SourceInfo, Step

if TYPE_CHECKING:
    from cf_local.runtime.fusion import Fusion


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
