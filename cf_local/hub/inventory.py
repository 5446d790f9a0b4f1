"""The GGUF models in the hub's cache, whoever downloaded them, and what is on its way there."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cf_local.files import parts
from cf_local.hub import store


@dataclass(frozen=True, slots=True)
class Kept:
    """A model in one revision of a repository; ``file`` is its first part, ``files`` are all.

    ``refs`` are branches and tags that are this commit, ``last_used`` is in seconds since 1970.
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
    """A download that is not whole; ``file`` and ``size_bytes`` are known of our own ones."""

    repo: str
    file: str | None
    revision: str | None
    path: Path
    n_bytes: int
    size_bytes: int | None

    @property
    def etag(self) -> str:
        """What names the content."""
        return self.path.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the cache holds; ``warnings`` tell of repositories that could not be understood."""

    models: tuple[Kept, ...]
    unfinished: tuple[Unfinished, ...]
    warnings: tuple[str, ...]


def inventory() -> Inventory:
    """Look through the cache. Nothing is sent, no file is read."""
    info = scan()
    if info is None:
        return Inventory((), (), ())
    repos = [repo for repo in info.repos if repo.repo_type == "model"]
    models = [
        kept for repo in repos for revision in repo.revisions for kept in _kept(repo, revision)
    ]
    found = [unfinished(path.file_path) for path in info.incomplete_files]
    return Inventory(
        tuple(sorted(models, key=lambda kept: (kept.repo.lower(), kept.file, kept.commit))),
        tuple(sorted(filter(None, found), key=lambda part: (part.repo, str(part.path)))),
        tuple(str(warning) for warning in info.warnings),
    )


def scan() -> Any | None:
    """huggingface_hub's view of the cache; None when there is no cache yet."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return scan_cache_dir(store.cache_folder())
    except CacheNotFound:
        return None


def unfinished(path: Path) -> Unfinished | None:
    """What a part in the cache is; None for one of no model's repository."""
    kind, *names = path.parent.parent.name.split("--")
    if kind != "models" or not path.is_file():
        return None
    note = store.note_on(path) if path.name.endswith(store.PART_SUFFIX) else None
    n_bytes = path.stat().st_size
    if note is None:
        return Unfinished("/".join(names), None, None, path, n_bytes, None)
    will_be = note.remote
    return Unfinished(
        will_be.repo, will_be.file, will_be.revision, path, n_bytes, will_be.size_bytes
    )


def name_in(revision: Any, file: Any) -> str:
    """What the repository calls a file of huggingface_hub's view."""
    name: str = file.file_path.relative_to(revision.snapshot_path).as_posix()
    return name


def _kept(repo: Any, revision: Any) -> Iterable[Kept]:
    files = {name_in(revision, file): file for file in revision.files}
    models: dict[str, list[str]] = {}
    for name in sorted(files):
        if name.lower().endswith(".gguf"):
            models.setdefault(parts(name)[0], []).append(name)
    for names in models.values():
        yield Kept(
            repo=repo.repo_id,
            file=names[0],
            files=tuple(names),
            commit=revision.commit_hash,
            refs=tuple(sorted(revision.refs)),
            path=files[names[0]].file_path,
            size_bytes=sum(files[name].size_on_disk for name in names),
            last_used=max(files[name].blob_last_accessed for name in names),
        )
