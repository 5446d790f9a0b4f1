"""What went wrong between here and the hub, and what its user can do."""

from errno import EACCES, EROFS

from cf_local.errors import CfLocalError, MissingModelError

SITE = "https://huggingface.co"
OWN_FILE = "name a .gguf file that you have"


class FaultyTransferError(Exception):
    """A server sent something else than it was asked for; asking again may help."""


class FinalTransferError(Exception):
    """As FaultyTransferError, but asking again is of no use."""


def not_fetched(what: str, error: Exception, repo: str, revision: str | None) -> CfLocalError:
    """The error for the user; one that was written for him already stays as it is."""
    if isinstance(error, CfLocalError):
        return error
    return MissingModelError(f"{what} could not be fetched: {reason(error, repo, revision)}")


def reason(
    error: Exception, repo: str, revision: str | None = None, instead: str = OWN_FILE
) -> str:
    """What went wrong and what to do; a subclass stands before its base."""
    from huggingface_hub import errors

    page = f"{SITE}/{repo}"
    reasons: list[tuple[type[Exception], str]] = [
        (
            errors.GatedRepoError,
            f"its licence must be accepted first, at {page}; then log in with `hf auth login` "
            "or set HF_TOKEN.",
        ),
        (
            errors.RepositoryNotFoundError,
            f"there is no repository {repo}, or it is private. Check the name at {page}; "
            "for a private one log in with `hf auth login` or set HF_TOKEN.",
        ),
        (errors.RevisionNotFoundError, f"the repository has no revision {revision!r}; see {page}."),
        (
            errors.RemoteEntryNotFoundError,
            f"the repository has no such file; see {page}.",
        ),
        (
            errors.LocalEntryNotFoundError,
            "the hub cannot be reached. Check the network (HTTPS_PROXY, HF_ENDPOINT) and try "
            f"again, or {instead}.",
        ),
    ]
    for kind, text in reasons:
        if isinstance(error, kind):
            return text
    if (status := status_of(error)) in _BY_STATUS:
        return _BY_STATUS[status].format(page=page)
    if status >= 500:
        return f"the hub has a problem of its own (status {status}). Try again later, or {instead}."
    if is_transport(error):
        return (
            f"the connection failed ({first_line(error)[:-1]}). Check the network (HTTPS_PROXY, "
            f"HF_ENDPOINT) and try again, or {instead}."
        )
    if isinstance(error, OSError) and error.filename is not None:
        hint = " Set HF_HUB_CACHE to a folder of yours." if error.errno in (EACCES, EROFS) else ""
        return f"{error.filename}: {error.strerror}.{hint}"
    return f"{first_line(error)} Try again, or {instead}."


_BY_STATUS = {
    401: "the hub lets only those read it who are logged in, or there is no such repository. Check "
    "the name at {page}; log in with `hf auth login`, or correct HF_TOKEN.",
    403: "the hub refuses access. See {page}, whether a licence must be accepted there, and log in "
    "with `hf auth login` as somebody who may read it.",
    404: "the hub has no such file; see {page}.",
    429: "the hub takes no more requests for now. Wait some minutes and run again; who is logged "
    "in (`hf auth login`) may send more.",
}


def status_of(error: Exception) -> int:
    """The HTTP status that an error is about; 0 when it is about none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def is_transport(error: Exception) -> bool:
    """Whether the network or the server failed beneath HTTP's own answers.

    By name: huggingface_hub's releases use different HTTP libraries of the same shape.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return "TransportError" in names and not names & {"UnsupportedProtocol", "LocalProtocolError"}


def first_line(error: Exception) -> str:
    """The first line of an error's text, as a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."
