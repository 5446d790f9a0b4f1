"""A model by name: from the cache of this machine, or downloaded into it first."""

from pathlib import Path

from cf_local.errors import CfLocalError, InputError, MissingModelError
from cf_local.hub.cache import cached
from cf_local.hub.download import OnProgress, download
from cf_local.hub.explain import is_transport, reason
from cf_local.hub.remote import RemoteFile, is_offline, resolve
from cf_local.progress import IsCancelled, never


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
    """The file on this machine (of a split model: the first part), downloaded when need be.

    ``revision`` is a branch, tag or commit (default: main). Without a ``filename``, ``quant``
    chooses (None: Q4_K_M or what comes nearest). With ``offline``, or HF_HUB_OFFLINE set, nothing
    is sent. Raises MissingModelError, which says what to do, or Cancelled.
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
    """As ``locate``, but nothing is downloaded: the file here, or what must be fetched for it.

    With ``update`` the hub is asked in any case. When it cannot be reached, what comes nearest to
    a quantization that was not named stands in.
    """
    if not update and (path := cached(repo, filename, revision, quant)) is not None:
        return path
    stands_in = cached(repo, filename, revision, quant, nearest=True)
    if stands_in is not None and (offline or is_offline()):
        return stands_in
    try:
        return resolve(repo, file=filename, quant=quant, revision=revision, offline=offline)
    except MissingModelError as error:
        cause = error.__cause__
        unreachable = isinstance(cause, Exception) and is_transport(cause)
        if stands_in is not None and unreachable and not update:
            return stands_in
        raise


def locate_data(repo: str, filename: str, *, offline: bool = False) -> Path:
    """A file of a data set, on this machine or downloaded first; small, so the hub's way will do.

    Raises InputError, which says what to do.
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
    try:
        return Path(hf_hub_download(repo, filename, repo_type="dataset"))
    except Exception as error:  # the hub, its transports and the disk have no common base
        why = reason(error, f"datasets/{repo}", None, "name a file that you have")
        raise InputError(
            f"{filename} of the data set {repo} could not be fetched: {why}"
        ) from error
