"""The header of a GGUF file: the model's metadata and its tensors; no weights are read.

llama.cpp's own reader parses it and refuses a broken one. A value is read only after its type was
checked: with the wrong type that reader would end the process.
"""

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cf_local.errors import BrokenModelError, MissingModelError
from cf_local.files import parts
from cf_local.llama.ggml import HANDLE, function, text
from cf_local.llama.library import bridge

ReadBytes = Callable[[int, int], bytes]
"""Reads from a position of a file a number of bytes, fewer at its end."""

_BLOCK = re.compile(r"blk\.(\d+)\.")
_UINT16, _UINT32, _INT32, _STRING, _ARRAY, _UINT64 = 2, 4, 5, 8, 9, 10  # GGUF_TYPE_*
_NUMBERS = {
    _UINT16: ("gguf_get_val_u16", ctypes.c_uint16),
    _UINT32: ("gguf_get_val_u32", ctypes.c_uint32),
    _INT32: ("gguf_get_val_i32", ctypes.c_int32),
    _UINT64: ("gguf_get_val_u64", ctypes.c_uint64),
}
_READ = ctypes.CFUNCTYPE(ctypes.c_size_t, HANDLE, HANDLE, ctypes.c_uint64, ctypes.c_size_t)


class _GgufParameters(ctypes.Structure):
    """gguf_init_params."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: ``kind`` is the number of its ggml type, ``n_bytes`` its size in the file."""

    name: str
    kind: int
    n_bytes: int

    @property
    def block(self) -> int | None:
        """The block (layer) it belongs to; None outside the blocks."""
        match = _BLOCK.match(self.name)
        return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file; the first part of a split model has all but the others' tensors."""

    architecture: str
    n_blocks: int
    n_ctx_train: int
    n_tokens: int
    n_parts: int
    n_bytes: int
    tensors: tuple[Tensor, ...]


def read_header(path: Path) -> Header:
    """The header of a file; raises BrokenModelError."""
    with parsed_file(path) as handle:
        return _header(handle, str(path))


@contextmanager
def parsed_file(path: Path) -> Iterator[int]:
    """llama.cpp's handle of a file's header, for its functions gguf_*; raises BrokenModelError."""
    bridge.install()
    initialize = function("gguf_init_from_file", HANDLE, ctypes.c_char_p, _GgufParameters)
    handle = initialize(os.fsencode(path), _GgufParameters(True, None))
    with _parsed(handle, str(path)) as sound:
        yield sound


def parse_header(read: ReadBytes, n_total: int, name: str) -> Header:
    """The header of a file of ``n_total`` bytes that ``read`` reads; raises BrokenModelError."""
    bridge.install()
    raised: list[BaseException] = []

    def fill(_data: object, target: int, offset: int, n_bytes: int) -> int:
        try:
            found = read(offset, min(n_bytes, n_total - offset)) if offset < n_total else b""
        except BaseException as error:  # noqa: BLE001 - ctypes would print and forget it
            raised.append(error)
            return 0
        ctypes.memmove(target, found, len(found))
        return len(found)

    initialize = function(
        "gguf_init_from_callback",
        HANDLE,
        _READ,
        HANDLE,
        ctypes.c_size_t,
        ctypes.c_uint64,
        _GgufParameters,
    )
    handle = initialize(_READ(fill), None, 0, n_total, _GgufParameters(True, None))
    if raised:
        raise raised[0]
    with _parsed(handle, name) as sound:
        return _header(sound, name)


@contextmanager
def _parsed(handle: int | None, name: str) -> Iterator[int]:
    if not handle:
        raise BrokenModelError(
            f"{name} cannot be loaded: {bridge.reason()}. "
            "Download it again, or check that it is a complete GGUF model."
        )
    try:
        yield handle
    finally:
        function("gguf_free", None, HANDLE)(handle)


def _header(handle: int, name: str) -> Header:
    architecture = _string(handle, "general.architecture")
    n_ctx_train = _number(handle, f"{architecture}.context_length")
    if not 0 <= n_ctx_train < 2**31:
        raise BrokenModelError(absurd_context(name, n_ctx_train))
    return Header(
        architecture=architecture,
        n_blocks=_number(handle, f"{architecture}.block_count"),
        n_ctx_train=n_ctx_train,
        n_tokens=_length(handle, "tokenizer.ggml.tokens"),
        n_parts=max(1, _number(handle, "split.count")),
        n_bytes=int(function("gguf_get_data_offset", ctypes.c_size_t, HANDLE)(handle)),
        tensors=tuple(_tensors(handle)),
    )


def absurd_context(name: str, n_tokens: int) -> str:
    """What to say about a context length that no model can have."""
    return (
        f"{name} cannot be used: its header gives a context length of {n_tokens} tokens. "
        "Download it again, or get it from another publisher."
    )


def _tensors(handle: int) -> Iterator[Tensor]:
    count = function("gguf_get_n_tensors", ctypes.c_int64, HANDLE)(handle)
    kind = function("gguf_get_tensor_type", ctypes.c_int, HANDLE, ctypes.c_int64)
    size = function("gguf_get_tensor_size", ctypes.c_size_t, HANDLE, ctypes.c_int64)
    for index in range(count):
        name = text("gguf_get_tensor_name", handle, index)
        yield Tensor(name, kind(handle, index), size(handle, index))


def _find(handle: int, key: str) -> tuple[int, int]:
    """The index of a key and the type of its value; (-1, -1) without it."""
    find = function("gguf_find_key", ctypes.c_int64, HANDLE, ctypes.c_char_p)
    index = int(find(handle, key.encode()))
    if index < 0:
        return -1, -1
    return index, function("gguf_get_kv_type", ctypes.c_int, HANDLE, ctypes.c_int64)(handle, index)


def _number(handle: int, key: str) -> int:
    """The integer under a key; 0 if the file has none."""
    index, kind = _find(handle, key)
    if kind not in _NUMBERS:
        return 0
    name, result = _NUMBERS[kind]
    return int(function(name, result, HANDLE, ctypes.c_int64)(handle, index))


def _string(handle: int, key: str) -> str:
    index, kind = _find(handle, key)
    return text("gguf_get_val_str", handle, index) if kind == _STRING else ""


def _length(handle: int, key: str) -> int:
    index, kind = _find(handle, key)
    if kind != _ARRAY:
        return 0
    return int(function("gguf_get_arr_n", ctypes.c_size_t, HANDLE, ctypes.c_int64)(handle, index))


_GGUF_MAGIC = b"GGUF"


def check_file(path: Path) -> None:
    """Raise MissingModelError or BrokenModelError for a path that cannot be a GGUF file."""
    try:
        if not path.exists():
            raise MissingModelError(f"The model file {path} does not exist. Check the path.")
        if not path.is_file():
            raise BrokenModelError(f"{path} is not a file. Name a .gguf file.")
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:  # also for a folder without permission
        raise BrokenModelError(f"{path} cannot be read: {error.strerror}.") from error
    if magic != _GGUF_MAGIC:
        raise BrokenModelError(f"{path} is not a GGUF file (it starts with {magic!r}).")
    first = parts(path.name)[0]
    if first != path.name:
        raise BrokenModelError(f"{path} is a part of a split model. Name the first: {first}.")
