"""One context of a model: its KV cache, and the forward passes that fill it and compute logits.

``Sequences`` share the cells of the cache, ``States`` are copies of sequences in files and in other
contexts, and ``Context`` runs the passes.
"""

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cf_local.errors import (
    Cancelled,
    CfLocalError,
    ContextError,
    OutOfMemoryError,
    UnsupportedModelError,
)
from cf_local.llama.distribution import Distribution, Rows
from cf_local.llama.library import lib
from cf_local.llama.model import LlamaModel
from cf_local.llama.threads import Threads
from cf_local.progress import IsCancelled, never
from cf_local.types import Counters, KvType


class Sequences:
    """The sequences of one context, by number."""

    def __init__(self, memory: Any, *, n_cells: int, window: int, can_share: bool) -> None:
        """``memory`` has ``n_cells`` cells; ``window`` is that of sliding attention, or 0.

        ``can_share``: false for a recurrent cache, which has one state, not a cell per position.
        """
        self._memory = memory
        self.n_cells = n_cells
        self.can_share = can_share
        # How far back a part of a sequence can be shared: all of it, or a sliding window.
        self.reach = (window or n_cells) if can_share else -1

    @property
    def shares_all(self) -> bool:
        """Whether any part of a sequence can be shared: not with windows or recurrent states."""
        return self.reach >= self.n_cells

    def n_tokens(self, sequence: int) -> int:
        """Tokens up to the last one of a sequence."""
        return int(lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def fork(self, parent: int, child: int) -> None:
        """Make ``child`` a sequence that shares all cells of ``parent``."""
        self.drop(child)
        lib.llama_memory_seq_cp(self._memory, parent, child, -1, -1)

    def share(self, parent: int, child: int, first: int, end: int) -> None:
        """Add the cells of ``parent`` at positions ``first`` to ``end`` to ``child``.

        Only where ``can_share``.
        """
        if first < end:  # a recurrent cache would take an empty range for everything
            lib.llama_memory_seq_cp(self._memory, parent, child, first, end)

    def drop(self, sequence: int) -> None:
        """Forget a sequence; cells that no other sequence shares become free."""
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def cut(self, sequence: int, n_kept: int) -> bool:
        """Forget a sequence's tokens from position ``n_kept`` on; False if this cache cannot.

        A sliding-window cache that was loaded from a file lacks what lies before its window.
        """
        if self.can_share and self.reach < self.n_cells:
            first = lib.llama_memory_seq_pos_min(self._memory, sequence)
            if first > max(0, n_kept + 1 - self.reach):
                return False
        return bool(lib.llama_memory_seq_rm(self._memory, sequence, n_kept, -1))

    def clear(self) -> None:
        """Forget all sequences."""
        lib.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Drop the memory, which is about to be freed."""
        self._memory = None


MAX_PASS_TOKENS = 256
"""The most tokens in one forward pass; a longer prompt is evaluated in chunks of this size."""
MAX_PASS_LOGITS = 64
"""The most rows of logits in one forward pass: a row of 150,000 tokens is 0.6 MB."""

PLAIN_PASS_TOKENS = 64
"""Tokens that llama.cpp computes together without flash attention: it then stores a number for each
token, head and cell of the cache. Larger blocks are hardly faster on a CPU."""

_GGML_TYPES: dict[KvType, int] = {"f16": lib.GGML_TYPE_F16, "q8_0": lib.GGML_TYPE_Q8_0}


def context_params(
    model: LlamaModel, n_cells: int, n_sequences: int, kv_type: KvType, *, on_gpu: bool
) -> Any:
    """The parameters of a context, for llama.cpp."""
    params = lib.llama_context_default_params()
    params.n_ctx = n_cells
    params.n_batch = params.n_ubatch = MAX_PASS_TOKENS
    if kv_type == "f16" and not on_gpu:
        # On a CPU flash attention sums in 16 bits, cell by cell: logits then depend (0.1 to 0.4)
        # on where in the cache a text lies, which differs from run to run. And it computes the
        # few rows of a scoring pass one by one, which takes up to twice as long (docs/LOG.md).
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_ubatch = PLAIN_PASS_TOKENS
    params.n_outputs_max = params.n_outputs_max_per_seq = MAX_PASS_LOGITS
    # One more than asked for, to copy from (``States``), except with a recurrent cache, which
    # would allocate a state for it.
    params.n_seq_max = n_sequences + model.can_share
    params.kv_unified = True  # forks share the cells of their prefix
    params.type_k = params.type_v = _GGML_TYPES[kv_type]
    return params


StateBytes = npt.NDArray[np.uint8]
_PIECE_TOKENS = 256  # copied at once: 34 MB for a model of 8 billion parameters


class States:
    """Reads and writes the states of one context's sequences."""

    def __init__(self, handle: Any, sequences: Sequences, *, n_max: int, spare: int) -> None:
        """A sequence has at most ``n_max`` tokens; ``spare`` is one for copies, never in use."""
        self._handle = handle
        self._sequences = sequences
        self._n_max = n_max
        self._spare = spare

    def n_bytes(self, sequence: int) -> int:
        """Approximate bytes of the file that ``save`` would write."""
        return int(lib.llama_state_seq_get_size(self._handle, sequence))

    def save(self, sequence: int, path: Path, tokens: Sequence[int]) -> bool:
        """Write the state of a sequence, which has ``tokens``, to a file; True on success."""
        raw = (lib.llama_token * len(tokens))(*tokens)
        return bool(
            lib.llama_state_seq_save_file(
                self._handle, os.fsencode(path), sequence, raw, len(tokens)
            )
        )

    def load(self, sequence: int, path: Path) -> list[int]:
        """Load what ``save`` has written into a sequence; returns its tokens, none on failure.

        The file must be undamaged: an error in it may end the process.
        """
        raw = (lib.llama_token * self._n_max)()
        n_tokens = ctypes.c_size_t()
        is_read = lib.llama_state_seq_load_file(
            self._handle, os.fsencode(path), sequence, raw, self._n_max, ctypes.byref(n_tokens)
        )
        if not is_read or self._sequences.n_tokens(sequence) != n_tokens.value:
            self._sequences.drop(sequence)
            return []
        return list(raw[: n_tokens.value])

    def copy(self, other: "States", parent: int, child: int) -> bool:
        """Copy a sequence of ``other`` to ``child``; True on success, else it is empty."""
        self._sequences.drop(child)
        is_read = self._put(child, other.taken(parent))
        if not is_read:
            self._sequences.drop(child)
        return is_read

    def extend(self, other: "States", parent: int, child: int, first: int, end: int) -> int:
        """Append the tokens at positions ``first`` to ``end`` to ``child``, which has ``first``.

        Returns how many ``child`` has then: ``end``, or fewer on failure. Only where both contexts
        share all.
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

    def taken(self, sequence: int) -> StateBytes:
        """The state of a sequence, shape (n_bytes,)."""
        state = np.empty(self.n_bytes(sequence), np.uint8)
        n_bytes = lib.llama_state_seq_get_data(self._handle, _raw(state), len(state), sequence)
        return state[:n_bytes]

    def taken_part(self, sequence: int, first: int, end: int) -> StateBytes:
        """The state of the tokens at positions ``first`` to ``end``, shape (n_bytes,)."""
        self._sequences.share(sequence, self._spare, first, end)
        try:
            return self.taken(self._spare)
        finally:
            self._sequences.drop(self._spare)

    def _put(self, sequence: int, state: StateBytes) -> bool:
        n_read = lib.llama_state_seq_set_data(self._handle, _raw(state), len(state), sequence)
        return bool(n_read)

    def close(self) -> None:
        """Drop the context, which is about to be freed."""
        self._handle = None


def _raw(state: StateBytes) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


_LONG_PASS_S = 0.05  # a longer pass is worth interrupting from within
_NO_ABORT = lib.ggml_abort_callback(0)


class TokenRow(NamedTuple):
    """One token to evaluate, for all the sequences that it continues."""

    token: int
    position: int
    sequences: tuple[int, ...]
    wants_logits: bool


class Context:
    """Cache and compute buffers of one model. Not thread-safe."""

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_cells: int,
        n_sequences: int,
        n_threads: int,
        gives_way: bool = False,
        kv_type: KvType = "f16",
    ) -> None:
        """Room for ``n_cells`` tokens in all sequences together, stored as ``kv_type``.

        With ``gives_way`` passes use fewer than ``n_threads`` while other processes are busy.
        Raises OutOfMemoryError when there is no memory for it, UnsupportedModelError for a model
        without a cache.
        """
        self._model = model
        # The most tokens of one sequence: all cells, or the positions the model has learned.
        self.n_max = min(n_cells, model.n_ctx_train) if model.has_learned_positions else n_cells
        self.n_vocab = int(lib.llama_vocab_n_tokens(model.vocabulary_handle))
        self._rows = Rows(self.n_vocab)
        self._n_sequences = n_sequences
        self.threads = Threads(n_threads, gives_way=gives_way)
        params = context_params(model, n_cells, n_sequences, kv_type, on_gpu=model.is_on_gpu)
        params.n_threads = params.n_threads_batch = n_threads
        self.n_block = int(params.n_ubatch)  # the most tokens that are computed together
        self._handle = lib.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise OutOfMemoryError(
                f"{model.path.name}: not enough memory for a context of {n_cells} tokens. "
                "Choose a smaller context or a smaller model."
            )
        memory = lib.llama_get_memory(self._handle)
        if not memory:
            lib.llama_free(self._handle)
            raise UnsupportedModelError(
                f"{model.path} ({model.architecture}) has no cache and cannot write text word by "
                "word. Choose a decoder-only language model."
            )
        window = int(lib.llama_model_n_swa(model.handle))
        self.sequences = Sequences(
            memory, n_cells=n_cells, window=window, can_share=model.can_share
        )
        self.states = States(self._handle, self.sequences, n_max=self.n_max, spare=n_sequences)
        self._batch = lib.llama_batch_init(MAX_PASS_TOKENS, 0, n_sequences)
        self._n_passes = self._n_tokens = 0
        self._decode_s = self._last_pass_s = 0.0

    @property
    def counters(self) -> Counters:
        """Forward passes, evaluated tokens and seconds so far."""
        return Counters(self._n_passes, self._n_tokens, self._decode_s)

    @property
    def has_long_passes(self) -> bool:
        """Whether the last pass was so long that the next one should be ``abortable``."""
        return self._last_pass_s > _LONG_PASS_S

    def evaluate(self, rows: Sequence[TokenRow]) -> None:
        """One forward pass over up to MAX_PASS_TOKENS rows, up to MAX_PASS_LOGITS with logits.

        Raises ContextError when the cache is full and nothing was evaluated, Cancelled after an
        abort.
        """
        self._check_rows(rows)
        for index, row in enumerate(rows):
            self._batch.token[index] = row.token
            self._batch.pos[index] = row.position
            self._batch.n_seq_id[index] = len(row.sequences)
            for place, sequence in enumerate(row.sequences):
                self._batch.seq_id[index][place] = sequence
            self._batch.logits[index] = row.wants_logits
        self._batch.n_tokens = len(rows)
        with self.threads.share() as n_threads:
            lib.llama_set_n_threads(self._handle, n_threads, n_threads)
            start = time.perf_counter()
            status = lib.llama_decode(self._handle, self._batch)
            self._last_pass_s = time.perf_counter() - start
        self._decode_s += self._last_pass_s
        self._n_passes += 1
        self._n_tokens += len(rows)
        self._check(status)

    def time_pass(self, n_tokens: int) -> float:
        """Seconds of a pass over ``n_tokens`` on an unused sequence; its result is not used."""
        # Unused forks still share the committed text; a recurrent cache has no spare sequence, but
        # its forks share nothing.
        sequence = self._n_sequences - (0 if self.sequences.can_share else 1)
        before = self._decode_s
        self.evaluate([TokenRow(0, position, (sequence,), True) for position in range(n_tokens)])
        self.sequences.drop(sequence)
        return self._decode_s - before

    def expected(self, index: int) -> Distribution:
        """What the model expects after a row of the last pass; a view until ``keep``."""
        pointer = lib.llama_get_logits_ith(self._handle, index)
        if not pointer:
            raise CfLocalError(f"{self._model.path.name}: row {index} has no logits.")
        logits = np.ctypeslib.as_array(pointer, shape=(self.n_vocab,))
        return Distribution(logits, self._model.path.name, self._rows)

    @contextmanager
    def abortable(self, is_cancelled: IsCancelled, *, when: bool = True) -> Iterator[None]:
        """Let ``is_cancelled`` interrupt forward passes from within, if ``when`` says so.

        llama.cpp asks at every node of the graph, which single tokens are too quick to be worth.
        """
        if not when:
            yield
            return
        raised: list[BaseException] = []

        def is_aborted(_data: object) -> bool:
            try:
                return is_cancelled()
            except BaseException as error:  # noqa: BLE001 - ctypes would print and forget it
                raised.append(error)
                return True

        callback = lib.ggml_abort_callback(is_aborted)
        lib.llama_set_abort_callback(self._handle, callback, None)
        try:
            yield
        except Cancelled:
            if not raised:
                raise
        finally:
            lib.llama_set_abort_callback(self._handle, _NO_ABORT, None)
        if raised:
            raise raised[0]

    def close(self) -> None:
        """Free cache and buffers. May be called twice."""
        if self._handle:
            self.sequences.close()
            self.states.close()
            lib.llama_batch_free(self._batch)
            lib.llama_free(self._handle)
        self._handle = None

    def _check_rows(self, rows: Sequence[TokenRow]) -> None:
        """Refuse rows for which llama.cpp would end the process."""
        if len(rows) > MAX_PASS_TOKENS:
            raise CfLocalError(f"{len(rows)} tokens in one pass; at most {MAX_PASS_TOKENS} fit.")
        if any(row.position >= self.n_max for row in rows):
            raise ContextError(
                f"{self._model.path.name}: the text is longer than the {self.n_max} tokens "
                "that this model can read."
            )

    def _check(self, status: int) -> None:
        name = self._model.path.name
        if status == 1:
            raise ContextError(
                f"{name}: the cache of {self.sequences.n_cells} tokens is full. "
                "Choose a larger context."
            )
        if status == 2:
            raise Cancelled(f"{name}: evaluation was cancelled.")
        if status != 0:
            raise CfLocalError(f"{name}: llama.cpp could not evaluate a batch (code {status}).")


class Passes:
    """Runs passes in one context unless ``is_cancelled``, which may be replaced at any time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.is_cancelled: IsCancelled = never

    def run(self, rows: Sequence[TokenRow], *, abortable: bool = False) -> None:
        """One pass (see Context.evaluate); raises Cancelled before it, or from within a long one.

        ``abortable``: this pass may be long, even if the last one was not.
        """
        if self.is_cancelled():
            raise Cancelled("Cancelled.")
        abortable = abortable or self._context.has_long_passes
        with self._context.abortable(self.is_cancelled, when=abortable):
            self._context.evaluate(rows)
