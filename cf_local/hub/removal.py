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
from cf_local.hub import store
from cf_local.hub.cache import snapshots_of
from cf_local.hub.choice import NoChoiceError, parts, some_of
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
    known = (
        next((r for r in info.repos if (r.repo_type, r.repo_id) == ("model", repo)), None)
        if info
        else None
    )
    if info is not None and known is None:
        _check_readable(info, repo)
    entries = [
        (name_in(rev, entry), rev.commit_hash, entry)
        for rev in (known.revisions if known else ())
        for entry in rev.files
    ]
    blobs = store.repo_folder(repo) / "blobs"
    found = [unfinished(path) for path in sorted(blobs.glob("*.incomplete"))]
    open_parts = [part for part in found if part is not None]
    names = {name for name, _, _ in entries} | {part.file for part in open_parts if part.file}
    wanted = _wanted(names, file, quant)
    chosen = [entry for entry in entries if entry[0] in wanted]
    if not all_revisions:
        commits = [path.name for path in snapshots_of(store.repo_folder(repo), revision)]
        best = next((c for c in commits if any(commit == c for _, commit, _ in chosen)), None)
        chosen = [entry for entry in chosen if entry[1] == best]
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


def _planned(
    info: Any,
    repo: str,
    entries: Sequence[tuple[str, str, Any]],
    chosen: Sequence[tuple[str, str, Any]],
    gone_parts: Sequence[Unfinished],
) -> Removal:
    gone = {entry for _, _, entry in chosen}
    blobs = {entry.blob_path for entry in gone}
    kept_by = {commit for _, commit, e in entries if e not in gone and e.blob_path in blobs}
    strategy = info.delete_files(*gone) if gone else None
    freed = strategy.expected_freed_size if strategy else 0
    return Removal(
        repo=repo,
        files=tuple(sorted((commit, name) for name, commit, _ in chosen)),
        parts=tuple(gone_parts),
        freed_bytes=freed + sum(part.n_bytes for part in gone_parts),
        kept_by=tuple(sorted(kept_by)),
        paths=tuple(sorted(entry.file_path for entry in gone)),
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


def _check_readable(info: Any, repo: str) -> None:
    """Raises CfLocalError when the repository is there, but not in the form it should have."""
    folder = store.repo_folder(repo)
    for warning in info.warnings:
        if folder.name in str(warning):
            raise CfLocalError(
                f"The cache of {repo} is damaged: {warning} Remove {folder} by hand."
            )
