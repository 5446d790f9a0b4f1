"""Ctrl-C as a request to stop: running work ends early and keeps its results."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self


class Interrupt:
    """While entered, the first Ctrl-C sets a flag and calls back; the second one raises.

    Python handles a signal only between two forward passes, so none is torn down midway.
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
        """Act as if Ctrl-C were pressed now."""
        self._flag.set()
        for callback in self._calls:
            callback()

    def clear(self) -> None:
        """Reset the flag after a Ctrl-C was handled."""
        self._flag.clear()

    @contextmanager
    def calls(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback`` on Ctrl-C while entered."""
        self._calls.append(callback)
        try:
            yield
        finally:
            self._calls.remove(callback)

    @contextmanager
    def patient(self, is_patient: bool = True) -> Iterator[None]:
        """While entered, further presses of Ctrl-C set the flag again instead of raising."""
        former, self._is_patient = self._is_patient, is_patient
        try:
            yield
        finally:
            self._is_patient = former

    @contextmanager
    def raising(self) -> Iterator[None]:
        """While entered, Ctrl-C raises KeyboardInterrupt at once; use it when nothing runs."""
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


def how_to_go_on(done: str, out: Path | None) -> str:
    """What to say when Ctrl-C has ended a run after what is ``done``, saved in ``out`` if given."""
    done = f"Interrupted after {done}."
    if out is None:
        return f"{done} Nothing was saved. With --out FOLDER you can resume a run."
    return f"{done} They are saved in {out}. Run the same command with --resume to continue."
