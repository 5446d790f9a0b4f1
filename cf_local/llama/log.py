"""llama.cpp's process-wide log, routed into ``logging``; what it says can be kept."""

import ctypes
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import llama_cpp.llama_cpp as lib

_log = logging.getLogger("cf_local.llama")
_LEVELS = {1: logging.DEBUG, 2: logging.WARNING, 3: logging.ERROR, 4: logging.DEBUG}


class LogBridge:
    """Routes llama.cpp's log into ``logging`` and remembers the last errors."""

    def __init__(self) -> None:
        self.last_errors: deque[str] = deque(maxlen=8)
        self._level = logging.DEBUG
        self._heard: list[str] | None = None
        self._callback = lib.llama_log_callback(self._hear)

    def install(self) -> None:
        """Take the log over. Again at every load: other users of llama_cpp set it, too."""
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        self.last_errors.clear()

    def reason(self) -> str:
        """Why the last load failed, in llama.cpp's words."""
        marker = "error loading model: "
        for line in self.last_errors:
            if marker in line:
                return line.partition(marker)[2]
        return "; ".join(self.last_errors) or "llama.cpp gave no reason"

    @contextmanager
    def kept(self) -> Iterator[list[str]]:
        """The lines that are logged meanwhile, in place of routing them on."""
        before, self._heard = self._heard, []
        try:
            yield self._heard
        finally:
            self._heard = before

    def _hear(self, level: int, text: bytes, _data: object) -> None:
        line = text.decode("utf-8", errors="replace").strip()
        self._level = _LEVELS.get(level, self._level)
        if not line:
            return
        if self._level >= logging.ERROR:
            self.last_errors.append(line)
        if self._heard is not None:
            self._heard.append(line)
            return
        # The reason of a failed load travels in the exception; a second copy on stderr is noise.
        _log.log(min(self._level, logging.INFO), "%s", line)


bridge = LogBridge()
