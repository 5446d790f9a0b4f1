"""Embedding models: texts in, one vector of length 1 for each.

llama.cpp computes a vector for every token and pools them as the file says: their mean, the first
(``cls``) or the last one. A BERT reads both ways and needs the whole text in one pass. A decoder is
read in short passes, as llama.cpp allocates a row of logits for every token that it embeds; the
parts are pooled here.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cf_local.errors import (
    BrokenModelError,
    Cancelled,
    CfLocalError,
    ContextError,
    InputError,
    OutOfMemoryError,
    UnsupportedModelError,
)
from cf_local.llama.context import MAX_PASS_LOGITS
from cf_local.llama.header import check_file, read_header
from cf_local.llama.library import bridge, lib
from cf_local.llama.model import POOLING_TYPES, LlamaModel
from cf_local.llama.sizes import BUFFER, CACHE, logged_bytes, part_paths
from cf_local.llama.threads import CORES, Threads, check_threads, threads_for
from cf_local.progress import IsCancelled, Progress, never
from cf_local.types import Pooling

Vectors = npt.NDArray[np.float32]

DEFAULT_CONTEXT = 2048
"""Tokens of the longest text, unless another number is asked for or the model has fewer."""
_GROUP_TOKENS = 512  # short texts share a pass of about this size: larger ones gain little
_MOST_TEXTS = 64
_NUMBERS = {pooling: int(number) for number, pooling in POOLING_TYPES.items()}


class LlamaEmbedder:
    """A loaded embedding model. Not thread-safe."""

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int | None = None,
        pooling: Pooling | None = None,
        n_threads: int | None = None,
        devices: Sequence[str] = (),
        is_cancelled: IsCancelled = never,
        on_progress: Progress | None = None,
    ) -> None:
        """Load ``path``; ``pooling`` replaces what the file says.

        ``n_ctx`` is how many tokens a text may have, at most those that the model was trained with.
        ``devices`` are the GPUs to use, none for the CPU alone. ``n_threads`` None uses the cores
        that other processes leave free.

        Raises InputError for threads that ggml cannot have, UnsupportedModelError for a file that
        is not an embedding model, and what LlamaModel raises.
        """
        check_threads(n_threads)
        self._path = path
        self._handle: Any = None
        self._batch: Any = None
        CORES.look()
        self._model = LlamaModel(
            path, embeds=True, devices=devices, is_cancelled=is_cancelled, on_progress=on_progress
        )
        try:
            self.pooling = pooling_of(self._model, pooling)
            self._vocabulary = self._model.vocabulary_handle
            self._check_special_tokens()
            self.n_vocab = int(lib.llama_vocab_n_tokens(self._vocabulary))
            self._n_ctx_train = self._model.n_ctx_train
            self.n_ctx = min(n_ctx or DEFAULT_CONTEXT, self._n_ctx_train)
            self._n_texts = _n_texts(self._model, self.n_ctx)
            self.n_embd = int(lib.llama_model_n_embd_out(self._model.handle))
            threads = n_threads or threads_for(path)
            self.threads = Threads(threads, gives_way=n_threads is None)
            self._open_context(threads)
        except BaseException:
            self.close()
            raise

    def _open_context(self, n_threads: int) -> None:
        params = _params(self._model, self.n_ctx, self.pooling, n_threads)
        self._handle = lib.llama_init_from_model(self._model.handle, params)
        if not self._handle:
            raise OutOfMemoryError(
                f"{self._path.name}: not enough memory for texts of {self.n_ctx} tokens. Choose a "
                "smaller context."
            )
        self._n_pass = _n_pass(self._model, self.n_ctx)
        self._batch = lib.llama_batch_init(self._n_pass, 0, 1)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, with those that the model expects around it. Raises InputError."""
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"The text is not Unicode: {error.reason}.") from None
        n_max = len(raw) + 4
        while True:
            buffer = (lib.llama_token * n_max)()
            n = lib.llama_tokenize(self._vocabulary, raw, len(raw), buffer, n_max, True, False)
            if n >= 0:
                return list(buffer[:n])
            n_max = -n

    def check(self, texts: Sequence[Sequence[int]]) -> None:
        """Raise InputError for an empty text or an unknown token, ContextError for a long text."""
        for number, tokens in enumerate(texts, start=1):
            if not tokens:
                raise InputError(f"Text {number} of {len(texts)} is empty.")
            if not 0 <= min(tokens) <= max(tokens) < self.n_vocab:
                raise InputError(
                    f"Text {number} of {len(texts)} has a token that {self._path.name} does not "
                    f"have; its tokens are 0 to {self.n_vocab - 1}."
                )
            if len(tokens) > self.n_ctx:
                raise ContextError(
                    f"Text {number} of {len(texts)} has {len(tokens)} tokens, but "
                    f"{self._path.name} reads {self.n_ctx} at once (it was trained with "
                    f"{self._n_ctx_train}). Split the text."
                )

    def groups(self, texts: Sequence[Sequence[int]]) -> Iterator[range]:
        """Which consecutive texts ``embed`` is to read together: all of them, once."""
        start = n_tokens = 0
        for index, tokens in enumerate(texts):
            is_full = n_tokens + len(tokens) > min(_GROUP_TOKENS, self.n_ctx)
            if index > start and (is_full or index - start >= self._n_texts):
                yield range(start, index)
                start, n_tokens = index, 0
            n_tokens += len(tokens)
        if texts:
            yield range(start, len(texts))

    def embed(self, texts: Sequence[Sequence[int]], is_cancelled: IsCancelled = never) -> Vectors:
        """The vectors of one of the ``groups`` of texts, shape (n_texts, n_embd).

        The texts are tokens that ``check`` has accepted. Raises Cancelled between two passes.
        """
        memory = lib.llama_get_memory(self._handle)
        if memory:
            lib.llama_memory_clear(memory, False)
        rows = [(token, at, i) for i, text in enumerate(texts) for at, token in enumerate(text)]
        sums = np.zeros((len(texts), self.n_embd), np.float32)
        for start in range(0, len(rows), self._n_pass):
            if is_cancelled():
                raise Cancelled("Cancelled.")
            part = rows[start : start + self._n_pass]
            self._evaluate(part)
            for index, n_tokens in Counter(index for _, _, index in part).items():
                pooled = self._pooled(index)
                if self.pooling == "mean":
                    sums[index] += pooled * np.float32(n_tokens)
                elif self.pooling == "last" or not sums[index].any():
                    sums[index] = pooled
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():
            raise BrokenModelError(f"{self._path.name} computes vectors that are not numbers.")
        return np.asarray(sums / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)

    def close(self) -> None:
        """Free the memory. May be called twice."""
        if self._batch is not None:
            lib.llama_batch_free(self._batch)
        if self._handle:
            lib.llama_free(self._handle)
        self._batch = self._handle = None
        self._model.close()

    def _evaluate(self, rows: Sequence[tuple[int, int, int]]) -> None:
        """One forward pass over tokens, each with its position and the number of its text."""
        batch = self._batch
        for place, (token, position, index) in enumerate(rows):
            batch.token[place], batch.pos[place] = token, position
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, index
            batch.logits[place] = True
        batch.n_tokens = len(rows)
        with self.threads.share() as n_threads:
            lib.llama_set_n_threads(self._handle, n_threads, n_threads)
            status = lib.llama_decode(self._handle, batch)
        if status != 0:
            raise CfLocalError(
                f"{self._path.name}: llama.cpp could not evaluate a batch (code {status})."
            )

    def _pooled(self, index: int) -> Vectors:
        """What llama.cpp pooled of a text in the last pass, shape (n_embd,); a view."""
        pointer = lib.llama_get_embeddings_seq(self._handle, index)
        if not pointer:
            raise CfLocalError(f"{self._path.name}: llama.cpp gave no vector for a text.")
        return np.ctypeslib.as_array(pointer, shape=(self.n_embd,))

    def _check_special_tokens(self) -> None:
        """Refuse a file without the tokens that llama.cpp puts around a text: it would abort."""
        vocabulary = self._vocabulary
        is_wordpiece = lib.llama_vocab_type(vocabulary) == lib.LLAMA_VOCAB_TYPE_WPM
        wanted = {
            "first": (lib.llama_vocab_bos, is_wordpiece or lib.llama_vocab_get_add_bos(vocabulary)),
            "last": (lib.llama_vocab_eos, lib.llama_vocab_get_add_eos(vocabulary)),
            "separating": (lib.llama_vocab_sep, is_wordpiece),
        }
        for name, (token_of, is_added) in wanted.items():
            if is_added and token_of(vocabulary) == lib.LLAMA_TOKEN_NULL:
                raise BrokenModelError(
                    f"{self._path} cannot be used: it has no {name} token for a text. "
                    "Get it from another publisher."
                )


def pooling_of(model: LlamaModel, asked: Pooling | None = None) -> Pooling:
    """How to pool: as asked, else as the file says. Raises UnsupportedModelError without both."""
    pooling = asked or model.pooling
    if pooling is None:
        raise UnsupportedModelError(
            f"{model.path} ({model.architecture}) is not an embedding model: it does not say how "
            "to make one vector of a text. If you know, set pooling in models.toml."
        )
    return pooling


def embedding_bytes(path: Path, n_ctx: int, pooling: Pooling | None = None) -> tuple[int, int]:
    """Bytes that a model needs to embed texts of ``n_ctx`` tokens: for its weights, for the rest.

    Reads only the header. Raises what opening a model raises.
    """
    check_file(path)
    headers = [read_header(part) for part in part_paths(path)]
    with bridge.captured() as lines:
        model = LlamaModel(path, n_gpu_layers=0, devices=(), embeds=True, simulated=headers[0])
        with closing(model):
            n_ctx = min(n_ctx, model.n_ctx_train)
            params = _params(model, n_ctx, pooling_of(model, pooling), 1)
            lib.llama_free(lib.llama_init_from_model(model.handle, params))
            n_rows = _n_pass(model, n_ctx)
    weights = sum(tensor.n_bytes for header in headers for tensor in header.tensors)
    logits = 4 * headers[0].n_tokens * n_rows
    return weights, logged_bytes(CACHE, lines) + logged_bytes(BUFFER, lines) + logits


def _n_pass(model: LlamaModel, n_ctx: int) -> int:
    """The most tokens of a pass."""
    return MAX_PASS_LOGITS if model.is_causal else n_ctx


def _n_texts(model: LlamaModel, n_ctx: int) -> int:
    """The most texts that are read together: each has a state of its own in a recurrent cache.

    With more texts than tokens in a pass llama.cpp would end the process.
    """
    return min(_MOST_TEXTS, _n_pass(model, n_ctx)) if model.can_share else 1


def _params(model: LlamaModel, n_ctx: int, pooling: Pooling, n_threads: int) -> Any:
    """The parameters of a context, for llama.cpp."""
    params = lib.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_batch = params.n_ubatch = _n_pass(model, n_ctx)
    params.n_seq_max = _n_texts(model, n_ctx)
    params.kv_unified = True
    params.embeddings = True
    params.pooling_type = _NUMBERS[pooling]
    params.n_threads = params.n_threads_batch = n_threads
    if not model.is_on_gpu and n_ctx <= DEFAULT_CONTEXT:
        # Flash attention sums in 16 bits on a CPU (docs/LOG.md). For long texts it saves gigabytes.
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return params
