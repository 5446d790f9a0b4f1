"""Downloads models from the hub, with progress bars on a terminal."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cf_local import files, hub
from cf_local.errors import CfLocalError, MissingModelError
from cf_local.progress import IsCancelled, never
from cf_local.registry.registry import SourceSpec


@dataclass(frozen=True, slots=True)
class Here:
    """A file that is already on this machine, at ``path``."""

    path: Path


Outcome = Here | hub.Fetched | CfLocalError


def fetch(
    specs: Sequence[SourceSpec],
    *,
    offline: bool = False,
    update: bool = False,
    is_cancelled: IsCancelled = never,
) -> list[tuple[SourceSpec, Outcome]]:
    """The outcome for each source, one entry per file; downloads all missing files together.

    With ``update``, the hub is asked for newer versions of files that are already here. Raises
    MissingModelError before any download if a source is unavailable or the disk is too small.
    """
    outcomes: list[tuple[SourceSpec, Outcome]] = []
    wanted: dict[hub.RemoteFile, SourceSpec] = {}
    for spec in specs:
        found = _look_up(spec, offline=offline, update=update)
        if isinstance(found, Path):
            names = files.parts(found.name)
            outcomes += [(spec, Here(found.with_name(name))) for name in names]
        else:
            wanted |= {remote: spec for remote in found if remote not in wanted}
    if wanted:
        with progress_bars(list(wanted)) as on_progress:
            fetched = hub.download(list(wanted), is_cancelled=is_cancelled, on_progress=on_progress)
        outcomes += zip(wanted.values(), fetched, strict=True)
    return outcomes


def fetch_missing(specs: Sequence[SourceSpec], *, offline: bool, is_cancelled: IsCancelled) -> None:
    """Fetch all models that a command is about to load.

    Raises what ``fetch`` raises, and the first error of a download.
    """
    remote = [spec for spec in specs if spec.repo]
    for _, outcome in fetch(remote, offline=offline, is_cancelled=is_cancelled):
        if isinstance(outcome, CfLocalError):
            raise outcome


def _look_up(spec: SourceSpec, *, offline: bool, update: bool) -> Path | tuple[hub.RemoteFile, ...]:
    """The path of a source on this machine, or the files to download for it."""
    path = spec.local_path
    if path is None:
        return hub.look_up(
            str(spec.repo),
            spec.file,
            spec.revision,
            quant=spec.quant,
            offline=offline,
            update=update,
        )
    if not path.is_file():
        raise MissingModelError(f"{spec.name}: there is no file {path}.")
    return path


@contextmanager
def progress_bars(files: Sequence[hub.RemoteFile]) -> Iterator[Any]:
    """Show a bar per file on stderr; nothing if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda _file, _n_bytes: None
        return
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        tasks = {
            file: bars.add_task(
                file.file.rpartition("/")[2],
                total=file.size_bytes,
                completed=hub.n_bytes_there(file),
            )
            for file in files
        }
        yield lambda file, n_bytes: bars.update(tasks[file], completed=n_bytes)
