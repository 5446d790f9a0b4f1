"""The native library: the only module that imports ``llama_cpp``.

How OpenMP's threads wait for each other must be set before the library is loaded. llama.cpp's
threads meet at a barrier several hundred times in a forward pass. By default libgomp lets waiting
threads spin for a millisecond. On a machine with another busy process the thread they wait for may
not be running, and a pass of 30 ms takes seconds. Without any spinning, idle cores fall asleep at
every barrier. A short spin is nearly as fast as a long one on a quiet machine, and limits the loss
on a busy one (docs/speed.md has the figures).
"""

import ctypes
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_WAITING = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "1000",  # about 5 µs
}


@contextmanager
def _short_spins() -> Iterator[None]:
    """OpenMP reads these settings once, when it is loaded; settings of the user take precedence.

    Afterwards the environment is restored: it belongs to the program.
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


def system_info() -> str:
    """The compiled-in backends and processor features, on one line."""
    lib.llama_backend_init()
    return str(lib.llama_print_system_info().decode("utf-8", errors="replace").strip(" |"))


def library_version() -> str:
    """The version of libllama."""
    version = getattr(lib, "llama_version", None)
    return "unknown" if version is None else str(version().decode("utf-8", errors="replace"))


_log = logging.getLogger("cf_local.llama")
# GGML_LOG_LEVEL_*: debug, info, warning, error; 5 continues the line before.
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_END_TOKEN = re.compile(r"EOG token += +(\d+) ")
_BOTH_WAYS = re.compile(r"causal attn += +0\b")


class _ThreadLog(threading.local):
    """The log of one thread: models are loaded in several threads at once."""

    def __init__(self) -> None:
        self.level = logging.DEBUG
        self.errors: deque[str] = deque(maxlen=8)
        self.end_tokens: list[int] = []
        self.reads_both_ways = False
        self.lines: list[str] | None = None


class LogBridge:
    """Routes llama.cpp's log to ``logging`` and remembers, per thread, what matters."""

    def __init__(self) -> None:
        self._own = _ThreadLog()
        self._callback = lib.llama_log_callback(self._receive)

    def install(self) -> None:
        """Take over the log, at every load: other users of llama_cpp may set it, too."""
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        self._own.errors.clear()
        self._own.end_tokens = []
        self._own.reads_both_ways = False

    @property
    def end_tokens(self) -> list[int]:
        """Ids of the end-of-generation tokens that the last load listed."""
        return self._own.end_tokens

    @property
    def reads_both_ways(self) -> bool:
        """Whether the model of the last load has no causal attention."""
        return self._own.reads_both_ways

    def reason(self) -> str:
        """Why the last load failed, in llama.cpp's words."""
        marker = "error loading model: "
        for line in self._own.errors:
            if marker in line:
                return line.partition(marker)[2]
        return "; ".join(self._own.errors) or "llama.cpp gave no reason"

    @contextmanager
    def captured(self) -> Iterator[list[str]]:
        """The lines logged inside the ``with`` block, which are not routed on."""
        before, lines = self._own.lines, list[str]()
        self._own.lines = lines
        try:
            yield lines
        finally:
            self._own.lines = before

    def _receive(self, level: int, text: bytes, _data: object) -> None:
        own = self._own
        line = text.decode("utf-8", errors="replace").strip()
        own.level = _LEVELS.get(level, own.level)
        if not line:
            return
        if own.level >= logging.ERROR:
            own.errors.append(line)
        elif found := _END_TOKEN.search(line):
            own.end_tokens.append(int(found[1]))
        elif _BOTH_WAYS.search(line):
            own.reads_both_ways = True
        if own.lines is not None:
            own.lines.append(line)
            return
        # The reason of a failed load travels in the exception; a second copy on stderr is noise.
        _log.log(min(own.level, logging.INFO), "%s", line)


bridge = LogBridge()
