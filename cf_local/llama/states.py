"""The states of sequences: written to files, read back, copied from one context to another."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

from cf_local.llama.sequences import Sequences

State = npt.NDArray[np.uint8]


class States:
    """Takes the states of one context's sequences out, and puts them in."""

    def __init__(self, handle: Any, sequences: Sequences, *, n_max: int, spare: int) -> None:
        """A sequence can have ``n_max`` tokens; ``spare`` is one to copy from, never in use."""
        self._handle = handle
        self._sequences = sequences
        self._n_max = n_max
        self._spare = spare

    def n_bytes(self, sequence: int) -> int:
        """Bytes of the file that ``save`` would write, about."""
        return int(lib.llama_state_seq_get_size(self._handle, sequence))

    def save(self, sequence: int, path: Path, tokens: Sequence[int]) -> bool:
        """Write the state of a sequence, which has ``tokens``, to a file; whether that worked."""
        raw = (lib.llama_token * len(tokens))(*tokens)
        return bool(
            lib.llama_state_seq_save_file(
                self._handle, str(path).encode(), sequence, raw, len(tokens)
            )
        )

    def load(self, sequence: int, path: Path) -> list[int]:
        """Make a sequence what ``save`` has written; its tokens, none if that did not work.

        The file must be undamaged: what is wrong in it may end the process.
        """
        raw = (lib.llama_token * self._n_max)()
        n_tokens = ctypes.c_size_t()
        is_read = lib.llama_state_seq_load_file(
            self._handle, str(path).encode(), sequence, raw, self._n_max, ctypes.byref(n_tokens)
        )
        if not is_read or self._sequences.n_tokens(sequence) != n_tokens.value:
            self._sequences.drop(sequence)
            return []
        return list(raw[: n_tokens.value])

    def adopt(self, other: "States", parent: int, child: int, n_tokens: int | None) -> bool:
        """Make ``child`` a copy of the first ``n_tokens`` of a sequence of ``other``.

        All of it with None; a part only where both share all. On failure ``child`` is empty.
        """
        self._sequences.drop(child)
        state = other.lend(parent, n_tokens)
        raw = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        is_read = lib.llama_state_seq_set_data(self._handle, raw, len(state), child)
        if not is_read:
            self._sequences.drop(child)
        return bool(is_read)

    def lend(self, sequence: int, n_tokens: int | None) -> State:
        """The state of a sequence, or of its first ``n_tokens``; shape (n_bytes,)."""
        lent = sequence
        if n_tokens is not None:
            lent = self._spare
            self._sequences.share(sequence, lent, 0, n_tokens)
        try:
            state = np.empty(self.n_bytes(lent), np.uint8)
            raw = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
            n_bytes = lib.llama_state_seq_get_data(self._handle, raw, len(state), lent)
        finally:
            if lent != sequence:
                self._sequences.drop(lent)
        return state[:n_bytes]

    def close(self) -> None:
        """The context is gone: nothing may be asked of it any more."""
        self._handle = None
