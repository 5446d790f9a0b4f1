"""llama.cpp's process-wide log, routed into ``logging``; what it says can be kept."""

import ctypes
import logging
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from cf_local.llama.library import lib

_log = logging.getLogger("cf_local.llama")
# GGML_LOG_LEVEL_*: debug, info, warning, error; 5 goes on with the line before.
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_END_TOKEN = re.compile(r"EOG token += +(\d+) ")


class _Heard(threading.local):
    """What one thread has heard: models are loaded in several threads at once."""

    def __init__(self) -> None:
        self.level = logging.DEBUG
        self.errors: deque[str] = deque(maxlen=8)
        self.end_tokens: list[int] = []
        self.lines: list[str] | None = None


class LogBridge:
    """Routes llama.cpp's log into ``logging`` and remembers, thread by thread, what matters."""

    def __init__(self) -> None:
        self._own = _Heard()
        self._callback = lib.llama_log_callback(self._hear)

    def install(self) -> None:
        """Take the log over. Again at every load: other users of llama_cpp set it, too."""
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        self._own.errors.clear()
        self._own.end_tokens = []

    @property
    def end_tokens(self) -> list[int]:
        """Ids of the end-of-generation tokens that the last load has listed."""
        return self._own.end_tokens

    def reason(self) -> str:
        """Why the last load failed, in llama.cpp's words."""
        marker = "error loading model: "
        for line in self._own.errors:
            if marker in line:
                return line.partition(marker)[2]
        return "; ".join(self._own.errors) or "llama.cpp gave no reason"

    @contextmanager
    def kept(self) -> Iterator[list[str]]:
        """The lines that are logged meanwhile, in place of routing them on."""
        before, lines = self._own.lines, list[str]()
        self._own.lines = lines
        try:
            yield lines
        finally:
            self._own.lines = before

    def _hear(self, level: int, text: bytes, _data: object) -> None:
        own = self._own
        line = text.decode("utf-8", errors="replace").strip()
        own.level = _LEVELS.get(level, own.level)
        if not line:
            return
        if own.level >= logging.ERROR:
            own.errors.append(line)
        elif found := _END_TOKEN.search(line):
            own.end_tokens.append(int(found[1]))
        if own.lines is not None:
            own.lines.append(line)
            return
        # The reason of a failed load travels in the exception; a second copy on stderr is noise.
        _log.log(min(own.level, logging.INFO), "%s", line)


bridge = LogBridge()
