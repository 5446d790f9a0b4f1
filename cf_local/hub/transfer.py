"""Downloads from the hub: disk space is checked before, content after.

A file appears under its final name only when its size and hash are those the hub reports. Until
then its bytes are appended to a part, which later attempts and processes resume.

huggingface_hub's own downloads restart in each process, do not check the hash, only warn if the
disk is too small, and cannot be cancelled while they wait, so they are not used. Left out: several
connections for one file, and Xet.
"""

import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

from cf_local.errors import Cancelled, CfLocalError, MissingModelError
from cf_local.hub import local
from cf_local.hub.connection import (
    FaultyTransferError,
    FinalTransferError,
    Patience,
    get,
    not_fetched,
    status_of,
)
from cf_local.hub.remote import RemoteFile, first_byte_of
from cf_local.progress import IsCancelled, never

OnBytes = Callable[[int], None]
"""Receives the number of bytes of a file that are on this machine."""

OnProgress = Callable[[RemoteFile, int], None]
"""Like OnBytes, with the file; called from any thread."""

N_AT_ONCE = 3
_POLL_S = 0.05
_GRACE_S = 2.0

PROGRESS_BYTES = 1 << 20
"""An attempt that receives this much resets the count of failed attempts."""

SLOW_WINDOW_S = 30.0
SLOWEST_BYTES_PER_S = 500.0
"""A connection that is slower than this over the window is replaced."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is now on this machine, at ``path``.

    "linked": another tool or revision had downloaded its content. ``n_received`` counts the bytes
    from the network.
    """

    remote: RemoteFile
    path: Path
    status: Literal["downloaded", "linked"]
    n_received: int
    elapsed_s: float


Outcome = Fetched | CfLocalError


def check_space(remotes: Sequence[RemoteFile]) -> None:
    """Raise MissingModelError unless the missing bytes of the files fit on the disk."""
    different = {remote.etag: remote for remote in remotes}.values()
    needed = sum(remote.size_bytes - local.n_bytes_there(remote) for remote in different)
    folder = local.cache_folder()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise MissingModelError(
            f"The download needs {_gigabytes(needed)}, but only {_gigabytes(free)} are free at "
            f"{folder}. Free some (`cf-local list`, `cf-local rm`), or set HF_HUB_CACHE to a "
            "folder on another disk."
        )


def download(
    remotes: Sequence[RemoteFile],
    *,
    is_cancelled: IsCancelled = never,
    on_progress: OnProgress = lambda _file, _n_bytes: None,
) -> list[Outcome]:
    """Download files, N_AT_ONCE at a time; returns the outcome of each, in their order.

    A failure does not stop the others. Raises MissingModelError if they do not fit on the disk,
    and Cancelled if ``is_cancelled`` becomes true; the parts stay, to be resumed.
    """
    check_space(remotes)
    stopped = threading.Event()
    outcomes: dict[int, Outcome] = {}
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(remotes)):
        waiting.put(index)
    # Daemons: one that waits for a silent server must not keep an interrupted process alive. It
    # leaves a part, as a killed process does.
    work = partial(_work, remotes, waiting, outcomes, stopped, on_progress)
    workers = [threading.Thread(target=work, daemon=True) for _ in remotes[:N_AT_ONCE]]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            if is_cancelled():
                raise Cancelled("The download was interrupted; run again to continue it.")
            time.sleep(_POLL_S)
    finally:
        stopped.set()
        end = time.monotonic() + _GRACE_S
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
    return [outcomes[index] for index in range(len(remotes))]


def _work(
    remotes: Sequence[RemoteFile],
    waiting: "queue.SimpleQueue[int]",
    outcomes: dict[int, Outcome],
    stopped: threading.Event,
    on_progress: OnProgress,
) -> None:
    """Download waiting files one by one, until there is none or ``stopped`` is set."""
    while not stopped.is_set():
        try:
            index = waiting.get_nowait()
        except queue.Empty:
            return
        remote = remotes[index]
        try:
            outcomes[index] = fetch(
                remote, is_cancelled=stopped.is_set, on_bytes=partial(on_progress, remote)
            )
        except CfLocalError as error:
            outcomes[index] = error


def fetch(
    remote: RemoteFile, *, is_cancelled: IsCancelled = never, on_bytes: OnBytes = lambda _: None
) -> Fetched:
    """Download one file, unless its content is already on this machine.

    Raises MissingModelError that says what to do, or Cancelled.
    """
    start = time.monotonic()
    try:
        with local.locked(remote.repo, remote.etag, is_cancelled):
            if local.is_whole(local.blob_of(remote), remote):
                path, n_received = local.link(remote), 0
                local.drop_part(remote)  # another process was faster
            elif local.is_whole(path := local.pointer_of(remote), remote):
                n_received = 0  # without symbolic links, the snapshot has the file itself
            else:
                n_received = _complete(remote, is_cancelled, on_bytes)
                path = local.publish(remote)
    except Exception as error:  # the hub, its transports and the disk have no common base
        raise not_fetched(
            f"{remote.file} of {remote.repo}", error, remote.repo, remote.revision
        ) from error
    on_bytes(remote.size_bytes)
    status: Literal["downloaded", "linked"] = "downloaded" if n_received else "linked"
    return Fetched(remote, path, status, n_received, time.monotonic() - start)


def _complete(remote: RemoteFile, is_cancelled: IsCancelled, on_bytes: OnBytes) -> int:
    """Complete and check the part; returns the number of bytes received.

    A complete part with the wrong hash is downloaded once more from the start: an earlier run may
    have left it damaged.
    """
    part, n_received = local.part_of(remote), 0
    for _ in range(2):
        transfer = Transfer(remote, is_cancelled=is_cancelled, on_bytes=on_bytes)
        transfer.run()
        n_received += transfer.n_received
        if local.has_content_of(part, remote):
            return n_received
        local.drop_part(remote)
        on_bytes(0)
    raise FinalTransferError(
        f"the content is not what the hub reports (SHA-256 {remote.etag[:12]}...), so it was "
        "deleted. Something on the way, perhaps a proxy, damages it."
    )


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB"


class Transfer:
    """Completes the part of ``remote``; ``n_received`` counts the bytes received for it."""

    def __init__(
        self,
        remote: RemoteFile,
        *,
        is_cancelled: IsCancelled = never,
        on_bytes: OnBytes = lambda _: None,
    ) -> None:
        self._remote = remote
        self._part = local.part_of(remote)
        self._is_cancelled = is_cancelled
        self._on_bytes = on_bytes
        note = local.note_on(self._part)
        self._server_etag = note.server_etag if note else None
        self.n_received = 0

    def run(self) -> None:
        """Download what is missing. Raises the last attempt's error when retries are exhausted.

        The part stays, to be resumed. Raises Cancelled if ``is_cancelled`` becomes true.
        """
        patience = Patience(is_cancelled=self._is_cancelled)
        local.prepare(self._remote)
        with _opened(self._part) as file:
            while (n_there := self._end_of(file)) < self._remote.size_bytes:
                before = self.n_received
                try:
                    self._continue(file, n_there)
                except Exception as error:
                    if self.n_received - before >= PROGRESS_BYTES:
                        patience.renew()
                    if status_of(error) == 416:  # the server's file is shorter than our part
                        error = self._restart(file, "the file has become shorter")
                    if not patience.allows(error):
                        raise

    def _end_of(self, file: BinaryIO) -> int:
        """The length of the part in bytes; a part that is longer than the file is emptied."""
        n_there = file.seek(0, 2)
        if n_there > self._remote.size_bytes:
            self._restart(file, "the part is too long")
            return 0
        return n_there

    def _continue(self, file: BinaryIO, n_there: int) -> None:
        """Send one request for what is missing, and append what it returns."""
        headers = {"Range": f"bytes={n_there}-"} if n_there else {}
        if n_there and self._server_etag is not None:
            headers["If-Range"] = self._server_etag
        with get(self._remote.url, headers) as response:
            self._check_identity(response)
            first = first_byte_of(response, n_there, self._remote.size_bytes)
            etag = response.headers.get("ETag", "")
            if first and self._server_etag and etag and etag != self._server_etag:
                raise self._restart(file, "the file has changed")
            if not first:
                file.truncate(0)
            self._note(etag)
            self._receive(response, file, first)

    def _check_identity(self, response: Any) -> None:
        """Check the content's etag, which the hub sends in a response or a redirect to it."""
        for answer in (*response.history, response):
            etag = answer.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
            if etag and etag != self._remote.etag:
                raise FinalTransferError("the file has changed in the meantime; run again.")

    def _note(self, etag: str) -> None:
        """Save the server's ETag for If-Range, unless it is a weak one."""
        strong = etag if etag.startswith('"') else None
        if strong != self._server_etag or local.note_on(self._part) is None:
            self._server_etag = strong
            local.note_down(self._remote, strong)

    def _receive(self, response: Any, file: BinaryIO, position: int) -> None:
        """Write the body from ``position`` on, each chunk at once, so that it survives a kill."""
        file.seek(position)
        window_start, window_bytes = time.monotonic(), 0
        for chunk in response.iter_raw():
            if self._is_cancelled():
                raise Cancelled("The download was interrupted.")
            needed = chunk[: self._remote.size_bytes - position]
            file.write(needed)
            position += len(needed)
            self.n_received += len(chunk)
            self._on_bytes(position)
            if len(needed) < len(chunk):
                break
            window_bytes += len(chunk)
            if (elapsed_s := time.monotonic() - window_start) > SLOW_WINDOW_S:
                if window_bytes < elapsed_s * SLOWEST_BYTES_PER_S:
                    raise FaultyTransferError("the connection is too slow.")
                window_start, window_bytes = time.monotonic(), 0
        if position < self._remote.size_bytes:
            raise FaultyTransferError("the connection ended before the file did.")

    def _restart(self, file: BinaryIO, why: str) -> FaultyTransferError:
        """Empty the part; returns the error that says why."""
        file.truncate(0)
        self._server_etag = None
        self._on_bytes(0)
        return FaultyTransferError(f"{why}.")


def _opened(part: Path) -> BinaryIO:
    """The part, opened without a buffer; created if missing, never truncated."""
    part.touch()
    return part.open("r+b", buffering=0)
