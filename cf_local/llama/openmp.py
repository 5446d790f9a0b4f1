"""How OpenMP's threads wait for each other: set before the native library is loaded.

llama.cpp's threads meet at a barrier several hundred times in a forward pass. By default libgomp
lets those that wait spin for a millisecond. Beside another busy process the one they wait for may
not be running, and a pass of 30 ms takes seconds. Without any spinning, cores that are otherwise
idle fall asleep at every barrier. A short spin is nearly as fast as a long one on a quiet machine,
and bounds the loss on a busy one (docs/speed.md has the figures).
"""

import os

_WAITING = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "1000",  # about 5 µs
}


def _load_library() -> None:
    """Load llama.cpp with these settings, which its OpenMP reads once, at that moment.

    What the user has set stays. The environment is as before afterwards: it belongs to the program.
    """
    added = {name: value for name, value in _WAITING.items() if name not in os.environ}
    if added.keys() != _WAITING.keys():
        added = {}
    os.environ.update(added)
    try:
        import llama_cpp  # noqa: F401
    finally:
        for name in added:
            del os.environ[name]


_load_library()
