"""Functions of the ggml libraries, which llama_cpp has loaded but does not wrap."""

import ctypes
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cf_local.llama.library import llama_cpp, load_shared_library

HANDLE = ctypes.c_void_p


@cache
def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """The function of that name, with the ctypes of its result and its arguments."""
    for library in _libraries():
        if hasattr(library, name):
            found = library[name]
            found.restype, found.argtypes = result, list(arguments)
            return found  # type: ignore[no-any-return]  # ctypes types its functions as Any
    raise AttributeError(f"llama.cpp has no function {name}; cf-local needs another version of it.")


def text(name: str, handle: int, *arguments: int) -> str:
    """What a function says that takes a handle and indices and returns a string."""
    kinds = [ctypes.c_int64] * len(arguments)
    raw: bytes = function(name, ctypes.c_char_p, HANDLE, *kinds)(handle, *arguments) or b""
    return raw.decode("utf-8", errors="replace")


def _libraries() -> Iterator[Any]:
    """The ggml libraries, wherever this build of llama_cpp keeps them."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    for name in ("ggml", "ggml-base", "llama"):
        try:
            yield load_shared_library(name, folder)
        except (FileNotFoundError, RuntimeError):  # linked into libllama
            continue
