"""A loaded embedding model, for any number of threads, and how it is loaded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cf_local.errors import Cancelled, ClosedError, InputError, OutOfMemoryError
from cf_local.llama.devices import devices
from cf_local.llama.embedding import DEFAULT_CONTEXT, LlamaEmbedder, Vectors, embedding_bytes
from cf_local.llama.header import check_file
from cf_local.llama.inspection import try_headers
from cf_local.loading.fit import check_devices
from cf_local.loading.load import located
from cf_local.loading.load_options import LoadOptions
from cf_local.planning.plan import Room, megabytes
from cf_local.progress import Closing, IsCancelled, Progress, never
from cf_local.registry.model_names import spec_of
from cf_local.registry.registry import BUILTIN_PREFIX, SourceSpec, load_registry
from cf_local.runtime.worker import Worker

T = TypeVar("T")


class Embedder(Closing):
    """Makes vectors of texts. All methods may be called from any thread."""

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
        if isinstance(texts, str):
            raise InputError("Give a list of texts, not one text.")
        return self._call(lambda: [self._model.encode(text) for text in texts])

    def embed_tokens(
        self, texts: Sequence[Sequence[int]], *, is_cancelled: IsCancelled = never
    ) -> Vectors:
        """As ``embed``, for texts that are tokens of this model. They are read as they are."""
        self._model.check(texts)
        found = [np.empty((0, self.n_embd), np.float32)]
        # Job by job, so that several callers take turns.
        for group in self._model.groups(texts):
            if is_cancelled():
                raise Cancelled("Cancelled.")
            part = [texts[index] for index in group]
            found.append(self._call(lambda part=part: self._model.embed(part, is_cancelled)))  # type: ignore[misc]
        return np.concatenate(found)

    def close(self) -> None:
        """Free the memory, after the pass that is running. May be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._worker.close()
            self._model.close()

    def _call(self, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise ClosedError(f"{self.name} has been closed.")
        return self._worker.call(work)


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
    MissingModelError, BrokenModelError, UnsupportedModelError for a file that is no embedding
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
