"""Requests to the hub: with its token, time-outs, and patience for what passes.

On huggingface_hub's own HTTP session, which knows proxies and offline mode. It follows redirects to
other hosts without the token.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, TypeVar

from cf_local.errors import Cancelled
from cf_local.hub.explain import FaultyTransferError, is_transport, status_of
from cf_local.progress import IsCancelled, never

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 20.0
LONGEST_RETRY_AFTER_S = 120.0
"""A server that wants to be left alone for longer is told to the user instead."""

_TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
_POLL_S = 0.1
T = TypeVar("T")


def timeout_s() -> float:
    """How long a server may be silent: HF_HUB_DOWNLOAD_TIMEOUT, 10 s unless set."""
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)


@contextmanager
def get(url: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """The response to a GET, its body unread. Raises the hub's errors for a status of 400 or more.

    ``headers`` come over the usual ones, token included.
    """
    from huggingface_hub import get_session, hf_raise_for_status

    asked = {**_usual_headers(), "Accept-Encoding": "identity", **headers}
    with get_session().stream(
        "GET", url, headers=asked, follow_redirects=True, timeout=timeout_s()
    ) as response:
        hf_raise_for_status(response)
        yield response


def _usual_headers() -> dict[str, str]:
    # Public, but huggingface_hub hands its names out in a way that no type checker sees.
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    usual: dict[str, str] = build_hf_headers(
        library_name="cf-local", library_version=version("cf-local")
    )
    return usual


class Patience:
    """How often something is tried again, and how long is waited in between."""

    def __init__(self, n_tries: int = 6, is_cancelled: IsCancelled = never) -> None:
        self._n_tries = n_tries
        self._is_cancelled = is_cancelled
        self._n_failed = 0

    def renew(self) -> None:
        """There was progress: earlier failures no longer count."""
        self._n_failed = 0

    def allows(self, error: Exception) -> bool:
        """Whether to try again after this error, after waiting for as long as is due.

        Raises Cancelled when ``is_cancelled`` turns true meanwhile.
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
    """What ``attempt`` returns, tried again while its errors may pass."""
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
    """What the server asks for in its Retry-After, seconds or a date; None without one."""
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
