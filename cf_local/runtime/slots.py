"""Which answers may be written now: slots, and a queue for answers that find none free.

Only the worker's thread calls these methods, so nothing here needs a lock.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from cf_local.errors import CfLocalError
from cf_local.method.session import Session, Source


class Slot(NamedTuple):
    """Room for one answer: a session of each source."""

    number: int

    def sessions(self, sources: Sequence[Source]) -> tuple[Session, ...]:
        """The sessions of ``sources`` in this slot."""
        return tuple(source.sessions[self.number] for source in sources)


class Reader(NamedTuple):
    """Who reads an answer: a thread, and the asyncio task in it if there is one."""

    thread: int
    task: object | None = None

    def waits_for(self, other: "Reader") -> bool:
        """Whether ``other`` cannot continue before this reader does: it would wait for itself."""
        return self.thread == other.thread and (self.task is None or self.task is other.task)


class Waiting(Protocol):
    """Work that needs a slot."""

    @property
    def reader(self) -> Reader:
        """Who reads its result."""

    @property
    def only(self) -> int | None:
        """The number of the slot that it needs; None for any."""

    def n_resident(self, slot: Slot) -> int:
        """Tokens of its prompt that are resident in a slot."""

    def wake(self) -> None:
        """Try to take a slot again: one may be free."""


class Slots:
    """``n_slots`` slots; the queue is served in order."""

    def __init__(self, n_slots: int) -> None:
        self._free = deque(map(Slot, range(n_slots)))  # the least recently used one first
        self._taken: dict[Waiting, Slot] = {}
        self._queue: deque[Waiting] = deque()

    @property
    def jobs(self) -> list[Waiting]:
        """All jobs that have a slot or wait for one."""
        return [*self._taken, *self._queue]

    @property
    def is_quiet(self) -> bool:
        """Whether there is at most one job. Any thread may ask."""
        return len(self._taken) + len(self._queue) <= 1

    def take(self, job: Waiting) -> Slot | None:
        """A slot for ``job``; None if it has to wait, and is woken later.

        Of several free slots it gets the one that has read most of its prompt, or else the least
        recently used one. Raises CfLocalError for a reader that would wait for itself.
        """
        is_first = not self._queue or self._queue[0] is job
        choice = [slot for slot in self._free if job.only in (None, slot.number)]
        if not (is_first and choice):
            self._check_wait(job)
            if job not in self._queue:
                self._queue.append(job)
            return None
        # max returns the first of equals
        slot = max(choice, key=job.n_resident) if len(choice) > 1 else choice[0]
        self._leave_queue(job)
        self._free.remove(slot)
        self._taken[job] = slot
        return slot

    def release(self, job: Waiting) -> None:
        """``job`` no longer needs a slot."""
        if job in self._taken:
            self._free.append(self._taken.pop(job))
        self._leave_queue(job)
        if self._free and self._queue:
            self._queue[0].wake()

    def _leave_queue(self, job: Waiting) -> None:
        if job in self._queue:
            self._queue.remove(job)
            if self._free and self._queue:
                self._queue[0].wake()

    def _check_wait(self, job: Waiting) -> None:
        in_the_way = [
            other.reader for other, slot in self._taken.items() if job.only in (None, slot.number)
        ]
        if in_the_way and all(job.reader.waits_for(reader) for reader in in_the_way):
            raise CfLocalError(
                "This fusion is already writing an answer that was started here and has not been "
                "read to its end; a second one would wait for it forever. Read or close that "
                "stream first, or load the fusion for more conversations."
            )
