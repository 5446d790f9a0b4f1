"""The native library: the only module that imports ``llama_cpp``.

How OpenMP's threads wait for each other must be set before the library is loaded. llama.cpp's
threads meet at a barrier several hundred times in a forward pass. By default libgomp lets those
that wait spin for a millisecond. Beside another busy process the one they wait for may not be
running, and a pass of 30 ms takes seconds. Without any spinning, cores that are otherwise idle fall
asleep at every barrier. A short spin is nearly as fast as a long one on a quiet machine, and bounds
the loss on a busy one (docs/speed.md has the figures).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_WAITING = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "1000",  # about 5 µs
}


@contextmanager
def _short_spins() -> Iterator[None]:
    """OpenMP reads these settings once, when it is loaded; what the user has set stays.

    The environment is as before afterwards: it belongs to the program.
    """
    added = {name: value for name, value in _WAITING.items() if name not in os.environ}
    if added.keys() != _WAITING.keys():
        added = {}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


with _short_spins():
    import llama_cpp
    import llama_cpp.llama_cpp as lib
    from llama_cpp._ctypes_extensions import load_shared_library
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

__all__ = ["Jinja2ChatFormatter", "lib", "llama_cpp", "load_shared_library"]
