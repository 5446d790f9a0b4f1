"""A set of loaded sources that answer together: the public engine.

It owns the sources and says who may speak; ``writer`` writes the answer, ``stream`` hands it out,
and ``worker`` is the one thread that computes. It yields typed events and prints nothing;
everything else renders them.
"""

import copy
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from cf_local.errors import Cancelled, CfLocalError, ClosedError, InputError
from cf_local.method.overlap import Crew
from cf_local.method.session import Source
from cf_local.progress import Closing, Progress
from cf_local.runtime.conversation import Conversation
from cf_local.runtime.slots import Seating
from cf_local.runtime.stream import Flag, Stream, Task
from cf_local.runtime.worker import Worker
from cf_local.runtime.writing import Exclusive, Writing
from cf_local.settings import Settings
from cf_local.types import FUSED, Answer, Prompt

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Fusion(Closing):
    """Loaded sources that answer together. All methods may be called from any thread.

    As many answers are written at once as the sources have seats, in turn, segment by segment;
    further ones wait in order. One thread computes, whoever asks.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        settings: Settings | None = None,
        *,
        overlap: bool = False,
        worker: Worker | None = None,
    ) -> None:
        """Take over ``sources``, closed with the fusion; ``settings`` are the defaults of answers.

        With ``overlap`` sources work at the same time, where they do not wait for each other.
        ``worker`` is the thread in which they compute. Raises InputError when there is no source,
        two share a name, one is named FUSED, or the weights do not match.
        """
        self.sources = tuple(sources)
        self.settings = settings or Settings()
        names = [source.info.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise InputError(f"A fusion needs sources with different names, not {names}.")
        if FUSED in names:
            raise InputError(f"No source can be named {FUSED!r}: that is the fused answer.")
        self.speakers(self.settings)
        self.n_conversations = min(len(source.seats) for source in self.sources)
        """How many answers are written at once, and conversations kept in the caches."""
        self._worker = worker or Worker()
        self._worker.lends_turns = all(source.info.n_threads <= 1 for source in self.sources)
        self._seating = Seating(self.n_conversations)
        # Looked through by signal handlers: without a lock, and no other operation is safe.
        self._streams: dict[int, weakref.ref[Stream]] = {}
        self._closed = False
        self._after_answer: list[Callable[[], None]] = []
        self._whole: Fusion | None = None  # for a part: what it is a part of
        self._crew = Crew(len(self.sources) if overlap else 0)

    def stream(
        self,
        prompt: Prompt,
        settings: Settings | None = None,
        *,
        begun: str = "",
        on_progress: Progress | None = None,
    ) -> Stream:
        """Write an answer: a Step for each fused segment, then one Answer.

        The stream is for ``for`` and for ``async for``. Nothing is written before the first event
        is asked for, nor more than is asked for. If all seats are taken, it waits its turn.
        ``begun`` is what the answer already says; its steps go on from there, without speculation.
        ``on_progress`` hears the evaluated share of the prompt (0 to 1), in the thread that reads.
        After ``cancel``, of this stream or of the fusion, the Answer holds what was written.
        Reading raises InputError, ContextError, ClosedError, and CfLocalError where it would wait
        for a stream that the same reader has left unfinished.
        """
        settings, cancelled = settings or self.settings, Flag()
        if begun:
            # Speculation keeps a record of the response, to which nothing may be added.
            settings = replace(settings, speculation=False)
            if settings.mode == "cool+r":
                raise InputError(
                    'Mode "cool+r" cannot go on with an answer that has begun; choose "cool" or '
                    '"rerank".'
                )
        is_stopping = self._worker.is_stopping
        writing = Writing(
            prompt,
            settings,
            begun.encode(),
            lambda seat: self._in_seat(self.speakers(settings), seat),
            self._crew,
            self._answered,
            lambda: cancelled.is_set() or is_stopping(),
        )
        return self._streamed(Task(writing, cancelled, self._worker, self._seating), on_progress)

    def answer(self, prompt: Prompt, settings: Settings | None = None) -> Answer:
        """The answer of ``stream`` without its steps."""
        *_, last = self.stream(prompt, settings)
        assert isinstance(last, Answer)
        return last

    def after_answer(self, work: Callable[[], None]) -> None:
        """Do ``work`` once, after an answer when no other is being written, in the same thread.

        Its failure is logged; closing the fusion waits for it.
        """
        self._after_answer.append(work)

    def conversation(self, system: str | None = None) -> Conversation:
        """A new conversation, with ``system`` as instructions for all sources."""
        return Conversation(system, speaker=self)

    def alone(self, work: Callable[[], T]) -> T:
        """What ``work`` with the ``sources`` returns, while no answer is written with them.

        It is done by the thread that computes; waits until answers in their seat have ended.
        """
        if self._worker.is_here:
            return work()
        found: list[T] = []
        exclusive = Exclusive(lambda: found.append(work()))
        task = Task(exclusive, Flag(), self._worker, self._seating, only=0)
        for _ in self._streamed(task, None):
            pass
        if not exclusive.is_done:
            raise Cancelled("Cancelled.")
        return found[0]

    def of(self, names: Sequence[str], settings: Settings | None = None) -> "Fusion":
        """Some of the sources, in the order of ``names``, as a fusion of their own: no second load.

        The sources stay this fusion's: all its parts write in turn with it, ``cancel`` of any ends
        what any of them writes, and closing a part closes no source. ``settings`` are its defaults;
        without, this fusion's, with the weights of the sources named. Raises InputError for a name
        that there is not, or one given twice.
        """
        known = {source.info.name: source for source in self.sources}
        if not names or len(set(names)) < len(names) or not known.keys() >= set(names):
            raise InputError(f"A part of {list(known)} names some of them, each once: {names}.")
        part = copy.copy(self)
        part.sources = tuple(known[name] for name in names)
        part.settings = settings or self._settings_of(names)
        part.speakers(part.settings)
        part._whole = self
        return part

    def cancel(self) -> None:
        """End the streams there are as soon as the running forward pass allows."""
        for known in list(self._streams.values()):
            stream = known()
            if stream is not None:
                stream.cancel()

    def close(self) -> None:
        """Cancel what is written, close the sources and give the memory back; twice does no harm.

        Waits for the running forward pass, not for readers: they get the answer as it stands. Only
        a stream that this very thread has left unfinished raises ClosedError when it is read on.
        """
        is_first = not self._closed
        self._closed = True
        if self._whole is not None or not is_first or self._worker.is_forked:
            return
        self.cancel()
        closer = threading.get_ident()
        try:
            self._worker.call(lambda: self._close_all(closer))
        finally:
            self._worker.close()

    def _close_all(self, closer: int) -> None:
        for sitter in self._seating.sitters:
            if isinstance(sitter, Task):
                sitter.conclude(closer)
        self._crew.close()
        for source in self.sources:
            source.close()

    def _streamed(self, task: Task, on_progress: Progress | None) -> Stream:
        """The reader's half of a task, which can be cancelled from now on."""
        stream = Stream(task, on_progress, self._check_open)
        key, streams = id(stream), self._streams
        streams[key] = weakref.ref(stream, lambda _: streams.pop(key, None))
        return stream

    def _answered(self) -> None:
        if self._after_answer:
            self._worker.submit(self._do_what_waited)

    def _do_what_waited(self) -> None:
        while self._after_answer and not self._seating.sitters:
            work = self._after_answer.pop(0)
            try:
                work()
            except CfLocalError as error:
                _log.info("What was to be done after an answer failed: %s", error)

    def _in_seat(self, sources: tuple[Source, ...], seat: int) -> tuple[Source, ...]:
        return tuple(source.seats[seat] for source in sources) if seat else sources

    def _settings_of(self, names: Sequence[str]) -> Settings:
        """The settings for the sources of these names."""
        settings = self.settings
        only = settings.only if settings.only in names else None
        weights = settings.weights
        if weights is not None:
            weights = {name: weight for name, weight in weights.items() if name in names}
        return replace(settings, only=only, weights=weights)

    @property
    def _is_closed(self) -> bool:
        return self._closed or (self._whole is not None and self._whole._is_closed)

    def speakers(self, settings: Settings) -> tuple[Source, ...]:
        """The sources that take part. Raises InputError where the settings do not match them."""
        names = [source.info.name for source in self.sources]
        settings.weights_of(names)
        if settings.mode != "single":
            return self.sources
        if settings.only is not None and settings.only not in names:
            raise InputError(f"No source is named {settings.only!r}; there are {names}.")
        return (self.sources[names.index(settings.only) if settings.only else 0],)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError("This fusion has been closed.")
