"""A model by name: from the cache on this machine, or downloaded into it.

A file in the cache is used without a request, whichever tool downloaded it.
"""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from cf_local.errors import CfLocalError, InputError, MissingModelError
from cf_local.files import parts
from cf_local.hub import local
from cf_local.hub.choice import DEFAULT, NoChoiceError, choose, quantization
from cf_local.hub.connection import check_token, is_transport, reason
from cf_local.hub.remote import RemoteFile, is_offline, resolve
from cf_local.hub.transfer import OnProgress, download
from cf_local.progress import IsCancelled, never


def cached(
    repo: str,
    filename: str = "",
    revision: str | None = None,
    quant: str | None = None,
    *,
    nearest: bool = False,
) -> Path | None:
    """The file (of a split model: its first part) in the cache, or None. Nothing is sent.

    Whether the repository has a newer version is not checked. Without a ``filename``, ``quant``
    selects it: None means Q4_K_M, or with ``nearest`` the nearest to it. Without a ``revision``,
    main comes first, then the newest. Raises MissingModelError for an invalid name.
    """
    from huggingface_hub.errors import HFValidationError

    if ".." in filename.split("/") or filename.startswith("/"):
        raise MissingModelError(
            f"{repo}/{filename} is not a file of the hub: its path leaves the folder."
        )
    try:
        snapshots = snapshots_of(local.repo_folder(repo), revision)
    except HFValidationError as error:
        raise MissingModelError(f"{repo}/{filename} is not a file of the hub: {error}") from error
    for snapshot in snapshots:
        names = parts(filename) if filename else _choose(snapshot, quant, nearest=nearest)
        if names and all((snapshot / name).is_file() for name in names):
            return snapshot / (filename or names[0])
    return None


def files_of(snapshot: Path) -> list[str]:
    """The GGUF files of a snapshot by their names in the repository."""
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
    """The snapshots of a repository's folder to search, the best first."""
    snapshots = folder / "snapshots"
    ref = folder.joinpath("refs", *(revision or "main").split("/"))
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    first = [snapshots / commit] if commit and (snapshots / commit).is_dir() else []
    if revision is not None or not snapshots.is_dir():
        return first
    others = [path for path in snapshots.iterdir() if path.is_dir() and path not in first]
    return first + sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)


def place_of(repo: str, path: Path) -> tuple[str, str]:
    """The commit of a file in the cache, and its name in the repository."""
    commit, *names = path.relative_to(local.repo_folder(repo) / "snapshots").parts
    return commit, "/".join(names)


@lru_cache
def sha256(path: Path) -> str:
    """The SHA-256 of a file, by name for a large file in the cache, which need not be read."""
    etag = local.etag_of(path)
    if etag is not None and re.fullmatch(r"[0-9a-f]{64}", etag):
        return etag
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locate(
    repo: str,
    filename: str = "",
    revision: str | None = None,
    *,
    quant: str | None = None,
    offline: bool = False,
    is_cancelled: IsCancelled = never,
    on_progress: OnProgress = lambda _file, _n_bytes: None,
) -> Path:
    """The file on this machine (of a split model: its first part), downloaded if necessary.

    ``revision`` is a branch, tag or commit (default: main). Without a ``filename``, ``quant``
    selects it (None: Q4_K_M or the nearest to it). With ``offline``, or with HF_HUB_OFFLINE set,
    nothing is sent. Raises MissingModelError that says what to do, or Cancelled.
    """
    found = look_up(repo, filename, revision, quant=quant, offline=offline)
    if isinstance(found, Path):
        return found
    outcomes = download(found, is_cancelled=is_cancelled, on_progress=on_progress)
    paths = []
    for outcome in outcomes:
        if isinstance(outcome, CfLocalError):
            raise outcome
        paths.append(outcome.path)
    return paths[0]


def look_up(
    repo: str,
    filename: str = "",
    revision: str | None = None,
    *,
    quant: str | None = None,
    offline: bool = False,
    update: bool = False,
) -> Path | tuple[RemoteFile, ...]:
    """Like ``locate`` without the download: the file on this machine, or the files to download.

    With ``update`` the hub is always asked. If it cannot be reached, and no quantization is given,
    the nearest one on this machine serves instead.
    """
    if not update and (path := cached(repo, filename, revision, quant)) is not None:
        return path
    substitute = cached(repo, filename, revision, quant, nearest=True)
    if substitute is not None and (offline or is_offline()):
        return substitute
    try:
        return resolve(repo, file=filename, quant=quant, revision=revision, offline=offline)
    except MissingModelError as error:
        cause = error.__cause__
        unreachable = isinstance(cause, Exception) and is_transport(cause)
        if substitute is not None and unreachable and not update:
            return substitute
        raise


def locate_data(repo: str, filename: str, *, offline: bool = False) -> Path:
    """A file of a data set, downloaded if necessary, by huggingface_hub since it is small.

    Raises InputError that says what to do.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(repo, filename, repo_type="dataset")
    if isinstance(found, str):
        return Path(found)
    if offline or is_offline():
        raise InputError(
            f"{filename} of the data set {repo} is not on this machine, and cf-local is offline. "
            "Connect and run again, or name a file that you have."
        )
    check_token()
    try:
        return Path(hf_hub_download(repo, filename, repo_type="dataset"))
    except Exception as error:  # the hub, its transports and the disk have no common base
        why = reason(error, f"datasets/{repo}", None, "name a file that you have")
        raise InputError(
            f"{filename} of the data set {repo} could not be fetched: {why}"
        ) from error
