"""Weights that several sources use: one copy of a file in a place, as long as anybody uses it.

Contexts only read weights, so sources of different fusions may compute on them at the same time.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cf_local.errors import Cancelled
from cf_local.llama.load_work import read_ahead
from cf_local.llama.model import LlamaModel
from cf_local.llama.state_key import identity_of
from cf_local.progress import IsCancelled, Progress, never

_Key = tuple[str, int, tuple[str, ...] | None, tuple[int, ...]]
_WAIT_S = 0.05  # from one look at ``is_cancelled`` to the next, while another thread loads


@dataclass(slots=True)
class _Entry:
    """One copy, and how many use it or wait for it; ``loading`` is held while it is loaded."""

    loading: threading.Lock = field(default_factory=threading.Lock)
    model: LlamaModel | None = None
    n_users: int = 0


_lock = threading.Lock()  # guards what is below; never held while a model is loaded or freed
_entries: dict[_Key, _Entry] = {}


class Weights:
    """A use of a model: ``model`` stays open until ``close``, whatever other users do."""

    def __init__(
        self,
        path: Path,
        *,
        n_gpu_layers: int = -1,
        devices: Sequence[str] | None = None,
        split: Sequence[int] = (),
        is_cancelled: IsCancelled = never,
        on_read: Progress | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Load ``path``, or share what is loaded of the same content in the same place.

        ``on_read`` receives how much was read from the disk, ``on_progress`` is LlamaModel's.
        A file that was replaced on the disk is another one. May be called from any thread. Raises
        what LlamaModel raises; a failed load does not fail for others.
        """
        self.identity = _identity(path)
        """Identifies the file (state_key.identity_of) as it was loaded; "" if it is not there."""
        place = None if devices is None else tuple(devices)
        self._key = (self.identity or str(path), n_gpu_layers, place, tuple(split))
        with _lock:
            self._entry = _entries.setdefault(self._key, _Entry())
            self._entry.n_users += 1
        self._is_closed = False
        try:
            while True:
                if is_cancelled():  # also where sharing takes no time
                    raise Cancelled(f"Loading {path.name} was cancelled.")
                if self._entry.loading.acquire(timeout=_WAIT_S):
                    break
            try:
                if self._entry.model is None:
                    read_ahead(path, is_cancelled, on_read)
                    self._entry.model = LlamaModel(
                        path,
                        n_gpu_layers=n_gpu_layers,
                        devices=devices,
                        split=split,
                        is_cancelled=is_cancelled,
                        on_progress=on_progress,
                    )
            finally:
                self._entry.loading.release()
        except BaseException:
            self.close()
            raise
        self.model = self._entry.model

    def close(self) -> None:
        """End this use; the last one frees the weights. May be called twice."""
        with _lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._entry.n_users -= 1
            if self._entry.n_users:
                return
            del _entries[self._key]  # from now on, others load it again
        if self._entry.model is not None:
            self._entry.model.close()


def _identity(path: Path) -> str:
    try:
        return identity_of(path)
    except OSError:
        return ""  # loading says what is wrong
