"""The bytes of one file, from the hub to the end of a part: resumed, repeated, never mixed.

huggingface_hub's own transfer begins anew in each process and does not check what came, so this one
stands in for it. Left out: several connections for one file, and Xet.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from cf_local.errors import Cancelled
from cf_local.hub import store
from cf_local.hub.explain import FaultyTransferError, FinalTransferError, status_of
from cf_local.hub.remote import RemoteFile, first_byte_of
from cf_local.hub.session import Patience, get
from cf_local.progress import IsCancelled, never

OnBytes = Callable[[int], None]
"""Hears how many bytes of a file are there."""

PROGRESS_BYTES = 1 << 20
"""An attempt that brings so much makes good for the failed ones before it."""

SLOW_WINDOW_S = 30.0
SLOWEST_BYTES_PER_S = 500.0
"""A connection below this over the window is given up for a new one."""


class Transfer:
    """Completes the part of ``remote``; ``n_received`` counts the bytes that came for it."""

    def __init__(
        self,
        remote: RemoteFile,
        *,
        is_cancelled: IsCancelled = never,
        on_bytes: OnBytes = lambda _: None,
    ) -> None:
        self._remote = remote
        self._part = store.part_of(remote)
        self._is_cancelled = is_cancelled
        self._on_bytes = on_bytes
        note = store.note_on(self._part)
        self._server_etag = note.server_etag if note else None
        self.n_received = 0

    def run(self) -> None:
        """Fetch what is missing. Raises the last attempt's error when no further one is of use.

        The part stays, for the next run. Raises Cancelled when ``is_cancelled`` turns true.
        """
        patience = Patience(is_cancelled=self._is_cancelled)
        store.prepare(self._remote)
        with _opened(self._part) as file:
            while (n_there := self._end_of(file)) < self._remote.size_bytes:
                before = self.n_received
                try:
                    self._continue(file, n_there)
                except Exception as error:
                    if self.n_received - before >= PROGRESS_BYTES:
                        patience.renew()
                    if status_of(error) == 416:  # the server's file ends before our part does
                        error = self._start_anew(file, "the file has become shorter")
                    if not patience.allows(error):
                        raise

    def _end_of(self, file: BinaryIO) -> int:
        """The length of the part, which is emptied when it is longer than the file."""
        n_there = file.seek(0, 2)
        if n_there > self._remote.size_bytes:
            self._start_anew(file, "the part is too long")
            return 0
        return n_there

    def _continue(self, file: BinaryIO, n_there: int) -> None:
        """One request for what is missing."""
        asked = {"Range": f"bytes={n_there}-"} if n_there else {}
        if n_there and self._server_etag is not None:
            asked["If-Range"] = self._server_etag
        with get(self._remote.url, asked) as response:
            self._check_identity(response)
            first = first_byte_of(response, n_there, self._remote.size_bytes)
            told = response.headers.get("ETag", "")
            if first and self._server_etag and told and told != self._server_etag:
                raise self._start_anew(file, "the file has changed")
            if not first:
                file.truncate(0)
            self._note(told)
            self._receive(response, file, first)

    def _check_identity(self, response: Any) -> None:
        """The hub tells the content's name along the way, perhaps in a redirect."""
        for answer in (*response.history, response):
            told = answer.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
            if told and told != self._remote.etag:
                raise FinalTransferError("the file was changed meanwhile; run again.")

    def _note(self, told: str) -> None:
        """Keep the server's name of the content for If-Range, which takes no weak one."""
        strong = told if told.startswith('"') else None
        if strong != self._server_etag or store.note_on(self._part) is None:
            self._server_etag = strong
            store.note_down(self._remote, strong)

    def _receive(self, response: Any, file: BinaryIO, position: int) -> None:
        """Write the body behind ``position``, each piece at once: what came survives a kill."""
        file.seek(position)
        window_start, window_bytes = time.monotonic(), 0
        for chunk in response.iter_raw():
            if self._is_cancelled():
                raise Cancelled("The download was interrupted.")
            wanted = chunk[: self._remote.size_bytes - position]
            file.write(wanted)
            position += len(wanted)
            self.n_received += len(chunk)
            self._on_bytes(position)
            if len(wanted) < len(chunk):
                break
            window_bytes += len(chunk)
            if (elapsed_s := time.monotonic() - window_start) > SLOW_WINDOW_S:
                if window_bytes < elapsed_s * SLOWEST_BYTES_PER_S:
                    raise FaultyTransferError("the connection is too slow.")
                window_start, window_bytes = time.monotonic(), 0
        if position < self._remote.size_bytes:
            raise FaultyTransferError("the connection ended before the file did.")

    def _start_anew(self, file: BinaryIO, why: str) -> FaultyTransferError:
        """Drop what came; the error says so."""
        file.truncate(0)
        self._server_etag = None
        self._on_bytes(0)
        return FaultyTransferError(f"{why}.")


def _opened(part: Path) -> BinaryIO:
    """Unbuffered, created when missing, its content kept."""
    part.touch()
    return part.open("r+b", buffering=0)
