"""Ctrl-C as a request: what runs is told to stop and keeps what it has."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class Interrupt:
    """While entered, the first Ctrl-C sets the flag and calls back; a second one raises.

    Python sees a signal only between two forward passes, so nothing is torn down within one.
    """

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._calls: list[Callable[[], None]] = []
        self._former: Any = None
        self._is_patient = False

    def is_set(self) -> bool:
        """Whether Ctrl-C was pressed since the last ``clear``."""
        return self._flag.is_set()

    def press(self) -> None:
        """As if Ctrl-C had been pressed now."""
        self._flag.set()
        for callback in self._calls:
            callback()

    def clear(self) -> None:
        """Forget a Ctrl-C that was answered."""
        self._flag.clear()

    @contextmanager
    def calls(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback`` on Ctrl-C for a while."""
        self._calls.append(callback)
        try:
            yield
        finally:
            self._calls.remove(callback)

    @contextmanager
    def patient(self, is_patient: bool = True) -> Iterator[None]:
        """Let the second and every further Ctrl-C ask once more instead of raising, for a while."""
        former, self._is_patient = self._is_patient, is_patient
        try:
            yield
        finally:
            self._is_patient = former

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Let Ctrl-C raise KeyboardInterrupt at once, for a while in which nothing runs."""
        former = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, former)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        if self._flag.is_set() and not self._is_patient:
            raise KeyboardInterrupt
        self.press()
