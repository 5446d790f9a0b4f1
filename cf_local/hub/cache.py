"""What the hub's cache on this machine holds for a name, whoever put it there. Nothing is sent."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from cf_local.errors import MissingModelError
from cf_local.files import parts
from cf_local.hub import store
from cf_local.hub.choice import DEFAULT, NoChoiceError, choose, quantization


def cached(
    repo: str,
    filename: str = "",
    revision: str | None = None,
    quant: str | None = None,
    *,
    nearest: bool = False,
) -> Path | None:
    """The file (of a split model: the first) in the cache of this machine, or None.

    A file that is there is used as it is: whether the repository has a newer one is not asked.
    Without a ``filename`` the quantization chooses, Q4_K_M when ``quant`` names none, or what is
    ``nearest`` to it. Without a ``revision`` main comes first, then all others, the newest first.
    """
    from huggingface_hub.errors import HFValidationError

    if ".." in filename.split("/") or filename.startswith("/"):
        raise MissingModelError(f"{repo}/{filename} is no file of the hub: it leaves the folder.")
    try:
        snapshots = snapshots_of(store.repo_folder(repo), revision)
    except HFValidationError as error:
        raise MissingModelError(f"{repo}/{filename} is no file of the hub: {error}") from error
    for snapshot in snapshots:
        names = parts(filename) if filename else _choose(snapshot, quant, nearest=nearest)
        if names and all((snapshot / name).is_file() for name in names):
            return snapshot / (filename or names[0])
    return None


def files_of(snapshot: Path) -> list[str]:
    """The GGUF files of a snapshot, as the repository names them."""
    found = (path for path in snapshot.rglob("*") if path.suffix.lower() == ".gguf")
    return sorted(path.relative_to(snapshot).as_posix() for path in found if path.is_file())


def _choose(snapshot: Path, quant: str | None, *, nearest: bool) -> tuple[str, ...]:
    try:
        chosen = choose(files_of(snapshot), quant)
    except NoChoiceError:
        return ()
    label = (quantization(chosen[0]) or "").removeprefix("UD-")
    return chosen if quant is not None or nearest or label == DEFAULT else ()


def snapshots_of(folder: Path, revision: str | None) -> list[Path]:
    """The commits to look into, the best first."""
    snapshots = folder / "snapshots"
    ref = folder.joinpath("refs", *(revision or "main").split("/"))
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    first = [snapshots / commit] if commit and (snapshots / commit).is_dir() else []
    if revision is not None or not snapshots.is_dir():
        return first
    others = [path for path in snapshots.iterdir() if path.is_dir() and path not in first]
    return first + sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)


def place_of(repo: str, path: Path) -> tuple[str, str]:
    """The commit that a file of the cache belongs to, and its name there."""
    commit, *names = path.relative_to(store.repo_folder(repo) / "snapshots").parts
    return commit, "/".join(names)


@lru_cache
def sha256(path: Path) -> str:
    """The SHA-256 of a file. The hub's cache names large files by it: those need no reading."""
    blob = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", blob):
        return blob
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
