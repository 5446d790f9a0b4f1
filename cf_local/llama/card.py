"""What a GGUF file says about its model: llama.cpp reads the header and loads nothing.

A crafted file may make llama.cpp end the process: see ``inspection``.
"""

import ctypes
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
from jinja2.ext import loopcontrols

from cf_local.errors import BrokenModelError
from cf_local.llama.ggml import HANDLE, function, text
from cf_local.llama.header import Header, parsed_file, read_header
from cf_local.llama.library import Jinja2ChatFormatter, bridge, lib
from cf_local.llama.model import POOLING_TYPES, LlamaModel
from cf_local.llama.sizes import part_paths
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.types import Pooling

CacheKind = Literal["attention", "sliding window", "recurrent", "hybrid"]

# GGUF_TYPE_*: how each scalar is read.
_SCALARS: dict[int, tuple[str, Any]] = {
    0: ("u8", ctypes.c_uint8),
    1: ("i8", ctypes.c_int8),
    2: ("u16", ctypes.c_uint16),
    3: ("i16", ctypes.c_int16),
    4: ("u32", ctypes.c_uint32),
    5: ("i32", ctypes.c_int32),
    6: ("f32", ctypes.c_float),
    7: ("bool", ctypes.c_bool),
    10: ("u64", ctypes.c_uint64),
    11: ("i64", ctypes.c_int64),
    12: ("f64", ctypes.c_double),
}
_FLOATS = (6, 12)
_STRING, _ARRAY = 8, 9
_SPECIAL = re.compile(r"tokenizer\.ggml\.(\w+)_token_id")
_VOCABULARIES = {
    "gpt2": "byte-pair encoding (BPE)",
    "llama": "SentencePiece (SPM)",
    "bert": "WordPiece (WPM)",
    "t5": "Unigram (UGM)",
    "rwkv": "RWKV",
    "plamo2": "PLaMo-2",
}


@dataclass(frozen=True, slots=True)
class Card:
    """A model as its file describes it; None and empty mean that the file does not say.

    ``metadata`` has all scalar keys, ``lengths`` the number of elements of each array.
    ``tensor_types`` counts tensors by ggml's type names. ``special_tokens`` are (id, text) by
    their roles. ``template_error`` is why the chat template cannot be parsed. ``cache`` is None,
    and ``problem`` says why, when llama.cpp would not load the model for text. An embedding model
    has a ``pooling``, and may also write text. ``fills_gaps``: the vocabulary can mark a gap in a
    text; None means that it was not looked for.
    """

    architecture: str
    metadata: dict[str, str | int | float | bool]
    lengths: dict[str, int]
    n_parts: int
    n_bytes: int
    n_parameters: int
    file_type: str | None
    tensor_types: dict[str, int]
    n_ctx_train: int
    vocabulary: str | None
    n_tokens: int
    special_tokens: dict[str, tuple[int, str]]
    template: str | None
    template_error: str | None
    cache: CacheKind | None = None
    window: int | None = None
    fills_gaps: bool | None = None
    pooling: Pooling | None = None
    problem: str | None = None


def read_card(path: Path) -> Card:
    """The card of a file; for a split model ``path`` is the first part.

    Raises MissingModelError for a missing part, BrokenModelError for a file that is not GGUF or is
    shorter than its header says.
    """
    bridge.install()
    parts = part_paths(path)
    headers = [read_header(part) for part in parts]
    for part in parts:
        _check_length(part)
    with parsed_file(path) as handle:
        metadata, lengths = dict(_scalars(handle)), dict(_lengths(handle))
        special = dict(_special_tokens(handle, metadata, lengths))
    header = headers[0]
    template = metadata.pop("tokenizer.chat_template", None)
    tensors = [tensor for each in headers for tensor in each.tensors]
    name = function("ggml_type_name", ctypes.c_char_p, ctypes.c_int)
    kinds = Counter(name(tensor.kind).decode().upper() for tensor in tensors)
    vocabulary = metadata.get("tokenizer.ggml.model")
    return Card(
        architecture=header.architecture or "unknown",
        metadata=metadata,
        lengths=lengths,
        n_parts=len(parts),
        n_bytes=sum(part.stat().st_size for part in parts),
        n_parameters=sum(_n_elements(tensor.kind, tensor.n_bytes) for tensor in tensors),
        file_type=_file_type(metadata.get("general.file_type")),
        tensor_types=dict(kinds.most_common()),
        n_ctx_train=header.n_ctx_train,
        vocabulary=_VOCABULARIES.get(str(vocabulary), str(vocabulary)) if vocabulary else None,
        n_tokens=header.n_tokens,
        special_tokens=special,
        template=template if isinstance(template, str) else None,
        template_error=_template_error(template) if isinstance(template, str) else None,
        pooling=POOLING_TYPES.get(str(metadata.get(f"{header.architecture}.pooling_type"))),
    )


def cache_of(path: Path) -> tuple[CacheKind, int | None]:
    """The kind of cache that llama.cpp uses for this model, and the tokens of a sliding window.

    Raises UnsupportedModelError for a model that cannot write text, BrokenModelError for one that
    llama.cpp would not load.
    """
    header: Header = read_header(path)
    if not header.tensors:
        raise BrokenModelError(f"{path} has a vocabulary but no weights; it cannot write text.")
    with bridge.captured():
        model = LlamaModel(path, n_gpu_layers=0, devices=(), simulated=header)
    try:
        if lib.llama_model_is_recurrent(model.handle):
            return "recurrent", None
        if lib.llama_model_is_hybrid(model.handle):
            return "hybrid", None
        window = int(lib.llama_model_n_swa(model.handle))
        return ("sliding window", window) if window else ("attention", None)
    finally:
        model.close()


def fills_gaps(path: Path) -> bool:
    """Whether the vocabulary can mark a gap; loading it takes 0.3 s. Raises BrokenModelError."""
    with bridge.captured():
        model = LlamaModel(path, n_gpu_layers=0, devices=(), vocab_only=True)
    try:
        return LlamaVocabulary(model).gap_tokens is not None
    finally:
        model.close()


def _scalars(handle: int) -> Iterator[tuple[str, str | int | float | bool]]:
    for index, key, kind in _keys(handle):
        if kind == _STRING:
            yield key, text("gguf_get_val_str", handle, index)
        elif kind in _SCALARS:
            name, result = _SCALARS[kind]
            get = function(f"gguf_get_val_{name}", result, HANDLE, ctypes.c_int64)
            value = get(handle, index)
            # JSON has no infinity, and a sound model does not either
            yield key, value if kind not in _FLOATS or math.isfinite(value) else str(value)


def _lengths(handle: int) -> Iterator[tuple[str, int]]:
    count = function("gguf_get_arr_n", ctypes.c_size_t, HANDLE, ctypes.c_int64)
    for index, key, kind in _keys(handle):
        if kind == _ARRAY:
            yield key, int(count(handle, index))


def _keys(handle: int) -> Iterator[tuple[int, str, int]]:
    """All keys: index, name, type."""
    n_keys = int(function("gguf_get_n_kv", ctypes.c_int64, HANDLE)(handle))
    kind = function("gguf_get_kv_type", ctypes.c_int, HANDLE, ctypes.c_int64)
    for index in range(n_keys):
        yield index, text("gguf_get_key", handle, index), int(kind(handle, index))


def _special_tokens(
    handle: int, metadata: dict[str, Any], lengths: dict[str, int]
) -> Iterator[tuple[str, tuple[int, str]]]:
    """Tokens with a role in the file, and their texts."""
    tokens = "tokenizer.ggml.tokens"
    n_tokens, where = lengths.get(tokens, 0), -1
    if n_tokens:
        where = next(index for index, key, _ in _keys(handle) if key == tokens)
        kind = function("gguf_get_arr_type", ctypes.c_int, HANDLE, ctypes.c_int64)
        n_tokens = n_tokens if kind(handle, where) == _STRING else 0
    for key, value in metadata.items():
        match = _SPECIAL.fullmatch(key)
        if match and isinstance(value, int):
            known = 0 <= value < n_tokens
            yield match[1], (value, text("gguf_get_arr_str", handle, where, value) if known else "")


def _file_type(number: object) -> str | None:
    """llama.cpp's name of a quantization, such as "Q4_K - Medium"."""
    if type(number) is not int or not 0 <= number < 1 << 31:
        return None
    name = function("llama_ftype_name", ctypes.c_char_p, ctypes.c_int)(number)
    return str(name.decode("utf-8", errors="replace")) if name else None


def _n_elements(kind: int, n_bytes: int) -> int:
    """Numbers in a tensor of this type."""
    size = int(function("ggml_type_size", ctypes.c_size_t, ctypes.c_int)(kind))
    per_block = int(function("ggml_blck_size", ctypes.c_int64, ctypes.c_int)(kind))
    return n_bytes // size * per_block if size else 0


def _check_length(path: Path) -> None:
    """Raises BrokenModelError for a file that ends before its tensors do."""
    with parsed_file(path) as handle:
        start = int(function("gguf_get_data_offset", ctypes.c_size_t, HANDLE)(handle))
        count = int(function("gguf_get_n_tensors", ctypes.c_int64, HANDLE)(handle))
        offset = function("gguf_get_tensor_offset", ctypes.c_size_t, HANDLE, ctypes.c_int64)
        size = function("gguf_get_tensor_size", ctypes.c_size_t, HANDLE, ctypes.c_int64)
        ends = [int(offset(handle, i)) + int(size(handle, i)) for i in range(count)]
    n_bytes, wanted = path.stat().st_size, start + max(ends, default=0)
    if n_bytes < wanted:
        raise BrokenModelError(
            f"{path} is cut off: it has {n_bytes:,} of {wanted:,} bytes. Download it again."
        )


def _template_error(template: str) -> str | None:
    """Why a chat template cannot be parsed. It is not compiled: that may compute without end."""
    extensions: Any = [Jinja2ChatFormatter.IgnoreGenerationTags, loopcontrols]
    try:
        jinja2.Environment(extensions=extensions).parse(template)
    except (jinja2.TemplateError, RecursionError) as error:
        return (str(error) or type(error).__name__).splitlines()[0]
    return None


def silence() -> None:
    """Suppress ggml's backtrace on stderr: only the last line is of use to the parent."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
