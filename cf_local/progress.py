"""Long work: its progress, its cancellation, and what is closed at the end."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Self, TypeVar

Progress = Callable[[float], None]
IsCancelled = Callable[[], bool]


def never() -> bool:
    """The ``is_cancelled`` of work that cannot be cancelled."""
    return False


T = TypeVar("T")


def drained(parts: Generator[Any, None, T], on_progress: Progress | None = None) -> T:
    """Run work that comes in parts; returns its result. ``on_progress`` receives what it yields."""
    with closing(parts):
        while True:
            try:
                share = next(parts)
            except StopIteration as end:
                result: T = end.value
                return result
            if on_progress is not None:
                on_progress(share)


class Closing(ABC):
    """Closed when its ``with`` block is left, even by an exception."""

    @abstractmethod
    def close(self) -> None:
        """Release what it holds. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClosing(Closing):
    """The same for ``async with``; closing does not wait."""

    async def aclose(self) -> None:
        """Like ``close``."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
