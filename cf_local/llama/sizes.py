"""The memory that a model takes, from its header: llama.cpp reports it in a simulated load.

A simulated load (``no_alloc``) reads no weights and no vocabulary. A context of such a model
allocates nothing, but logs the size of every buffer that it would have. So the sizes are those of
this version of llama.cpp, for every architecture it knows, in a few milliseconds.
"""

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path

from cf_local import files
from cf_local.errors import MissingModelError
from cf_local.llama.context import MAX_PASS_LOGITS, PLAIN_PASS_TOKENS, context_params
from cf_local.llama.ggml import function, is_copied
from cf_local.llama.header import Tensor, check_file, read_header
from cf_local.llama.library import bridge, lib
from cf_local.llama.model import LlamaModel
from cf_local.llama.tree import n_cells, n_row_bytes, n_sequences
from cf_local.planning.plan import Layout, ModelSizes
from cf_local.types import KvType

CACHE = re.compile(r"size = +([\d.]+) MiB \( *\d+ cells")
"""In llama.cpp's log, "size = 9.00 MiB (4096 cells, ...": attention caches and recurrent states."""
BUFFER = re.compile(r"compute buffer size = +([\d.]+) MiB")
"""The same for the buffers of a context."""
_MIB = 1 << 20

# The vocabulary in llama.cpp (tokens, merges, their maps) and in our own tables, measured with
# scripts/plan_figures.py on vocabularies of 130,000 to 260,000 tokens.
_BYTES_PER_TOKEN = 230
_BYTES_PER_MODEL = 4_000_000
_BYTES_PER_CONTEXT_TOKEN = 300
_ROWS_TOGETHER = 8

_LONGEST_SIMULATED = 1 << 20
"""Tokens of context. A simulation takes memory, too: some bytes for every cell of the cache."""

_PASS_ROWS = MAX_PASS_LOGITS // 2
"""Rows of logits that llama.cpp allocates: the buffer grows on demand, seldom to the maximum."""


class SimulatedModel:
    """A model with only its header loaded. Not thread-safe."""

    def __init__(self, path: Path, *, n_forks: int, n_sessions: int = 1) -> None:
        """Read the header of ``path``; for a split model, of all parts next to it.

        Each of ``n_sessions`` conversations has its own context.

        Raises MissingModelError, BrokenModelError or UnsupportedModelError.
        """
        bridge.install()
        with bridge.captured():
            check_file(path)
            self._headers = [read_header(part) for part in part_paths(path)]
            self._model = LlamaModel(path, n_gpu_layers=0, devices=(), simulated=self._headers[0])
        self._n_forks, self._n_sessions = n_forks, n_sessions
        self._layouts: dict[tuple[int, KvType], Layout | None] = {}

    def sizes(self, name: str) -> ModelSizes:
        """Its sizes in bytes; their layouts can be computed until ``close``."""
        header = self._headers[0]
        tensors = [tensor for part in self._headers for tensor in part.tensors]
        blocks = [0] * max(header.n_blocks, 1 + max((t.block or 0) for t in tensors))
        for tensor in tensors:
            if tensor.block is not None:
                blocks[tensor.block] += tensor.n_bytes
        outside = [tensor for tensor in tensors if tensor.block is None]
        inputs = sum(t.n_bytes for t in outside if t.name.startswith("token_embd"))
        n_tokens = header.n_tokens
        n_beyond = n_cells(0, self._n_forks)  # what a tree can hold beyond a full context
        cached = min(n_row_bytes(n_tokens), 4 * n_tokens * n_beyond)
        rows = self._n_sessions * (cached + 4 * n_tokens * _PASS_ROWS)
        return ModelSizes(
            name=name,
            n_ctx_train=int(lib.llama_model_n_ctx_train(self._model.handle)),
            blocks=tuple(blocks),
            inputs=inputs,
            outputs=sum(t.n_bytes for t in outside) - inputs,
            program=rows + _BYTES_PER_TOKEN * n_tokens + _BYTES_PER_MODEL,
            layout=self.layout,
            per_token=_BYTES_PER_CONTEXT_TOKEN,
            copied=_n_copied(tensors, n_tokens),
            n_parameters=sum(map(_n_parameters, tensors)),
        )

    def layout(self, n_ctx: int, kv_type: KvType) -> Layout | None:
        """The memory of a context of ``n_ctx`` tokens; None if llama.cpp refuses it."""
        if n_ctx > _LONGEST_SIMULATED:
            return self._extrapolated(n_ctx, kv_type)
        key = (n_ctx, kv_type)
        if key not in self._layouts:
            self._layouts[key] = self._simulate(n_ctx, kv_type)
        return self._layouts[key]

    def close(self) -> None:
        """Free the header. May be called twice."""
        self._model.close()

    def _extrapolated(self, n_ctx: int, kv_type: KvType) -> Layout | None:
        short, long = _LONGEST_SIMULATED // 2, _LONGEST_SIMULATED
        some, more = self.layout(short, kv_type), self.layout(long, kv_type)
        if some is None or more is None:
            return None
        values = (
            b + (b - a) * (n_ctx - long) // (long - short) for a, b in zip(some, more, strict=True)
        )
        return Layout(*values)

    def _simulate(self, n_ctx: int, kv_type: KvType) -> Layout | None:
        plain = self._reported(n_ctx, kv_type, on_gpu=False)
        if plain is None:
            return None
        can_offload = lib.llama_supports_gpu_offload()
        mixed = self._reported(n_ctx, kv_type, on_gpu=True) if can_offload else plain
        # Without flash attention the CPU multiplies with a copy of the attention weights in F16.
        n_heads = 0 if kv_type != "f16" else int(lib.llama_model_n_head(self._model.handle))
        copied = 2 * n_heads * PLAIN_PASS_TOKENS * n_cells(n_ctx, self._n_forks)
        return Layout(
            cache=self._n_sessions * logged_bytes(CACHE, plain),
            buffers=self._n_sessions * (logged_bytes(BUFFER, plain) + copied),
            gpu_buffers=self._n_sessions * logged_bytes(BUFFER, mixed or plain),
        )

    def _reported(self, n_ctx: int, kv_type: KvType, *, on_gpu: bool) -> list[str] | None:
        """What llama.cpp logs about such a context; None if it refuses it."""
        cells, sequences = n_cells(n_ctx, self._n_forks), n_sequences(self._n_forks)
        with bridge.captured() as lines:
            params = context_params(self._model, cells, sequences, kv_type, on_gpu=on_gpu)
            handle = lib.llama_init_from_model(self._model.handle, params)
            if not handle:
                return None
            lib.llama_free(handle)
        return lines


def part_paths(path: Path) -> list[Path]:
    """The files of a model whose first part is ``path``. Raises MissingModelError."""
    names = files.parts(path.name)
    if path.name != names[0]:
        return [path]
    found = [path.with_name(name) for name in names]
    for part in found:
        if not part.exists():
            raise MissingModelError(
                f"The model file {part} does not exist; it is a part of {path.name}."
            )
    return found


def _n_copied(tensors: Sequence[Tensor], n_tokens: int) -> int:
    """Bytes of weights that are rearranged: matrices whose rows form groups of eight.

    For the output that depends on the vocabulary. Embeddings are looked up, not multiplied.
    """
    left_out = ("token_embd", "output.") if n_tokens % _ROWS_TOGETHER else ("token_embd",)
    matrices = (t for t in tensors if t.name.endswith(".weight"))
    return sum(t.n_bytes for t in matrices if is_copied(t.kind) and not t.name.startswith(left_out))


def _n_parameters(tensor: Tensor) -> int:
    per_block = function("ggml_blck_size", ctypes.c_int64, ctypes.c_int)(tensor.kind)
    n_bytes = function("ggml_type_size", ctypes.c_size_t, ctypes.c_int)(tensor.kind)
    return tensor.n_bytes * int(per_block) // max(1, int(n_bytes))


def logged_bytes(pattern: re.Pattern[str], lines: Sequence[str]) -> int:
    """The bytes that lines of the log give in MiB."""
    found = (pattern.search(line) for line in lines)
    return sum(int(float(match[1]) * _MIB) for match in found if match)
