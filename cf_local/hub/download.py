"""Files of the hub onto this machine: checked for space before, for content after.

A file appears under its final name only when its size and hash are those that the hub tells.
"""

import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from cf_local.errors import Cancelled, CfLocalError, MissingModelError
from cf_local.hub import store
from cf_local.hub.explain import FinalTransferError, not_fetched
from cf_local.hub.remote import RemoteFile
from cf_local.hub.transfer import OnBytes, Transfer
from cf_local.progress import IsCancelled, never

N_AT_ONCE = 3
_POLL_S = 0.05
_GRACE_S = 2.0

OnProgress = Callable[[RemoteFile, int], None]
"""Hears, from any thread, how many bytes of a file are there."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is on this machine now, at ``path``.

    "linked": another tool, or another revision, had its content. ``n_received`` counts the bytes
    that came over the network.
    """

    remote: RemoteFile
    path: Path
    status: Literal["downloaded", "linked"]
    n_received: int
    elapsed_s: float


Outcome = Fetched | CfLocalError


def check_space(remotes: Sequence[RemoteFile]) -> None:
    """Raises MissingModelError unless all that is missing of the files fits on the disk."""
    different = {remote.etag: remote for remote in remotes}.values()
    needed = sum(remote.size_bytes - store.n_bytes_there(remote) for remote in different)
    folder = store.cache_folder()
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
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
    """Fetch files, some at a time; the outcome of each, in their order.

    One that fails does not stop the others. Raises MissingModelError when they do not fit on the
    disk, and Cancelled when ``is_cancelled`` turns true: the parts stay for the next time.
    """
    check_space(remotes)
    stopped = threading.Event()
    outcomes: dict[int, Outcome] = {}
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(remotes)):
        waiting.put(index)
    # Daemons: one that waits for a silent server must not keep an interrupted process alive. What
    # it leaves behind is what a kill leaves behind, a part.
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
    """Fetch one waiting file after the other, until there is none or the work is stopped."""
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
    """Fetch one file, if it is not there.

    Raises MissingModelError, which says what to do, or Cancelled.
    """
    began = time.monotonic()
    try:
        with store.locked(remote.repo, remote.etag, is_cancelled):
            if store.is_whole(store.blob_of(remote), remote):
                path, n_received = store.link(remote), 0
                store.drop_part(remote)  # somebody else was faster
            elif store.is_whole(path := store.pointer_of(remote), remote):
                n_received = 0  # without symbolic links, the snapshot has the file itself
            else:
                n_received = _complete(remote, is_cancelled, on_bytes)
                path = store.publish(remote)
    except Exception as error:  # the hub, its transports and the disk have no common base
        raise not_fetched(
            f"{remote.file} of {remote.repo}", error, remote.repo, remote.revision
        ) from error
    on_bytes(remote.size_bytes)
    status: Literal["downloaded", "linked"] = "downloaded" if n_received else "linked"
    return Fetched(remote, path, status, n_received, time.monotonic() - began)


def _complete(remote: RemoteFile, is_cancelled: IsCancelled, on_bytes: OnBytes) -> int:
    """Make the part whole and right; returns the bytes received.

    What is whole but wrong is fetched once more from its beginning: an earlier run may have left
    a damaged part.
    """
    part, n_received = store.part_of(remote), 0
    for _ in range(2):
        transfer = Transfer(remote, is_cancelled=is_cancelled, on_bytes=on_bytes)
        transfer.run()
        n_received += transfer.n_received
        if store.has_content_of(part, remote):
            return n_received
        store.drop_part(remote)
        on_bytes(0)
    raise FinalTransferError(
        f"what comes is not what the hub announces (SHA-256 {remote.etag[:12]}...), so it was "
        "thrown away. Something on the way, perhaps a proxy, damages it."
    )


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB"
