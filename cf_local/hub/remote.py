"""The files of a model in a repository of the hub, and ranges of their bytes."""

import re
from dataclasses import dataclass

from cf_local.errors import MissingModelError
from cf_local.files import parts
from cf_local.hub.choice import NoChoiceError, choose
from cf_local.hub.connection import (
    OWN_FILE,
    FaultyTransferError,
    FinalTransferError,
    check_token,
    get,
    not_fetched,
    patiently,
    timeout_s,
)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[0-9A-Za-z._-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSAFE = frozenset('\\:*?"<>|\0')
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as it is in one commit of a repository.

    ``revision`` is the requested branch, tag or commit (None: main). ``etag`` names the content,
    also in the cache: it is the SHA-256 of a large file, git's hash of a small one.
    """

    repo: str
    file: str
    revision: str | None
    commit: str
    etag: str
    size_bytes: int

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the content if the hub knows it: for all files stored as LFS."""
        return self.etag if _SHA256.fullmatch(self.etag) else None

    @property
    def url(self) -> str:
        """The URL by commit, so that the file cannot change between two requests."""
        from huggingface_hub import constants, hf_hub_url

        url = hf_hub_url(self.repo, self.file, revision=self.commit, endpoint=constants.ENDPOINT)
        return str(url)


def resolve(
    repo: str,
    *,
    file: str = "",
    quant: str | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> tuple[RemoteFile, ...]:
    """Ask the hub for the files of a model in a repository, the first part first.

    ``file`` names one (of a split model, any part stands for all); without it ``quant`` selects
    them (None: Q4_K_M or the nearest to it). Raises MissingModelError that says what to do.
    """
    what = f"{file} of {repo}" if file else f"{repo}:{quant}" if quant else repo
    if offline or is_offline():
        raise MissingModelError(
            f"{what} is not on this machine, and cf-local is offline. "
            f"Connect and run again without --offline and HF_HUB_OFFLINE, or {OWN_FILE}."
        )
    check_token()
    try:
        if file:
            return _named(repo, parts(file), revision)
        return _chosen(repo, quant, revision)
    except NoChoiceError as error:
        raise MissingModelError(f"{repo} {error}. Name one: {repo}:QUANT.") from error
    except Exception as error:  # the hub, its transports and the disk have no common base
        raise not_fetched(what, error, repo, revision) from error


def read_remote(remote: RemoteFile, start: int, n_bytes: int) -> bytes:
    """``n_bytes`` of a file of the hub from byte ``start`` on, or fewer at its end.

    Nothing is saved. Raises MissingModelError that says what to do.
    """
    end = min(start + n_bytes, remote.size_bytes)
    if end <= start:
        return b""
    try:
        return patiently(lambda: _read(remote, start, end))
    except Exception as error:  # as in resolve
        what = f"{remote.file} of {remote.repo}"
        raise not_fetched(what, error, remote.repo, remote.revision) from error


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids all requests."""
    from huggingface_hub import is_offline_mode

    return bool(is_offline_mode())


def first_byte_of(response: object, requested: int, size_bytes: int) -> int:
    """The first byte of a body: ``requested``, or 0 if the server sends the whole file.

    Raises FaultyTransferError for another range or another file size, FinalTransferError for a
    compressed body.
    """
    status: int = response.status_code  # type: ignore[attr-defined]
    headers = response.headers  # type: ignore[attr-defined]
    if headers.get("Content-Encoding", "identity") != "identity":
        raise FinalTransferError("a server on the way compressed the file, so it cannot be used.")
    if status == 200:
        length = headers.get("Content-Length")
        if length is not None and length != str(size_bytes):
            raise FaultyTransferError(f"the server sends {length} bytes instead of {size_bytes}.")
        return 0
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if status != 206 or match is None:
        raise FaultyTransferError(f"the server sends status {status} and no file.")
    if int(match[1]) != requested or match[3] not in ("*", str(size_bytes)):
        raise FaultyTransferError(f"the server sends {match[0]}, not {requested}-/{size_bytes}.")
    return requested


def _read(remote: RemoteFile, start: int, end: int) -> bytes:
    with get(remote.url, {"Range": f"bytes={start}-{end - 1}"}) as response:
        position = first_byte_of(response, start, remote.size_bytes)
        read = bytearray()
        for chunk in response.iter_raw():
            read += chunk[max(0, start - position) :]
            position += len(chunk)
            if position >= end:
                break
    if len(read) < end - start:
        raise FaultyTransferError("the server sent fewer bytes than requested.")
    return bytes(read[: end - start])


def _named(repo: str, files: tuple[str, ...], revision: str | None) -> tuple[RemoteFile, ...]:
    """The files by name, all in the commit of the first."""
    found: list[RemoteFile] = []
    for file in files:
        commit = found[0].commit if found else revision
        found.append(_checked(patiently(lambda f=file, c=commit: _look_up(repo, f, c, revision))))  # type: ignore[misc]
    return tuple(found)


def _look_up(repo: str, file: str, commit: str | None, revision: str | None) -> RemoteFile:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo, file, revision=commit, endpoint=constants.ENDPOINT)
    found = get_hf_file_metadata(url, timeout=timeout_s(), library_name="cf-local", token=None)
    if found.commit_hash is None or found.etag is None or found.size is None:
        raise FinalTransferError(f"the server at {constants.ENDPOINT} is not a Hugging Face hub.")
    return RemoteFile(repo, file, revision, found.commit_hash, found.etag, found.size)


def _chosen(repo: str, quant: str | None, revision: str | None) -> tuple[RemoteFile, ...]:
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT, library_name="cf-local")
    info = patiently(
        lambda: api.model_info(repo, revision=revision, timeout=timeout_s(), files_metadata=True)
    )
    files = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    found = []
    for file in choose(files, quant):
        size, content = files[file].size, files[file].lfs
        etag = content.sha256 if content is not None else files[file].blob_id
        if info.sha is None or etag is None or size is None:
            raise FinalTransferError(
                f"the server at {constants.ENDPOINT} is not a Hugging Face hub."
            )
        found.append(_checked(RemoteFile(repo, file, revision, info.sha, etag, size)))
    return tuple(found)


def _checked(remote: RemoteFile) -> RemoteFile:
    """The same file, if its names are safe as file names here: a server could be hostile.

    Raises FinalTransferError if they are not.
    """
    names = remote.file.split("/")
    is_safe = all(name not in ("", ".", "..") and not set(name) & _UNSAFE for name in names)
    named = _COMMIT.fullmatch(remote.commit) and _ETAG.fullmatch(remote.etag)
    if not is_safe or not named or remote.size_bytes < 0 or remote.etag in (".", ".."):
        raise FinalTransferError(f"the server's description of {remote.file!r} is not safe.")
    return remote
