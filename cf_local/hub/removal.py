"""Taking models out of the hub's cache; content that another revision uses stays.

What may go is huggingface_hub's decision (``HFCacheInfo.delete_files``), which knows all
references to a blob.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cf_local.errors import Cancelled, CfLocalError, MissingModelError
from cf_local.files import parts
from cf_local.hub import store
from cf_local.hub.cache import snapshots_of
from cf_local.hub.choice import NoChoiceError, some_of
from cf_local.hub.inventory import Unfinished, name_in, scan, unfinished


@dataclass(frozen=True, slots=True)
class Removal:
    """What would be removed, and the bytes on disk that it frees.

    ``files`` are (commit, name), ``kept_by`` the commits that still use content of them.
    """

    repo: str
    files: tuple[tuple[str, str], ...]
    parts: tuple[Unfinished, ...]
    freed_bytes: int
    kept_by: tuple[str, ...]
    paths: tuple[Path, ...]
    strategy: Any


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file in one revision; ``file`` is huggingface_hub's view of it."""

    name: str
    commit: str
    file: Any


def plan_removal(
    repo: str,
    *,
    file: str = "",
    quant: str | None = None,
    revision: str | None = None,
    all_revisions: bool = False,
) -> Removal:
    """What removing a model means; nothing is removed yet.

    Of one revision (the named one, or the one that ``cached`` would use) unless ``all_revisions``.
    Without ``file`` and ``quant``, all GGUF files. Raises MissingModelError when nothing is here.
    """
    info = scan()
    entries = _entries(info, repo)
    found = (unfinished(path) for path in (store.repo_folder(repo) / "blobs").glob("*.incomplete"))
    open_parts = sorted((part for part in found if part is not None), key=lambda p: p.path)
    names = {entry.name for entry in entries} | {part.file for part in open_parts if part.file}
    wanted = _wanted(names, file, quant)
    chosen = [entry for entry in entries if entry.name in wanted]
    if not all_revisions:
        chosen = _of_one_revision(chosen, repo, revision)
    everything = not file and quant is None
    gone_parts = [p for p in open_parts if p.file in wanted or (everything and p.file is None)]
    if not chosen and not gone_parts:
        what = f"{file} of {repo}" if file else f"{repo}:{quant}" if quant else repo
        raise MissingModelError(f"{what} is not on this machine. `cf-local list` shows what is.")
    return _planned(info, repo, entries, chosen, gone_parts)


def remove(removal: Removal) -> None:
    """Remove what was planned. Raises CfLocalError when a file is in use or may not be removed."""
    etags = {path.resolve().name for path in removal.paths} | {p.etag for p in removal.parts}
    with ExitStack() as held:
        for etag in sorted(etags):
            try:
                held.enter_context(store.locked(removal.repo, etag, is_cancelled=lambda: True))
            except Cancelled:
                raise CfLocalError(
                    f"{removal.repo} is being downloaded by another process; stop it first."
                ) from None
        try:
            for part in removal.parts:
                store.remove_part(part.path)
            if removal.strategy is not None:
                removal.strategy.execute()
        except OSError as error:
            raise CfLocalError(
                f"{error.filename} could not be removed: {error.strerror}."
            ) from error
    if left := [path for path in removal.paths if path.is_symlink() or path.exists()]:
        raise CfLocalError(f"{left[0]} could not be removed. Is it in use, or somebody else's?")


def _entries(info: Any | None, repo: str) -> list[_Entry]:
    """All files of a repository, of all its revisions.

    Raises CfLocalError when the repository is there, but not in the form it should have.
    """
    for known in info.repos if info else ():
        if (known.repo_type, known.repo_id) == ("model", repo):
            return [
                _Entry(name_in(revision, file), revision.commit_hash, file)
                for revision in known.revisions
                for file in revision.files
            ]
    folder = store.repo_folder(repo)
    for warning in info.warnings if info else ():
        if folder.name in str(warning):
            raise CfLocalError(
                f"The cache of {repo} is damaged: {warning} Remove {folder} by hand."
            )
    return []


def _of_one_revision(entries: Sequence[_Entry], repo: str, revision: str | None) -> list[_Entry]:
    """Those of the revision, or of the best one that has any."""
    there = {entry.commit for entry in entries}
    commits = (path.name for path in snapshots_of(store.repo_folder(repo), revision))
    best = next((commit for commit in commits if commit in there), None)
    return [entry for entry in entries if entry.commit == best]


def _planned(
    info: Any,
    repo: str,
    entries: Sequence[_Entry],
    chosen: Sequence[_Entry],
    gone_parts: Sequence[Unfinished],
) -> Removal:
    gone = {entry.file for entry in chosen}
    blobs = {file.blob_path for file in gone}
    kept_by = {e.commit for e in entries if e.file not in gone and e.file.blob_path in blobs}
    strategy = info.delete_files(*gone) if gone else None
    freed = strategy.expected_freed_size if strategy else 0
    return Removal(
        repo=repo,
        files=tuple(sorted((entry.commit, entry.name) for entry in chosen)),
        parts=tuple(gone_parts),
        freed_bytes=freed + sum(part.n_bytes for part in gone_parts),
        kept_by=tuple(sorted(kept_by)),
        paths=tuple(sorted(file.file_path for file in gone)),
        strategy=strategy,
    )


def _wanted(names: set[str], file: str, quant: str | None) -> set[str]:
    if file:
        return set(parts(file))
    if quant is None:
        return {name for name in names if name.lower().endswith(".gguf")}
    try:
        return set(some_of(names, quant))
    except NoChoiceError:
        return set()
