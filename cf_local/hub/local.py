"""The hub's cache on this machine: the place of each file, finished or in part.

The layout is huggingface_hub's: ``blobs/<etag>`` is content, ``snapshots/<commit>/<file>`` links to
it, and ``refs/<revision>`` holds a commit. An unfinished blob is a part, with a note about the
finished file next to it. Only cf-local writes parts of this name, so they grow at the end only.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cf_local.errors import Cancelled
from cf_local.files import write_text
from cf_local.hub.connection import FinalTransferError
from cf_local.hub.remote import RemoteFile
from cf_local.progress import IsCancelled, never

PART_SUFFIX = ".cf-local.incomplete"
_NOTE_SUFFIX = ".cf-local.json"
_POLL_S = 0.2
_READ_BYTES = 1 << 20


def cache_folder() -> Path:
    """The hub's cache: HF_HUB_CACHE, by default ``hub`` in HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repo_folder(repo: str) -> Path:
    """The folder of a repository in the cache. Raises HFValidationError for a bad name."""
    from huggingface_hub.file_download import repo_folder_name

    return cache_folder() / repo_folder_name(repo_id=repo, repo_type="model")


def blob_of(remote: RemoteFile) -> Path:
    """The path of the finished content."""
    return repo_folder(remote.repo) / "blobs" / remote.etag


def etag_of(path: Path) -> str | None:
    """The etag of a file's content, where the path leads to a blob of the cache; else None.

    A blob may itself be a link, into the store that huggingface_hub shares between repositories
    (since 2.4). That store names files by another hash, so links are followed up to the blob only.
    """
    while path.exists():
        folder = path.parent.resolve()
        if folder.name == "blobs" and "--" in folder.parent.name:
            return path.name
        if not path.is_symlink():
            break
        path = folder / path.readlink()
    return None


def pointer_of(remote: RemoteFile) -> Path:
    """The path of the file under its name in the repository, for opening it."""
    return repo_folder(remote.repo).joinpath("snapshots", remote.commit, *remote.file.split("/"))


def part_of(remote: RemoteFile) -> Path:
    """The path of the unfinished content."""
    return blob_of(remote).with_name(remote.etag + PART_SUFFIX)


def prepare(remote: RemoteFile) -> Path:
    """Create the folders that a part needs; returns the part's path.

    Other tools consider a repository without ``snapshots`` damaged.
    """
    (repo_folder(remote.repo) / "snapshots").mkdir(parents=True, exist_ok=True)
    part = part_of(remote)
    part.parent.mkdir(exist_ok=True)
    return part


def n_bytes_there(remote: RemoteFile) -> int:
    """The bytes of the file that are already on this machine."""
    if is_whole(blob_of(remote), remote) or is_whole(pointer_of(remote), remote):
        return remote.size_bytes
    part = part_of(remote)
    return min(part.stat().st_size, remote.size_bytes) if part.is_file() else 0


def is_whole(path: Path, remote: RemoteFile) -> bool:
    """Whether there is a finished file of the right size at ``path``, from any tool."""
    return path.is_file() and path.stat().st_size == remote.size_bytes


def has_content_of(path: Path, remote: RemoteFile) -> bool:
    """Whether the size and the hash of a file are those the hub reports. Reads the whole file.

    Raises FinalTransferError if the hub reports no known hash.
    """
    if path.stat().st_size != remote.size_bytes:
        return False
    if remote.sha256 is not None:
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", remote.etag):  # git's hash: the file is not stored as LFS
        digest = hashlib.sha1(b"blob %d\0" % remote.size_bytes, usedforsecurity=False)
    else:
        raise FinalTransferError("the server reports no hash to check the file with.")
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == remote.etag


def publish(remote: RemoteFile) -> Path:
    """Make the finished and checked part the file; returns its path. Needs the lock."""
    part, blob = part_of(remote), blob_of(remote)
    with part.open("r+b") as file:
        os.fsync(file.fileno())  # after a power failure, the name must not exist without the bytes
    part.replace(blob)
    drop_part(remote)
    return link(remote, blob_is_ours=True)


def link(remote: RemoteFile, *, blob_is_ours: bool = False) -> Path:
    """Link the snapshot and the reference to an existing blob. Needs the lock.

    Without symbolic links (Windows) it does what huggingface_hub does: it moves a blob that nobody
    else uses into the snapshot, and copies any other.
    """
    from huggingface_hub.file_download import are_symlinks_supported

    pointer, blob = pointer_of(remote), blob_of(remote)
    if not is_whole(pointer, remote):
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)
        if are_symlinks_supported(cache_folder()):
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
        elif blob_is_ours:
            blob.replace(pointer)
        else:
            copy = part_of(remote)
            shutil.copyfile(blob, copy)
            copy.replace(pointer)
    _refer(remote)
    return pointer


def _refer(remote: RemoteFile) -> None:
    """Record the commit of the revision, once its snapshot exists."""
    revision = remote.revision or "main"
    if revision == remote.commit or ".." in revision.split("/"):
        return
    path = repo_folder(remote.repo).joinpath("refs", *revision.split("/"))
    if path.is_file() and path.read_text(encoding="utf-8") == remote.commit:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, remote.commit)


@contextmanager
def locked(repo: str, etag: str, is_cancelled: IsCancelled = never) -> Iterator[None]:
    """Hold huggingface_hub's own lock of a file, so that no other process downloads it.

    Waits for the lock. Raises Cancelled if ``is_cancelled`` becomes true while it waits.
    """
    # Public, but exported in a way that type checkers cannot see.
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    folder = repo_folder(repo)
    path = folder.parent / ".locks" / folder.name / f"{etag}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(WeakFileLock(path, timeout=_POLL_S))
                break
            except TimeoutError:
                if is_cancelled():
                    raise Cancelled("The download was interrupted.") from None
        yield


@dataclass(frozen=True, slots=True)
class Note:
    """The file that a part belongs to; ``server_etag`` is the ETag of the server that sent it."""

    remote: RemoteFile
    server_etag: str | None


def note_down(remote: RemoteFile, server_etag: str | None) -> None:
    """Write the note about the part of a file."""
    note = {**asdict(remote), "server_etag": server_etag}
    write_text(_note_path(part_of(remote)), json.dumps(note))


def note_on(part: Path) -> Note | None:
    """The note about a part; None if it is missing or damaged."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        note = json.loads(_note_path(part).read_text(encoding="utf-8"))
        server_etag = note.pop("server_etag", None)
        remote = RemoteFile(**note)
        if isinstance(remote.file, str) and isinstance(remote.size_bytes, int):
            return Note(remote, server_etag)
    return None


def drop_part(remote: RemoteFile) -> None:
    """Delete the part of a file and its note, if they exist."""
    remove_part(part_of(remote))


def remove_part(part: Path) -> None:
    """Like ``drop_part``, by the path of the part."""
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _note_path(part: Path) -> Path:
    return part.with_name(part.name.removesuffix(PART_SUFFIX) + _NOTE_SUFFIX)
