"""Requests to the hub: retries of temporary errors, and explanations of the others.

Requests use huggingface_hub's HTTP session (proxies, offline mode), token and time-outs. Redirects
to other hosts do not carry the token. huggingface_hub's own retries cannot be cancelled, wait as
long as a server demands, and log what they do, so the retries are here.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from errno import EACCES, EROFS
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from cf_local.errors import Cancelled, CfLocalError, InputError, MissingModelError
from cf_local.progress import IsCancelled, never

SITE = "https://huggingface.co"
OWN_FILE = "name a .gguf file that you have"

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 20.0
LONGEST_RETRY_AFTER_S = 120.0
"""If a server demands a longer wait, the user gets its error instead."""

_TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
_POLL_S = 0.1
T = TypeVar("T")
_BY_STATUS = {
    401: "it requires a login, or there is no such repository. Check the name at {page}; log in "
    "with `hf auth login`, or correct HF_TOKEN.",
    403: "the hub refuses access. Check at {page} whether you must accept a licence, and log in "
    "with `hf auth login` to an account that has access.",
    404: "the hub has no such file; see {page}.",
    429: "the hub accepts no more requests for now. Wait a few minutes and run again; the limit "
    "is higher after `hf auth login`.",
}


class FaultyTransferError(Exception):
    """A server sent something other than what was requested; a retry may help."""


class FinalTransferError(Exception):
    """Like FaultyTransferError, but a retry is useless."""


def timeout_s() -> float:
    """The seconds a server may be silent: HF_HUB_DOWNLOAD_TIMEOUT, by default 10."""
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)


@contextmanager
def get(url: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """The response to a GET, with its body unread. Raises the hub's errors from status 400 on.

    ``headers`` override the usual ones, which include the token.
    """
    from huggingface_hub import get_session, hf_raise_for_status

    asked = {**_usual_headers(), "Accept-Encoding": "identity", **headers}
    with get_session().stream(
        "GET", url, headers=asked, follow_redirects=True, timeout=timeout_s()
    ) as response:
        hf_raise_for_status(response)
        yield response


def _usual_headers() -> dict[str, str]:
    # Public, but exported in a way that type checkers cannot see.
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    check_token()
    usual: dict[str, str] = build_hf_headers(
        library_name="cf-local", library_version=version("cf-local")
    )
    return usual


def check_token() -> None:
    """Raise InputError for a token that cannot be used."""
    if problem := token_problem():
        raise InputError(problem)


def token_problem() -> str | None:
    """Why the token that huggingface_hub would send cannot be used; None where it can, or none is.

    A file that is not text, or a token with line breaks, would be an exception anywhere.
    """
    from huggingface_hub import constants, get_token

    try:
        token = get_token() or ""
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        return (
            f"The hub's token in {constants.HF_TOKEN_PATH} cannot be read: {why}. Log in again "
            "with `hf auth login`, or delete that file."
        )
    if token.isascii() and token.isprintable():
        return None
    return "The hub's token (HF_TOKEN, or `hf auth login`) has characters that a token cannot have."


class Patience:
    """The retries of one task: how many are left, and how long to wait before each."""

    def __init__(self, n_tries: int = 6, is_cancelled: IsCancelled = never) -> None:
        self._n_tries = n_tries
        self._is_cancelled = is_cancelled
        self._n_failed = 0

    def renew(self) -> None:
        """Forget earlier failures, after progress."""
        self._n_failed = 0

    def allows(self, error: Exception) -> bool:
        """Whether to retry after this error; waits before it returns True.

        Raises Cancelled if ``is_cancelled`` becomes true while it waits.
        """
        self._n_failed += 1
        if self._n_failed >= self._n_tries or not _is_temporary(error):
            return False
        wait_s = _retry_after_s(error)
        if wait_s is None:
            wait_s = min(FIRST_WAIT_S * 2 ** (self._n_failed - 1), LONGEST_WAIT_S)
        if wait_s > LONGEST_RETRY_AFTER_S:
            return False
        self._sleep(wait_s)
        return True

    def _sleep(self, wait_s: float) -> None:
        end = time.monotonic() + wait_s
        while (left := end - time.monotonic()) > 0:
            if self._is_cancelled():
                raise Cancelled("The download was interrupted.")
            time.sleep(min(left, _POLL_S))


def patiently(attempt: Callable[[], T], n_tries: int = 4) -> T:
    """The result of ``attempt``, with retries of temporary errors, up to ``n_tries`` in all."""
    patience = Patience(n_tries)
    while True:
        try:
            return attempt()
        except Exception as error:
            if not patience.allows(error):
                raise


def _is_temporary(error: Exception) -> bool:
    faulty = isinstance(error, FaultyTransferError)
    return faulty or is_transport(error) or status_of(error) in _TEMPORARY


def _retry_after_s(error: Exception) -> float | None:
    """The seconds of a Retry-After header, which may also be a date; None without one."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    text = headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where downloads come from and go to; whether there is a token, but not the token."""

    cache_folder: Path
    endpoint: str
    has_token: bool
    is_offline: bool
    token_problem: str | None = None


def settings() -> HubSettings:
    """The settings by environment variables and huggingface_hub's files; nothing is sent."""
    from huggingface_hub import constants, get_token, is_offline_mode

    problem = token_problem()
    has_token = problem is None and bool(get_token())
    return HubSettings(
        Path(constants.HF_HUB_CACHE), constants.ENDPOINT, has_token, is_offline_mode(), problem
    )


def not_fetched(what: str, error: Exception, repo: str, revision: str | None) -> CfLocalError:
    """The error for the user; an error that already is one stays as it is."""
    if isinstance(error, CfLocalError):
        return error
    return MissingModelError(f"{what} could not be fetched: {reason(error, repo, revision)}")


def reason(
    error: Exception, repo: str, revision: str | None = None, instead: str = OWN_FILE
) -> str:
    """What went wrong and what to do. ``instead`` is what the user can do without the hub."""
    from huggingface_hub import errors

    page = f"{SITE}/{repo}"
    reasons: list[tuple[type[Exception], str]] = [  # a subclass comes before its base
        (
            errors.GatedRepoError,
            f"accept its licence first, at {page}; then log in with `hf auth login` "
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
        return f"the hub has an internal problem (status {status}). Try again later, or {instead}."
    if is_transport(error):
        return (
            f"the connection failed ({first_line(error)[:-1]}). Check the network (HTTPS_PROXY, "
            f"HF_ENDPOINT) and try again, or {instead}."
        )
    if isinstance(error, OSError) and error.filename is not None:
        own = " Set HF_HUB_CACHE to a folder that you own."
        hint = own if error.errno in (EACCES, EROFS) else ""
        return f"{error.filename}: {error.strerror}.{hint}"
    return f"{first_line(error)} Try again, or {instead}."


def status_of(error: Exception) -> int:
    """The HTTP status of an error; 0 if it has none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def is_transport(error: Exception) -> bool:
    """Whether the network or the connection failed, so that there is no HTTP status.

    By class name: huggingface_hub's releases use different HTTP libraries with the same classes.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return "TransportError" in names and not names & {"UnsupportedProtocol", "LocalProtocolError"}


def first_line(error: Exception) -> str:
    """The first line of an error's text, as a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."
