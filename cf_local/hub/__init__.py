"""Files of the Hugging Face hub: found in its shared cache, fetched when they are not there.

The only file that imports ``huggingface_hub``, and it does so inside its functions: the import
takes longer than answering from a cached file, and a built-in source needs none of it.
Left out: listing what a repository holds, and choosing a quantization.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cf_local.errors import InputError, MissingModelError
from cf_local.hub.explain import reason as _explain
from cf_local.hub.remote import RemoteFile, read_remote, resolve

__all__ = ["RemoteFile", "cached", "locate", "locate_data", "read_remote", "resolve", "sha256"]


def cached(repo: str, filename: str, revision: str | None = None) -> Path | None:
    """The file in the cache of this machine, or None; nothing is sent.

    A file that is there is used as it is: whether the repository has a newer one is not asked.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(repo, filename, revision=revision)
    except (HFValidationError, ValueError) as error:
        raise MissingModelError(f"{repo}/{filename} is no file of the hub: {error}") from error
    return Path(path) if isinstance(path, str) else None


def locate(repo: str, filename: str, revision: str | None = None, *, offline: bool = False) -> Path:
    """The file on this machine, downloaded first when need be, with progress on stderr.

    ``revision`` is a branch, tag or commit (default: main). With ``offline``, or HF_HUB_OFFLINE
    set, nothing is sent. Raises MissingModelError, which says what to do.
    """
    from huggingface_hub import hf_hub_download, is_offline_mode

    if (path := cached(repo, filename, revision)) is not None:
        return path
    if offline or is_offline_mode():
        raise MissingModelError(
            f"{filename} of {repo} is not on this machine, and cf-local is offline. "
            "Connect and run again without --offline and HF_HUB_OFFLINE, "
            "or name a .gguf file that you have."
        )
    try:
        return Path(hf_hub_download(repo, filename, revision=revision))
    except Exception as error:  # the hub, its transports and the disk have no common base
        reason = _explain(error, repo, revision)
        raise MissingModelError(f"{filename} of {repo} could not be fetched: {reason}") from error


def locate_data(repo: str, filename: str, *, offline: bool = False) -> Path:
    """A file of a data set, on this machine or downloaded first; as ``locate`` does it for models.

    Raises InputError, which says what to do.
    """
    from huggingface_hub import hf_hub_download, is_offline_mode, try_to_load_from_cache

    found = try_to_load_from_cache(repo, filename, repo_type="dataset")
    if isinstance(found, str):
        return Path(found)
    if offline or is_offline_mode():
        raise InputError(
            f"{filename} of the data set {repo} is not on this machine, and cf-local is offline. "
            "Connect and run again, or name a file that you have."
        )
    try:
        return Path(hf_hub_download(repo, filename, repo_type="dataset"))
    except Exception as error:  # as in locate
        reason = _explain(error, f"datasets/{repo}", None, "name a file that you have")
        raise InputError(
            f"{filename} of the data set {repo} could not be fetched: {reason}"
        ) from error


@lru_cache
def sha256(path: Path) -> str:
    """The SHA-256 of a file. The hub's cache names large files by it: those need no reading."""
    blob = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", blob):
        return blob
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the hub's library goes by on this machine; whether there is a token, never which."""

    cache_folder: Path
    endpoint: str
    has_token: bool
    is_offline: bool


def surroundings() -> Surroundings:
    """The cache folder, the endpoint, whether there is a token, and whether nothing may be sent."""
    from huggingface_hub import constants, get_token, is_offline_mode

    return Surroundings(
        Path(constants.HF_HUB_CACHE), constants.ENDPOINT, bool(get_token()), is_offline_mode()
    )


def cached_models(repo: str) -> list[Path]:
    """The .gguf files of a repository that are in the cache, each once, by name."""
    folder = surroundings().cache_folder / f"models--{repo.replace('/', '--')}" / "snapshots"
    return sorted({path.name: path for path in folder.glob("*/**/*.gguf")}.values())
