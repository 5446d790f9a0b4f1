"""A loaded embedding model, for any number of threads, and how it is loaded."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from cf_local.errors import Cancelled, ClosedError, InputError, OutOfMemoryError
from cf_local.llama.devices import devices
from cf_local.llama.embedding import DEFAULT_CONTEXT, LlamaEmbedder, Vectors, embedding_bytes
from cf_local.llama.header import check_file
from cf_local.llama.inspection import try_headers
from cf_local.loading.fit import check_devices
from cf_local.loading.load_options import LoadOptions
from cf_local.loading.opening import located
from cf_local.planning.memory import megabytes
from cf_local.planning.plan import Room
from cf_local.progress import Closing, IsCancelled, Progress, never
from cf_local.registry.model_names import spec_of
from cf_local.registry.registry import BUILTIN_PREFIX, SourceSpec, load_registry
from cf_local.runtime.worker import Worker

T = TypeVar("T")


class Embedder(Closing):
    """Turns texts into vectors. All methods may be called from any thread."""

    def __init__(self, name: str, model: LlamaEmbedder) -> None:
        """``model`` now belongs to this embedder, which closes it."""
        self.name = name
        self.n_ctx = model.n_ctx
        """Tokens of the longest text."""
        self.n_embd = model.n_embd
        """Numbers in a vector."""
        self.pooling = model.pooling
        self._model = model
        self._worker = Worker("embedding model")
        self._is_closed = False

    def embed(self, texts: Sequence[str], *, is_cancelled: IsCancelled = never) -> Vectors:
        """A vector of length 1 for each text, shape (n_texts, n_embd).

        Raises InputError for an empty text, ContextError for one that is longer than ``n_ctx``
        tokens, ClosedError, or Cancelled once ``is_cancelled`` returns true.
        """
        return self.embed_tokens(self.encode(texts), is_cancelled=is_cancelled)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, with those that the model expects around it."""
        return self._call(self._encoding(texts))

    def embed_tokens(
        self, texts: Sequence[Sequence[int]], *, is_cancelled: IsCancelled = never
    ) -> Vectors:
        """Like ``embed``, for texts that are tokens of this model. They are read as they are."""
        parts = []
        for work in self._jobs(texts, is_cancelled):
            if is_cancelled():
                raise Cancelled("Cancelled.")
            parts.append(self._call(work))
        return self._joined(parts)

    async def aembed(self, texts: Sequence[str]) -> Vectors:
        """Like ``embed``, without blocking the event loop. Cancel the task to stop it."""
        return await self.aembed_tokens(await self.aencode(texts))

    async def aencode(self, texts: Sequence[str]) -> list[list[int]]:
        """Like ``encode``, without blocking the event loop."""
        return await asyncio.wrap_future(self._submitted(self._encoding(texts)))

    async def aembed_tokens(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """Like ``embed_tokens``, without blocking the event loop."""
        jobs = self._jobs(texts, never)
        return self._joined([await asyncio.wrap_future(self._submitted(job)) for job in jobs])

    def close(self) -> None:
        """Free the memory, after the pass that is running. May be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._worker.close()
            self._model.close()

    def _encoding(self, texts: Sequence[str]) -> Callable[[], list[list[int]]]:
        if isinstance(texts, str):
            raise InputError("Give a list of texts, not one text.")
        return lambda: [self._model.encode(text) for text in texts]

    def _jobs(
        self, texts: Sequence[Sequence[int]], is_cancelled: IsCancelled
    ) -> list[Callable[[], Vectors]]:
        """The vectors in parts, so that several callers take turns."""
        self._model.check(texts)
        groups = self._model.groups(texts)
        parts = [[texts[index] for index in group] for group in groups]
        return [partial(self._model.embed, part, is_cancelled) for part in parts]

    def _joined(self, parts: Sequence[Vectors]) -> Vectors:
        return np.concatenate([np.empty((0, self.n_embd), np.float32), *parts])

    def _call(self, work: Callable[[], T]) -> T:
        self._check_open()
        return self._worker.call(work)

    def _submitted(self, work: Callable[[], T]) -> "Future[T]":
        """The future result of ``work``, which does not begin once that is cancelled."""
        self._check_open()
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised for the caller
                future.set_exception(error)

        self._worker.submit(job)
        return future

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(f"{self.name} has been closed.")


def load_embedder(
    model: str | Path,
    *,
    options: LoadOptions | None = None,
    is_cancelled: IsCancelled = never,
    on_progress: Progress | None = None,
) -> Embedder:
    """Load an embedding model: an alias in models.toml, ``org/repo[:QUANT]``, or a path.

    A missing file is downloaded. Of the ``options``, those of conversations, caches and overlap
    have no meaning here. ``on_progress`` gets the share loaded so far (0 to 1). Raises
    MissingModelError, BrokenModelError, UnsupportedModelError for a file that is not an embedding
    model, OutOfMemoryError, or Cancelled once ``is_cancelled`` returns true.
    """
    return load_embedder_of(
        spec_of(load_registry(), model),
        options=options,
        is_cancelled=is_cancelled,
        on_progress=on_progress,
    )


def load_embedder_of(
    spec: SourceSpec,
    *,
    options: LoadOptions | None = None,
    is_cancelled: IsCancelled = never,
    on_progress: Progress | None = None,
) -> Embedder:
    """Like ``load_embedder``, for what the registry found."""
    options = options or LoadOptions()
    path = located(spec, options.offline, is_cancelled)
    check_file(path)
    if not spec.file.startswith(BUILTIN_PREFIX):
        try_headers([path], is_cancelled)
    n_ctx = options.n_ctx or spec.context or DEFAULT_CONTEXT
    loaded = LlamaEmbedder(
        path,
        n_ctx=n_ctx,
        pooling=spec.pooling,
        n_threads=options.n_threads_of(spec),
        devices=_devices_for(spec, path, n_ctx, options),
        is_cancelled=is_cancelled,
        on_progress=on_progress,
    )
    return Embedder(spec.name, loaded)


def _devices_for(spec: SourceSpec, path: Path, n_ctx: int, options: LoadOptions) -> tuple[str, ...]:
    """The GPU that has room for the model, or none for the CPU. Raises OutOfMemoryError."""
    wish, present = options.wish_of(spec), devices()
    check_devices([wish.device], present)
    room = Room.of(present, options.memory_bytes)
    n_bytes = sum(embedding_bytes(path, n_ctx, spec.pooling))
    gpus = [] if wish.n_gpu_layers == 0 else [name for name in room.budgets if name != "CPU"]
    for name in gpus:
        if n_bytes <= room.budgets[name]:
            return (name,)
    if options.fit and (n_bytes > room.budgets["CPU"] or wish.device == "gpu"):
        budgets = ", ".join(f"{megabytes(free)} of {name}" for name, free in room.budgets.items())
        raise OutOfMemoryError(
            f"{spec.name} needs {megabytes(n_bytes)} to embed texts of {n_ctx} tokens; there are "
            f"{budgets}. Close other programs, or choose a smaller model or context."
        )
    return ()
