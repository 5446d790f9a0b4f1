"""An answer while it is written: the job that the worker runs, and the stream of its events.

The reader asks for the next event and waits; the worker does a short piece of work (a pass over the
prompt, a segment) when it is the job's turn. So nothing is computed unless a reader asks for it,
and of several answers each waits for at most one piece of every other.
"""

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Self

from cf_local.errors import Cancelled, CfLocalError, ClosedError
from cf_local.method.overlap import Overlap
from cf_local.method.session import Source
from cf_local.method.writer import Writer, chosen_at_first
from cf_local.progress import AsyncClosing, Progress
from cf_local.runtime.slots import Reader, Slot, Slots
from cf_local.runtime.worker import WAIT_S, Worker
from cf_local.settings import Settings
from cf_local.types import Answer, Event, Prompt

if TYPE_CHECKING:
    import asyncio

Pieces = Generator[Event | float | None]
"""A job in pieces: events, the share of the prompt that was read (0 to 1), None for a pause."""


class _Reply(NamedTuple):
    piece: Event | float | None = None
    error: BaseException | None = None


_Deliver = Callable[[_Reply], None]


class Job(ABC):
    """Work that needs a slot; each turn of the worker advances it by one piece."""

    only: int | None = None
    """The number of the slot that it needs; None for any."""

    def __init__(self, worker: Worker, slots: Slots) -> None:
        self.reader = Reader(threading.get_ident())
        self._worker, self._slots = worker, slots
        self._is_cancelled = self._is_started = False
        self._pieces: Pieces | None = None
        # Guards the fields below; never held during computation. The garbage collector may drop a
        # stream, and so abandon the job, while this very thread holds the lock.
        self._lock = threading.RLock()
        self._deliver: _Deliver | None = None  # set while a reader waits for a piece
        self._is_working = False
        self._is_over = False
        self._wants_progress = False
        self._last: _Reply | None = None  # the next reply, once it is over

    @abstractmethod
    def n_resident(self, slot: Slot) -> int:
        """Tokens of its prompt that are resident in a slot."""

    @abstractmethod
    def pieces(self, slot: Slot) -> Pieces:
        """The work in this slot; the last piece of an answer is the Answer."""

    @abstractmethod
    def cut_short(self) -> Answer:
        """The answer as far as it was written, cancelled; called between two pieces."""

    def cancel(self) -> None:
        """Ask it to end. Takes no lock, so a signal handler may call it."""
        self._is_cancelled = True

    def is_cancelled(self) -> bool:
        """Whether it should end: it was cancelled, or the program is exiting."""
        return self._is_cancelled or self._worker.is_stopping()

    def ask(
        self, deliver: _Deliver, reader: Reader, *, wants_progress: bool, may_compute: bool
    ) -> None:
        """Deliver the next piece, from another thread; with ``may_compute`` maybe before returning.

        Raises ClosedError.
        """
        with self._lock:
            if self._deliver is not None or self._is_working:
                raise CfLocalError(
                    "Another thread is reading this stream; an answer has one reader."
                )
            self.reader, self._wants_progress = reader, wants_progress
            reply = None
            if self._is_over:
                reply = self._last or _Reply(error=ClosedError("This stream has been closed."))
            else:
                self._deliver, self._is_started = deliver, True
        if reply is not None:
            deliver(reply)
            return
        try:
            if may_compute and self._slots.is_quiet:
                self._worker.do(self._turn)
            else:
                self._worker.submit(self._turn)
        except CfLocalError:  # closed in the meantime, or a forked process
            self._deliver = None
            raise

    def withdraw(self) -> None:
        """If it was cancelled and no piece is in progress, deliver what was written at once."""
        with self._lock:
            if not self._is_cancelled or self._deliver is None or self._is_working:
                return
            deliver, self._deliver = self._deliver, None
            self._is_over = True
        deliver(_Reply(self.cut_short()))
        self._submit_end()

    def abandon(self) -> None:
        """Its reader is gone. Does not wait."""
        self.cancel()
        with self._lock:
            deliver, self._deliver = self._deliver, None
        if deliver is not None:  # another thread closes it while its reader waits
            deliver(_Reply(error=ClosedError("This stream has been closed.")))
        if self._is_started and not self._is_over:
            self._submit_end()

    def wake(self) -> None:
        """A slot may be free."""
        with suppress(ClosedError):
            self._worker.submit(self._turn)

    def conclude(self, closer: int) -> None:
        """End it because thread ``closer`` closes the fusion; runs in the worker's thread.

        Its reader gets the answer as far as it was written; the closing thread gets an error.
        """
        with self._lock:
            deliver, self._deliver = self._deliver, None
            was_over, self._is_over = self._is_over, True
            closed = _Reply(error=ClosedError("This fusion has been closed."))
            is_closers = self.reader.thread == closer and deliver is None
            if not was_over:
                self._last = closed if is_closers else _Reply(self.cut_short())
        if deliver is not None and self._last is not None:
            deliver(self._last)
        self._end()

    def _submit_end(self) -> None:
        with suppress(CfLocalError):  # closed, or a copy in a forked process: nothing to do
            self._worker.submit(self._end)

    def _end(self) -> None:
        """Roll back and release the slot; runs in the worker's thread."""
        self._is_over = True
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            pieces.close()
        self._slots.release(self)

    def _turn(self) -> None:
        """Do one piece of work and deliver it."""
        with self._lock:
            if self._deliver is None or self._is_over:
                return
            self._is_working = True
        try:
            reply = self._advance()
        except BaseException as error:  # noqa: BLE001 - raised for the reader
            reply = _Reply(error=error)
        is_last = reply is not None and (reply.error or isinstance(reply.piece, Answer))
        if is_last:
            self._end()
        with self._lock:
            self._is_working = False
            deliver = self._deliver
            if reply is None or deliver is None:
                return
            is_for_nobody = isinstance(reply.piece, float) and not self._wants_progress
            goes_on = not is_last and (reply.piece is None or is_for_nobody)
            if not goes_on:
                self._deliver = None
        if goes_on:
            self.wake()
        else:
            deliver(reply)

    def _advance(self) -> _Reply | None:
        """The next piece; None while it waits for a slot."""
        if self._pieces is None:
            slot = self._slots.take(self)
            if slot is None:
                return None
            self._pieces = self.pieces(slot)
        return _Reply(next(self._pieces))


class AnswerJob(Job):
    """Writes one answer with the sessions of ``sources``.

    ``prefix`` is the text the answer already has; ``answered`` is called when it has ended.
    """

    def __init__(
        self,
        worker: Worker,
        slots: Slots,
        prompt: Prompt,
        settings: Settings,
        *,
        prefix: bytes,
        sources: Callable[[], Sequence[Source]],
        overlap: Overlap,
        answered: Callable[[], None],
    ) -> None:
        super().__init__(worker, slots)
        self._prompt, self._settings, self._prefix = prompt, settings, prefix
        self._sources, self._overlap, self._answered = sources, overlap, answered
        self._writer: Writer | None = None

    def n_resident(self, slot: Slot) -> int:
        """Tokens of the prompt that the slot's sessions have read, if it continues theirs."""
        sessions = slot.sessions(self._sources())
        return sum(session.n_resident(self._prompt) for session in sessions)

    def pieces(self, slot: Slot) -> Pieces:
        """Write in this slot; always leaves it without drafts."""
        self._writer = writer = Writer(
            slot.sessions(self._sources()), self._settings, self.is_cancelled, self._overlap
        )
        try:
            yield from writer.prefill(self._prompt, self._prefix)
            yield from writer.steps()
            self._answered()
        except Cancelled:
            writer.finish_reason = "cancelled"
        finally:
            writer.rollback()
        yield writer.answer()

    def _end(self) -> None:
        super()._end()
        self._writer = None  # breaks a reference cycle: memory is freed without a collection

    def cut_short(self) -> Answer:
        """The answer as far as it was written, cancelled."""
        if self._writer is not None:
            self._writer.finish_reason = "cancelled"
            return self._writer.answer()
        infos = tuple(source.info for source in self._sources())
        return Answer(
            text="",
            finish_reason="cancelled",
            mode=self._settings.mode,
            chosen=chosen_at_first(self._settings, infos[0].name),
            passes={info.name: 0 for info in infos},
            prompt_s=0.0,
            prompt_tokens={},
            elapsed_s=0.0,
            decode_s=0.0,
            sources=infos,
        )


class ExclusiveJob(Job):
    """Other work with the sessions of the first slot, which yields where others may take a turn."""

    only = 0

    def __init__(self, worker: Worker, slots: Slots, work: Callable[[], Generator[None]]) -> None:
        super().__init__(worker, slots)
        self._work = work
        self.is_done = False

    def n_resident(self, slot: Slot) -> int:
        """Zero: it has no prompt."""
        return 0

    def pieces(self, slot: Slot) -> Pieces:
        """Do the work."""
        yield from self._work()
        self.is_done = True

    def cut_short(self) -> Answer:
        """Raises Cancelled: such work has no answer."""
        raise Cancelled("Cancelled.")


class Stream(AsyncClosing):
    """The events of an answer: ``for event in stream``, or ``async for event in stream``.

    Yields each Step as it is written, then one Answer. One reader at a time; any thread may
    ``cancel``. Leaving ``with`` (or ``async with``), ``close``, and dropping the stream end the
    answer at once.
    """

    def __init__(self, job: Job, on_progress: Progress | None, check: Callable[[], None]) -> None:
        """``check`` raises if the answer cannot start."""
        self._job, self._on_progress, self._check = job, on_progress, check
        self._replies: SimpleQueue[_Reply] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None  # in which a piece is awaited
        self._is_started = self._is_done = False
        self._on_end = weakref.finalize(self, job.abandon)
        self._on_end.atexit = False

    def cancel(self) -> None:
        """End this answer as soon as the running forward pass allows.

        Its reader gets what was written. Any thread, and a signal handler, may call it.
        """
        self._job.cancel()
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._job.withdraw)

    def close(self) -> None:
        """End the answer if it is still being written, and stop reading. May be called twice."""
        self._is_done = True
        self._on_end()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while True:
            if self._is_done:
                raise StopIteration
            event = self._taken(self._wait())
            if event is not None:
                return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._is_done:
                raise StopAsyncIteration
            event = self._taken(await self._await())
            if event is not None:
                return event

    def _wait(self) -> _Reply:
        """The next reply; Ctrl-C ends the answer."""
        self._ask(self._replies.put, Reader(threading.get_ident()), may_compute=True)
        try:
            while True:
                try:
                    return self._replies.get(timeout=WAIT_S)
                except Empty:
                    self._job.withdraw()
        except BaseException:
            self.close()
            raise

    async def _await(self) -> _Reply:
        """The next reply, without blocking the event loop."""
        import asyncio  # only here: it imports the networking modules

        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Reply] = loop.create_future()

        def deliver(reply: _Reply) -> None:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(_resolve, future, reply)

        reader = Reader(threading.get_ident(), asyncio.current_task())
        self._ask(deliver, reader, may_compute=False)  # it would block the loop
        self._loop = loop
        try:
            self._job.withdraw()  # if it was cancelled earlier
            return await future
        except BaseException:  # the asyncio task was cancelled, or timed out
            self.close()
            raise
        finally:
            self._loop = None

    def _ask(self, deliver: _Deliver, reader: Reader, *, may_compute: bool) -> None:
        if not self._is_started:
            self._check()
            self._is_started = True
        wants_progress = self._on_progress is not None
        self._job.ask(deliver, reader, wants_progress=wants_progress, may_compute=may_compute)

    def _taken(self, reply: _Reply) -> Event | None:
        """The event of a reply; None for progress, which is reported."""
        if reply.error is not None:
            self.close()
            raise reply.error
        if reply.piece is None or isinstance(reply.piece, float):
            if self._on_progress is not None and reply.piece is not None:
                self._on_progress(reply.piece)
            return None
        self._is_done = isinstance(reply.piece, Answer)
        return reply.piece


def _resolve(future: "asyncio.Future[_Reply]", reply: _Reply) -> None:
    if not future.done():
        future.set_result(reply)
