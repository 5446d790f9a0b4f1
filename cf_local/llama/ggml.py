"""Functions of the ggml libraries, which llama_cpp loads but does not wrap."""

import ctypes
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cf_local.llama.library import lib, llama_cpp, load_shared_library

HANDLE = ctypes.c_void_p


@cache
def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """The function called ``name``, with the ctypes of its result and its arguments."""
    for library in _libraries():
        if hasattr(library, name):
            found = library[name]
            found.restype, found.argtypes = result, list(arguments)
            return found  # type: ignore[no-any-return]  # ctypes types its functions as Any
    raise AttributeError(f"llama.cpp has no function {name}; cf-local needs another version of it.")


def text(name: str, handle: int, *arguments: int) -> str:
    """The result of a function that takes a handle and indices and returns a string."""
    kinds = [ctypes.c_int64] * len(arguments)
    raw: bytes = function(name, ctypes.c_char_p, HANDLE, *kinds)(handle, *arguments) or b""
    return raw.decode("utf-8", errors="replace")


def _libraries() -> Iterator[Any]:
    """Libraries with functions of ggml: first libllama, which finds those that it uses itself.

    A wheel holds copies of libggml under several names; another copy would have other devices.
    """
    folder = Path(llama_cpp.__file__).parent / "lib"
    for name in ("llama", "ggml", "ggml-base"):
        try:
            yield load_shared_library(name, folder)
        except (FileNotFoundError, RuntimeError):  # linked into libllama
            continue


_N_ROWS, _N_COLUMNS = 64, 256  # multiples of what any type requires
_F32 = 0


class _GgmlParameters(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class _TensorHead(ctypes.Structure):
    """The first fields of ggml_tensor."""

    _fields_ = (("type", ctypes.c_int), ("buffer", ctypes.c_void_p))


@cache
def is_copied(kind: int) -> bool:
    """Whether matrices of a ggml type are copied; asks in the way llama.cpp itself does."""
    lib.llama_backend_init()
    context = function("ggml_init", HANDLE, _GgmlParameters)(_GgmlParameters(1 << 20, None, True))
    if not context:
        return False
    try:
        matrix = function("ggml_new_tensor_2d", HANDLE, HANDLE, ctypes.c_int, *[ctypes.c_int64] * 2)
        weights = matrix(context, kind, _N_COLUMNS, _N_ROWS)
        tokens = matrix(context, _F32, _N_COLUMNS, 1)
        product = function("ggml_mul_mat", HANDLE, HANDLE, HANDLE, HANDLE)(context, weights, tokens)
        return any(_takes(buffer_type, weights, product) for buffer_type in _extra_types())
    finally:
        function("ggml_free", None, HANDLE)(context)


def _takes(buffer_type: int, weights: int, product: int) -> bool:
    """Whether the CPU can compute a product whose weights are in a buffer of that type."""
    allocate = function("ggml_backend_buft_alloc_buffer", HANDLE, HANDLE, ctypes.c_size_t)
    supports = function("ggml_backend_dev_supports_op", ctypes.c_bool, HANDLE, HANDLE)
    head = _TensorHead.from_address(weights)
    head.buffer = buffer = allocate(buffer_type, 0)
    try:
        return bool(buffer and supports(_cpu(), product))
    finally:
        head.buffer = None
        function("ggml_backend_buffer_free", None, HANDLE)(buffer)


def _extra_types() -> list[int]:
    """The CPU's buffer types for rearranged weights; none in a build without them."""
    registry = function("ggml_backend_dev_backend_reg", HANDLE, HANDLE)(_cpu())
    find = function("ggml_backend_reg_get_proc_address", HANDLE, HANDLE, ctypes.c_char_p)
    address = find(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    ask = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), HANDLE)(address)
    types = ask(_cpu())
    found: list[int] = []
    while types and (handle := types[len(found)]):
        found.append(handle)
    return found


def _cpu() -> int:
    cpu_type = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
    handle: int = function("ggml_backend_dev_by_type", HANDLE, ctypes.c_int)(cpu_type)
    return handle
