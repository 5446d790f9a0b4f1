"""A model that is loaded: its vocabulary, its chat template, its context, divided into seats."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import llama_cpp

from cf_local.kept.key import identity_of, key_of
from cf_local.llama.context import Context
from cf_local.llama.model import Model
from cf_local.llama.prompt import ChatTemplate, encode_prompt
from cf_local.llama.seat import LogitsBuffer, Seat, check_seats
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.planning import DEFAULT_CONTEXT
from cf_local.source import IsCancelled, Progress
from cf_local.types import KvType, Prompt, SourceInfo

_TINY_BYTES = 32_000_000


class Loaded:
    """What all seats of one model have in common. Not thread-safe."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        n_ctx: int | None,
        n_sequences: int,
        n_cells: Callable[[int], int],
        n_seats: int,
        n_threads: int | None,
        n_gpu_layers: int,
        devices: Sequence[str] | None,
        kv_type: KvType,
        template: str | None,
        is_cancelled: IsCancelled,
        on_progress: Progress | None,
    ) -> None:
        """Load ``path`` for ``n_seats`` conversations of ``n_ctx`` tokens each.

        ``n_sequences`` of one seat; ``n_cells`` of all of them by the tokens of context. Raises
        InputError for more seats than there can be, and what Model and Context raise.
        """
        check_seats(n_seats, n_sequences)
        self._model = Model(
            path,
            n_gpu_layers=n_gpu_layers,
            devices=devices,
            is_cancelled=is_cancelled,
            on_progress=on_progress,
        )
        try:
            identity = identity_of(path)  # now: the file may be replaced while the model is loaded
            self.vocabulary = LlamaVocabulary(self._model)
            template = template or self._model.metadata("tokenizer.chat_template")
            self.template = ChatTemplate(template, self.vocabulary, name)
            self.n_ctx_train = self._model.n_ctx_train
            self.n_ctx = min(n_ctx or DEFAULT_CONTEXT, self.n_ctx_train)
            n_threads = n_threads or threads_for(path)
            self.context = Context(
                self._model,
                n_cells=n_cells(self.n_ctx),
                n_sequences=n_seats * n_sequences,
                n_threads=n_threads,
                kv_type=kv_type,
            )
        except BaseException:
            self._model.close()
            raise
        self.info = SourceInfo(
            name, str(path), self.n_ctx, n_threads, self.template.opens_thinking()
        )
        # Flash attention, which is for GPUs, lays the cache out otherwise.
        form = f"{kv_type}, {'gpu' if self._model.is_on_gpu else 'cpu'}"
        kind = f"llama-cpp-python {llama_cpp.__version__}, {self.n_ctx}, {form}"
        self.state_key = key_of(identity, kind)
        # Asked at every node of a pass: too often for one of a tiny model.
        self._is_cancelled = None if path.stat().st_size < _TINY_BYTES else is_cancelled
        self.is_closed = False
        self._n_seats = n_seats
        self._buffer = LogitsBuffer()
        self._last_prompt: tuple[Prompt, list[int]] | None = None

    def seat(self, index: int, n_sequences: int) -> Seat:
        """The seat of that index."""
        return Seat(self.context, self._buffer, index, self._n_seats, n_sequences)

    def encode(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt; of the last one they are known, as several seats may ask."""
        if self._last_prompt is None or self._last_prompt[0] != prompt:
            self._last_prompt = prompt, encode_prompt(prompt, self.template, self.vocabulary)
        return list(self._last_prompt[1])

    def time_pass(self, n_tokens: int) -> float:
        """Seconds of a forward pass; raises Cancelled when the load was cancelled meanwhile."""
        if self._is_cancelled is None:
            return self.context.time_pass(n_tokens)
        with self.context.abortable(self._is_cancelled):
            return self.context.time_pass(n_tokens)

    def use_threads(self, n_threads: int) -> None:
        """Compute with at most so many threads from now on."""
        self.context.use_threads(n_threads)
        self.info = replace(self.info, n_threads=n_threads)

    def close(self) -> None:
        """Give the memory back. May be called twice."""
        if not self.is_closed:
            self.is_closed = True
            self.context.close()
            self._model.close()


def threads_for(path: Path) -> int:
    """All cores, but one for a tiny model: its passes are shorter than waiting for each other.

    On a busy machine that wait made the built-in models ten times slower (docs/LOG.md).
    """
    return 1 if path.stat().st_size < _TINY_BYTES else _available_cores()


def _available_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
