"""One context of a model: its KV cache, and the forward passes that fill it and compute logits.

Left out: how it is asked for (``params``), what its ``sequences`` share, and their ``states`` in
files and in other contexts.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from cf_local.errors import (
    Cancelled,
    CfLocalError,
    ContextError,
    OutOfMemoryError,
    UnsupportedModelError,
)
from cf_local.llama.distribution import Distribution, Rows
from cf_local.llama.library import lib
from cf_local.llama.model import Model
from cf_local.llama.params import MAX_PASS_TOKENS, context_params
from cf_local.llama.sequences import Sequences
from cf_local.llama.states import States
from cf_local.llama.threads import Threads
from cf_local.progress import IsCancelled
from cf_local.types import Counters, KvType

_LONG_PASS_S = 0.05  # a pass of this length may be worth interrupting from within
_NO_ABORT = lib.ggml_abort_callback(0)


class Row(NamedTuple):
    """One token to evaluate, for all the sequences it continues alike."""

    token: int
    position: int
    sequences: tuple[int, ...]
    wants_logits: bool


class Context:
    """Cache and compute buffers of one model. Not thread-safe."""

    def __init__(
        self,
        model: Model,
        *,
        n_cells: int,
        n_sequences: int,
        n_threads: int,
        gives_way: bool = False,
        kv_type: KvType = "f16",
    ) -> None:
        """Room for ``n_cells`` tokens in all sequences together, kept as ``kv_type``.

        With ``gives_way`` passes use fewer than ``n_threads`` beside busy processes. Raises
        OutOfMemoryError when it cannot be had, UnsupportedModelError for a model without a cache.
        """
        self._model = model
        # Tokens one sequence can have: all cells, or the positions the model has learned.
        self.n_max = min(n_cells, model.n_ctx_train) if model.has_learned_positions else n_cells
        self.n_vocab = int(lib.llama_vocab_n_tokens(model.vocabulary_handle))
        self._rows = Rows(self.n_vocab)
        self._n_sequences = n_sequences
        self.threads = Threads(n_threads, gives_way=gives_way)
        params = context_params(model, n_cells, n_sequences, kv_type, on_gpu=model.is_on_gpu)
        params.n_threads = params.n_threads_batch = n_threads
        self.n_block = int(params.n_ubatch)  # tokens that are computed together at most
        self._handle = lib.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise OutOfMemoryError(
                f"{model.path.name}: no memory for a context of {n_cells} tokens. "
                "Choose a smaller context or a smaller model."
            )
        memory = lib.llama_get_memory(self._handle)
        if not memory:
            lib.llama_free(self._handle)
            raise UnsupportedModelError(
                f"{model.path} ({model.architecture}) keeps no cache and cannot write text word by "
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
        """Forward passes, tokens and seconds so far."""
        return Counters(self._n_passes, self._n_tokens, self._decode_s)

    @property
    def has_long_passes(self) -> bool:
        """Whether the last pass took so long that the next one should be ``abortable``."""
        return self._last_pass_s > _LONG_PASS_S

    def evaluate(self, rows: Sequence[Row]) -> None:
        """One forward pass over at most MAX_PASS_TOKENS rows, of which MAX_PASS_LOGITS want logits.

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
        """Seconds of a pass over ``n_tokens`` that nothing depends on, on an unused sequence."""
        # Forks share the committed text also while none is in use; a recurrent cache has no spare
        # sequence, but its forks share nothing.
        sequence = self._n_sequences - (0 if self.sequences.can_share else 1)
        before = self._decode_s
        self.evaluate([Row(0, position, (sequence,), True) for position in range(n_tokens)])
        self.sequences.drop(sequence)
        return self._decode_s - before

    def expected(self, index: int) -> Distribution:
        """What the model expects behind a row of the last pass; a view until it is kept."""
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
        """Give cache and buffers back. May be called twice."""
        if self._handle:
            self.sequences.close()
            self.states.close()
            lib.llama_batch_free(self._batch)
            lib.llama_free(self._handle)
        self._handle = None

    def _check_rows(self, rows: Sequence[Row]) -> None:
        """Refuse what llama.cpp would end the process for."""
        if len(rows) > MAX_PASS_TOKENS:
            raise CfLocalError(f"{len(rows)} tokens in one pass; at most {MAX_PASS_TOKENS} fit.")
        if any(row.position >= self.n_max for row in rows):
            raise ContextError(
                f"{self._model.path.name}: the text has more than the {self.n_max} tokens "
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
