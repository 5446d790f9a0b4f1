"""The GGUF models and unfinished downloads in the hub's cache, of all tools, and their removal.

Content that another revision uses stays. huggingface_hub decides what to delete
(``HFCacheInfo.delete_files``), since it knows all references to a blob.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cf_local.errors import Cancelled, CfLocalError, MissingModelError
from cf_local.files import parts
from cf_local.hub import local
from cf_local.hub.choice import NoChoiceError, some_of
from cf_local.hub.locate import snapshots_of


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model in one revision of a repository; ``file`` is its first part, ``files`` are all parts.

    ``refs`` are the branches and tags at this commit; ``last_used`` is in seconds since 1970.
    """

    repo: str
    file: str
    files: tuple[str, ...]
    commit: str
    refs: tuple[str, ...]
    path: Path
    size_bytes: int
    last_used: float


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An unfinished download; ``file``, ``revision`` and ``size_bytes`` are None if not ours."""

    repo: str
    file: str | None
    revision: str | None
    path: Path
    n_bytes: int
    size_bytes: int | None

    @property
    def etag(self) -> str:
        """The name of the content in the cache."""
        return self.path.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the cache holds; ``warnings`` describe the repositories that cannot be read."""

    models: tuple[CachedModel, ...]
    unfinished: tuple[Unfinished, ...]
    warnings: tuple[str, ...]


def inventory() -> Inventory:
    """List the cache. Nothing is sent, and no model file is read."""
    info = scan()
    if info is None:
        return Inventory((), (), ())
    repos = [repo for repo in info.repos if repo.repo_type == "model"]
    models = [
        model
        for repo in repos
        for revision in repo.revisions
        for model in _models_of(repo, revision)
    ]
    found = [unfinished(path.file_path) for path in info.incomplete_files]
    return Inventory(
        tuple(sorted(models, key=lambda model: (model.repo.lower(), model.file, model.commit))),
        tuple(sorted(filter(None, found), key=lambda part: (part.repo, str(part.path)))),
        tuple(str(warning) for warning in info.warnings),
    )


def scan() -> Any | None:
    """huggingface_hub's HFCacheInfo; None if there is no cache yet.

    Raises CfLocalError for a cache that cannot be read.
    """
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    folder = local.cache_folder()
    try:
        return scan_cache_dir(folder)
    except CacheNotFound:
        return None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link to itself
        raise CfLocalError(
            f"The cache {folder} cannot be read ({error}). Set HF_HOME to another folder, or"
            " repair this one."
        ) from error


def unfinished(path: Path) -> Unfinished | None:
    """The download that a part in the cache belongs to; None if it is not of a model."""
    kind, *names = path.parent.parent.name.split("--")
    if kind != "models" or not path.is_file():
        return None
    note = local.note_on(path) if path.name.endswith(local.PART_SUFFIX) else None
    n_bytes = path.stat().st_size
    if note is None:
        return Unfinished("/".join(names), None, None, path, n_bytes, None)
    remote = note.remote
    return Unfinished(remote.repo, remote.file, remote.revision, path, n_bytes, remote.size_bytes)


def name_in(revision: Any, file: Any) -> str:
    """The name in the repository of a CachedFileInfo."""
    name: str = file.file_path.relative_to(revision.snapshot_path).as_posix()
    return name


def _models_of(repo: Any, revision: Any) -> Iterable[CachedModel]:
    files = {name_in(revision, file): file for file in revision.files}
    models: dict[str, list[str]] = {}
    for name in sorted(files):
        if name.lower().endswith(".gguf"):
            models.setdefault(parts(name)[0], []).append(name)
    for names in models.values():
        yield CachedModel(
            repo=repo.repo_id,
            file=names[0],
            files=tuple(names),
            commit=revision.commit_hash,
            refs=tuple(sorted(revision.refs)),
            path=files[names[0]].file_path,
            size_bytes=sum(files[name].size_on_disk for name in names),
            last_used=max(files[name].blob_last_accessed for name in names),
        )


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal removes, and the bytes on disk that it frees.

    ``files`` are (commit, name); ``kept_by`` are other commits that use some of their content.
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
    """A file in one revision; ``file`` is its CachedFileInfo."""

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
    """What the removal of a model would remove; nothing is removed yet.

    It covers one revision (the given one, or the one that ``cached`` uses) or ``all_revisions``,
    and without ``file`` and ``quant`` all GGUF files. Raises MissingModelError if there is none.
    """
    info = scan()
    entries = _entries(info, repo)
    found = (unfinished(path) for path in (local.repo_folder(repo) / "blobs").glob("*.incomplete"))
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
    """Carry out a planned removal. Raises CfLocalError if a file is in use or cannot be removed."""
    etags = {etag for path in removal.paths if (etag := local.etag_of(path)) is not None}
    etags |= {part.etag for part in removal.parts}
    with ExitStack() as held:
        for etag in sorted(etags):
            try:
                held.enter_context(local.locked(removal.repo, etag, is_cancelled=lambda: True))
            except Cancelled:
                raise CfLocalError(
                    f"{removal.repo} is being downloaded by another process; stop it first."
                ) from None
        try:
            for part in removal.parts:
                local.remove_part(part.path)
            if removal.strategy is not None:
                removal.strategy.execute()
        except OSError as error:
            raise CfLocalError(
                f"{error.filename} could not be removed: {error.strerror}."
            ) from error
    if left := [path for path in removal.paths if path.is_symlink() or path.exists()]:
        raise CfLocalError(
            f"{left[0]} could not be removed. It may be in use, or belong to another user."
        )


def _entries(info: Any | None, repo: str) -> list[_Entry]:
    """All files of a repository in all its revisions.

    Raises CfLocalError if the repository is damaged.
    """
    for known in info.repos if info else ():
        if (known.repo_type, known.repo_id) == ("model", repo):
            return [
                _Entry(name_in(revision, file), revision.commit_hash, file)
                for revision in known.revisions
                for file in revision.files
            ]
    folder = local.repo_folder(repo)
    for warning in info.warnings if info else ():
        if folder.name in str(warning):
            raise CfLocalError(
                f"The cache of {repo} is damaged: {warning} Remove {folder} by hand."
            )
    return []


def _of_one_revision(entries: Sequence[_Entry], repo: str, revision: str | None) -> list[_Entry]:
    """The entries of the given revision, or of the first that has any."""
    there = {entry.commit for entry in entries}
    commits = (path.name for path in snapshots_of(local.repo_folder(repo), revision))
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
