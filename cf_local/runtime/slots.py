"""Who may write now: seats for answers, and a queue for those that find none free.

Only the worker's thread calls these, so nothing here is locked.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from cf_local.errors import CfLocalError


class Reader(NamedTuple):
    """Who reads an answer: a thread, and the asyncio task in it, if it waits as one."""

    thread: int
    task: object | None = None

    def waits_for(self, other: "Reader") -> bool:
        """Whether ``other`` cannot go on before this reader does: it would wait for itself."""
        return self.thread == other.thread and (self.task is None or self.task is other.task)


class Sitter(Protocol):
    """Work that needs a seat."""

    @property
    def reader(self) -> Reader:
        """Who reads what it writes."""

    def wake(self) -> None:
        """Try again to take a seat: one may be free."""


class Seating:
    """``n_seats`` seats; the queue is served in order."""

    def __init__(self, n_seats: int) -> None:
        self._free = deque(range(n_seats))  # that used least recently first
        self._taken: dict[Sitter, int] = {}
        self._waiting: deque[Sitter] = deque()

    @property
    def sitters(self) -> list[Sitter]:
        """Who has a seat or waits for one."""
        return [*self._taken, *self._waiting]

    @property
    def is_quiet(self) -> bool:
        """Whether there is one sitter at most; may be asked from any thread."""
        return len(self._taken) + len(self._waiting) <= 1

    def take(
        self, sitter: Sitter, fits: Callable[[int], int], only: int | None = None
    ) -> int | None:
        """A seat for ``sitter``, None if it has to wait: it is woken then.

        Of several free seats that for which ``fits`` is highest, or else the one that was not used
        for longest; ``only`` asks for one seat. Raises CfLocalError for a reader that would have
        to wait for itself.
        """
        is_first = not self._waiting or self._waiting[0] is sitter
        choice = [seat for seat in self._free if only in (None, seat)]
        if not (is_first and choice):
            self._check_wait(sitter, only)
            if sitter not in self._waiting:
                self._waiting.append(sitter)
            return None
        # max takes the first of equals
        seat = max(choice, key=fits) if len(choice) > 1 else choice[0]
        self._leave_queue(sitter)
        self._free.remove(seat)
        self._taken[sitter] = seat
        return seat

    def release(self, sitter: Sitter) -> None:
        """``sitter`` needs no seat any more."""
        if sitter in self._taken:
            self._free.append(self._taken.pop(sitter))
        self._leave_queue(sitter)
        if self._free and self._waiting:
            self._waiting[0].wake()

    def _leave_queue(self, sitter: Sitter) -> None:
        if sitter in self._waiting:
            self._waiting.remove(sitter)
            if self._free and self._waiting:
                self._waiting[0].wake()

    def _check_wait(self, sitter: Sitter, only: int | None) -> None:
        in_the_way = [s.reader for s, seat in self._taken.items() if only in (None, seat)]
        if in_the_way and all(sitter.reader.waits_for(reader) for reader in in_the_way):
            raise CfLocalError(
                "This fusion is already writing an answer that was begun here and not read to its "
                "end, and would wait for it forever. Exhaust or close that stream first, or load "
                "the fusion for more conversations."
            )
