"""The hub's cache on this machine: where a file lies, and how it appears there, whole or not.

The layout is huggingface_hub's own: ``blobs/<etag>`` holds content, ``snapshots/<commit>/<file>``
links to it, ``refs/<revision>`` names a commit. Beside a blob that is not whole yet lie its part
and a note that says what it will be; only we write parts of this name, so they grow from the front.
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
    """The hub's cache: HF_HUB_CACHE, or ``hub`` in HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repo_folder(repo: str) -> Path:
    """Where the files of a repository lie. Raises the hub's HFValidationError for a bad name."""
    from huggingface_hub.file_download import repo_folder_name

    return cache_folder() / repo_folder_name(repo_id=repo, repo_type="model")


def blob_of(remote: RemoteFile) -> Path:
    """The file with the content, under its final name."""
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
    """The file under its name in the repository: what is opened."""
    return repo_folder(remote.repo).joinpath("snapshots", remote.commit, *remote.file.split("/"))


def part_of(remote: RemoteFile) -> Path:
    """What has come of the file so far."""
    return blob_of(remote).with_name(remote.etag + PART_SUFFIX)


def prepare(remote: RemoteFile) -> Path:
    """Make the folders that a part needs; returns where it lies.

    A repository without ``snapshots`` would look broken to other tools.
    """
    (repo_folder(remote.repo) / "snapshots").mkdir(parents=True, exist_ok=True)
    part = part_of(remote)
    part.parent.mkdir(exist_ok=True)
    return part


def n_bytes_there(remote: RemoteFile) -> int:
    """How much of the file need not be fetched."""
    if is_whole(blob_of(remote), remote) or is_whole(pointer_of(remote), remote):
        return remote.size_bytes
    part = part_of(remote)
    return min(part.stat().st_size, remote.size_bytes) if part.is_file() else 0


def is_whole(path: Path, remote: RemoteFile) -> bool:
    """Whether a finished file of the right size lies there, whoever put it there."""
    return path.is_file() and path.stat().st_size == remote.size_bytes


def has_content_of(path: Path, remote: RemoteFile) -> bool:
    """Whether size and hash on disk are those that the hub tells. Reads the whole file."""
    if path.stat().st_size != remote.size_bytes:
        return False
    if remote.sha256 is not None:
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", remote.etag):  # git's hash of a file that is not LFS
        digest = hashlib.sha1(b"blob %d\0" % remote.size_bytes, usedforsecurity=False)
    else:
        raise FinalTransferError("the server tells no hash by which the file could be checked.")
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == remote.etag


def publish(remote: RemoteFile) -> Path:
    """Turn the part, whole and checked, into the file; returns its path. Needs the lock."""
    part, blob = part_of(remote), blob_of(remote)
    with part.open("r+b") as file:
        os.fsync(file.fileno())  # the name must not survive a power failure that the bytes do not
    part.replace(blob)
    drop_part(remote)
    return link(remote, blob_is_ours=True)


def link(remote: RemoteFile, *, blob_is_ours: bool = False) -> Path:
    """Let the snapshot and the reference name a blob that is there. Needs the lock.

    Without symbolic links (Windows) as huggingface_hub does it: a blob that only we know is moved
    into the snapshot, another one is copied.
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
    """Remember which commit the revision is, after its snapshot is there."""
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
    """Nobody else fetches this file meanwhile, huggingface_hub included: it is its lock.

    Waits for who has it. Raises Cancelled when ``is_cancelled`` turns true meanwhile.
    """
    # Public, but handed out in a way that no type checker sees.
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    folder = repo_folder(repo)
    path = folder.parent / ".locks" / folder.name / f"{etag}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(WeakFileLock(path, timeout=_POLL_S))
                break
            except TimeoutError:
                if is_cancelled():
                    raise Cancelled("The download was interrupted.") from None
        yield


@dataclass(frozen=True, slots=True)
class Note:
    """What a part will be; ``server_etag`` is how the server that sent it named the content."""

    remote: RemoteFile
    server_etag: str | None


def note_down(remote: RemoteFile, server_etag: str | None) -> None:
    """Remember what the part of a file will be."""
    note = {**asdict(remote), "server_etag": server_etag}
    write_text(_note_path(part_of(remote)), json.dumps(note))


def note_on(part: Path) -> Note | None:
    """What a part will be; None when the note is missing or damaged."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        note = json.loads(_note_path(part).read_text(encoding="utf-8"))
        server_etag = note.pop("server_etag", None)
        remote = RemoteFile(**note)
        if isinstance(remote.file, str) and isinstance(remote.size_bytes, int):
            return Note(remote, server_etag)
    return None


def drop_part(remote: RemoteFile) -> None:
    """Remove the part and its note, as far as they are there."""
    remove_part(part_of(remote))


def remove_part(part: Path) -> None:
    """As ``drop_part``, for a part that was found in the cache."""
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _note_path(part: Path) -> Path:
    return part.with_name(part.name.removesuffix(PART_SUFFIX) + _NOTE_SUFFIX)
