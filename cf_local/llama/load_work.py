"""What there is to do before a model can write, so that progress says how much is left.

Times are rough; only their shares of the whole count. Measured on real models (docs/LOG.md): of a
small model, most is reading the vocabulary; of a large one, reading the file, unless the system has
it in memory, and arranging the weights.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from mmap import ACCESS_READ, PAGESIZE, mmap
from pathlib import Path

import numpy as np

from cf_local.errors import Cancelled
from cf_local.llama.header import check_file
from cf_local.llama.sizes import part_paths
from cf_local.planning.memory import main_memory
from cf_local.progress import IsCancelled, Progress

_READ_BYTES_PER_S = 1e9  # from a solid-state disk
_MOVED_BYTES_PER_S = 7e8  # rearranged for the CPU, or copied to a GPU
_CLEARED_BYTES_PER_S = 4e9
_VOCABULARY_S, _CONTEXT_S = 0.5, 0.1  # of models that are not tiny
_TINY_BYTES = 100_000_000
_BLOCK_BYTES = 1 << 20
_PROBES = 1000
_MISSED = 0.05  # of a file: not worth reading all of it


@dataclass(frozen=True, slots=True)
class LoadWork:
    """The parts of a load, in their order, in estimated seconds."""

    reading_s: float
    vocabulary_s: float
    weights_s: float
    contexts_s: float

    @classmethod
    def of(
        cls,
        path: Path,
        *,
        n_moved: int | None = None,
        n_cleared: int = 0,
        n_contexts: int,
    ) -> "LoadWork":
        """The work for a model whose first file is ``path``.

        ``n_moved`` bytes of weights are rearranged or copied, by default all; ``n_cleared`` are
        those of the caches. Raises MissingModelError and BrokenModelError.
        """
        files = files_of(path)
        n_bytes = sum(file.stat().st_size for file in files)
        size = min(1.0, n_bytes / _TINY_BYTES)
        return cls(
            reading_s=share_on_disk(files) * n_bytes / _READ_BYTES_PER_S,
            vocabulary_s=size * _VOCABULARY_S,
            weights_s=(n_bytes if n_moved is None else n_moved) / _MOVED_BYTES_PER_S,
            contexts_s=size * _CONTEXT_S * n_contexts + n_cleared / _CLEARED_BYTES_PER_S,
        )

    @property
    def total_s(self) -> float:
        """All parts."""
        return float(sum(astuple(self)))

    def progress(self, reading: float, vocabulary: float, weights: float, contexts: float) -> float:
        """The share of the whole that is done, from that of each part (0 to 1)."""
        done = zip(astuple(self), (reading, vocabulary, weights, contexts), strict=True)
        return float(sum(part_s * share for part_s, share in done)) / self.total_s


def files_of(path: Path) -> list[Path]:
    """The files of a model whose first file is ``path``."""
    check_file(path)
    return part_paths(path)


def share_on_disk(files: Sequence[Path]) -> float:
    """The share of the files that is on the disk only, not in the system's cache, from a sample.

    1 where the system does not say.
    """
    n_bytes = sum(file.stat().st_size for file in files)
    stride = -(-n_bytes // _PROBES // PAGESIZE) * PAGESIZE or PAGESIZE
    found = [is_cached for file in files for is_cached in _probed(file, stride)]
    return 1 - sum(found) / len(found)


def _probed(file: Path, stride: int) -> Iterator[bool]:
    """Whether the first page of each ``stride`` of a file is in memory."""
    answer = np.zeros(1, np.uint8)
    with file.open("rb") as opened:
        try:
            whole = mmap(opened.fileno(), 0, access=ACCESS_READ)
        except OSError:  # no room in the address space; loading reports that
            yield False
            return
    with whole as mapped:
        view = np.frombuffer(mapped, np.uint8)
        start = view.ctypes.data
        del view  # or the file could not be closed
        for position in range(0, len(mapped), stride):
            if _mincore is not None:
                _mincore(start + position, 1, answer.ctypes.data)
            yield bool(answer[0] & 1)


def _find_mincore() -> Callable[[int, int, int], int] | None:
    """The system's function that reports which pages of a mapped file are in memory."""
    if os.name != "posix":
        return None
    found = getattr(ctypes.CDLL(None), "mincore", None)
    if found is not None:
        found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    return found


_mincore = _find_mincore()


def read_ahead(path: Path, is_cancelled: IsCancelled, on_progress: Progress | None = None) -> None:
    """Have the system read a model's files into its cache, unless they are there or too large.

    Otherwise llama.cpp makes it read them, all at once: it then neither reports progress nor
    can be stopped. Raises Cancelled, MissingModelError and BrokenModelError.
    """
    files = files_of(path)
    n_bytes = sum(file.stat().st_size for file in files)
    if share_on_disk(files) < _MISSED or n_bytes > main_memory().available_bytes:
        return
    block, n_read = bytearray(_BLOCK_BYTES), 0
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while n := opened.readinto(block):
                if is_cancelled():
                    raise Cancelled(f"Loading {file.name} was cancelled.")
                n_read += n
                if on_progress is not None:
                    on_progress(n_read / n_bytes)
