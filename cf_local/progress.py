"""``with`` and ``async with`` for whatever has a ``close``."""

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Closed when its ``with`` is left, however that happens."""

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClosing(Closing):
    """The same for ``async with``; closing does not wait."""

    async def aclose(self) -> None:
        """As ``close``."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
