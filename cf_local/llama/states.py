"""The states of sequences: written to files, read back, copied from one context to another."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cf_local.llama.library import lib
from cf_local.llama.sequences import Sequences

State = npt.NDArray[np.uint8]
_PIECE_TOKENS = 256  # copied at once: 34 MB of a model of 8 billion parameters


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

    def copy(self, other: "States", parent: int, child: int) -> bool:
        """Make ``child`` what a sequence of ``other`` is; empty on failure."""
        self._sequences.drop(child)
        is_read = self._put(child, other.taken(parent))
        if not is_read:
            self._sequences.drop(child)
        return is_read

    def extend(self, other: "States", parent: int, child: int, first: int, end: int) -> int:
        """Copy the tokens at positions ``first`` to ``end`` behind those that ``child`` has.

        They are as many as ``first``. Gives how many it has then: ``end``, or less on failure. Only
        where both contexts share all.
        """
        for start in range(first, end, _PIECE_TOKENS):
            stop = min(start + _PIECE_TOKENS, end)
            is_read = self._put(self._spare, other.taken_part(parent, start, stop))
            if is_read:
                self._sequences.share(self._spare, child, start, stop)
            self._sequences.drop(self._spare)
            if not is_read:
                return start
        return end

    def taken(self, sequence: int) -> State:
        """The state of a sequence, shape (n_bytes,)."""
        state = np.empty(self.n_bytes(sequence), np.uint8)
        n_bytes = lib.llama_state_seq_get_data(self._handle, _raw(state), len(state), sequence)
        return state[:n_bytes]

    def taken_part(self, sequence: int, first: int, end: int) -> State:
        """The state of the tokens at positions ``first`` to ``end``, shape (n_bytes,)."""
        self._sequences.share(sequence, self._spare, first, end)
        try:
            return self.taken(self._spare)
        finally:
            self._sequences.drop(self._spare)

    def _put(self, sequence: int, state: State) -> bool:
        n_read = lib.llama_state_seq_set_data(self._handle, _raw(state), len(state), sequence)
        return bool(n_read)

    def close(self) -> None:
        """The context is gone: nothing may be asked of it any more."""
        self._handle = None


def _raw(state: State) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
