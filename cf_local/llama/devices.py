"""What llama.cpp can compute on: the devices of the backends that it was built with."""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import llama_cpp
import llama_cpp.llama_cpp as lib
from llama_cpp._ctypes_extensions import load_shared_library

from cf_local.memory import main_memory

Kind = Literal["cpu", "gpu", "igpu", "accelerator"]
_KINDS: dict[int, Kind] = {0: "cpu", 1: "gpu", 2: "igpu"}  # GGML_BACKEND_DEVICE_TYPE_*


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model can be put; an "igpu" computes in the main memory.

    ``name`` is llama.cpp's, such as "CUDA0", ``backend`` what drives it, such as "CUDA".
    """

    name: str
    description: str
    kind: Kind
    backend: str
    total_bytes: int
    available_bytes: int


def devices() -> tuple[Device, ...]:
    """All devices in llama.cpp's order, with the memory that is available now."""
    lib.llama_backend_init()
    count = int(_function("ggml_backend_dev_count", ctypes.c_size_t)())
    get = _function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    return tuple(_device(get(index)) for index in range(count))


def backends() -> tuple[str, ...]:
    """The names of the backends that llama.cpp was built with, such as ("CUDA", "CPU")."""
    lib.llama_backend_init()
    count = int(_function("ggml_backend_reg_count", ctypes.c_size_t)())
    get = _function("ggml_backend_reg_get", ctypes.c_void_p, ctypes.c_size_t)
    return tuple(_text("ggml_backend_reg_name", get(index)) for index in range(count))


def _device(handle: int) -> Device:
    kind_of = _function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    kind = _KINDS.get(kind_of(handle), "accelerator")
    registry = _function("ggml_backend_dev_backend_reg", ctypes.c_void_p, ctypes.c_void_p)(handle)
    total, available = _memory(handle, kind)
    return Device(
        name=_text("ggml_backend_dev_name", handle),
        description=_text("ggml_backend_dev_description", handle),
        kind=kind,
        backend=_text("ggml_backend_reg_name", registry),
        total_bytes=total,
        available_bytes=available,
    )


def _memory(handle: int, kind: Kind) -> tuple[int, int]:
    """Bytes in all and available; of the main memory what the system and the container allow."""
    if kind in ("cpu", "accelerator"):  # llama.cpp counts free memory, or nothing
        memory = main_memory()
        return memory.total_bytes, memory.available_bytes
    pointer = ctypes.POINTER(ctypes.c_size_t)
    ask = _function("ggml_backend_dev_memory", None, ctypes.c_void_p, pointer, pointer)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ask(handle, ctypes.byref(free), ctypes.byref(total))
    return total.value, free.value


def _text(function: str, handle: int) -> str:
    raw: bytes = _function(function, ctypes.c_char_p, ctypes.c_void_p)(handle) or b""
    return raw.decode("utf-8", errors="replace")


@cache
def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of the ggml libraries, which llama_cpp has loaded but does not wrap."""
    for library in _libraries():
        if hasattr(library, name):
            function = library[name]
            function.restype, function.argtypes = result, list(arguments)
            return function  # type: ignore[no-any-return]  # ctypes types its functions as Any
    raise AttributeError(f"llama.cpp has no function {name}; cf-local needs another version of it.")


def _libraries() -> Iterator[Any]:
    """The ggml libraries, wherever this build of llama_cpp keeps them."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    for name in ("ggml", "ggml-base", "llama"):
        try:
            yield load_shared_library(name, folder)
        except (FileNotFoundError, RuntimeError):  # linked into libllama
            continue
