"""A set of loaded sources that answer together: the public engine.

It owns the sources and says who may speak; ``writer`` writes the answer. It yields typed events and
prints nothing; everything else renders them.
"""

import copy
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from cf_local.costs import PassCosts
from cf_local.crew import Crew
from cf_local.errors import Cancelled, CfLocalError, ClosedError, InputError
from cf_local.source import Progress, Source
from cf_local.speculation import Speculator
from cf_local.types import Answer, Event, Prompt, Settings
from cf_local.writer import Writer

_CLOSE_TIMEOUT_S = 30.0


class _Turn:
    """Who writes with the sources: a lock, and the thread that holds it."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.thread: int | None = None


class Fusion:
    """Loaded sources that answer together. One answer at a time; ``cancel`` from any thread."""

    def __init__(
        self,
        sources: Sequence[Source],
        settings: Settings | None = None,
        *,
        overlap: bool = False,
        costs: Mapping[str, PassCosts] | None = None,
    ) -> None:
        """Take over ``sources``, closed with the fusion; ``settings`` are the defaults of answers.

        With ``overlap`` sources work at the same time, where they do not wait for each other;
        ``costs`` of their passes spare speculation to learn them (see ``placement``).
        Raises InputError when there is no source, two share a name, or the weights do not match.
        """
        self.sources = tuple(sources)
        self.settings = settings or Settings()
        names = [source.info.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise InputError(f"A fusion needs sources with different names, not {names}.")
        self.speakers(self.settings)
        self._cancels: weakref.WeakSet[threading.Event] = weakref.WeakSet()  # one per stream
        self._turn = _Turn()
        self._closed = False
        self._whole: Fusion | None = None  # for a part: what it is a part of
        self._crew = Crew(len(self.sources) if overlap else 0)
        self.costs = dict(costs or {})
        """What passes cost, by the names of the sources, as far as it was measured."""
        self.speculator = Speculator(self.costs)
        """What speculation has learnt; it outlives an answer and changes no text."""

    def stream(
        self,
        prompt: Prompt,
        settings: Settings | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> Iterator[Event]:
        """Write an answer: a Step for each fused segment, then one Answer.

        ``on_progress`` hears the evaluated share of the prompt (0 to 1). After ``cancel`` the
        Answer holds what was written. Raises InputError, ContextError, ClosedError.
        """
        cancelled = threading.Event()
        self._cancels.add(cancelled)  # before the first step: it can be cancelled from now on
        return self._write(prompt, settings or self.settings, cancelled, on_progress)

    def answer(self, prompt: Prompt, settings: Settings | None = None) -> Answer:
        """The answer of ``stream`` without its steps."""
        *_, last = self.stream(prompt, settings)
        assert isinstance(last, Answer)
        return last

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
        part.speculator = Speculator(self.costs)
        part._whole = self
        return part

    def cancel(self) -> None:
        """End the streams there are as soon as the running forward pass allows."""
        for cancelled in list(self._cancels):
            cancelled.set()

    def close(self) -> None:
        """Cancel what is written, close the sources and give the memory back; twice does no harm.

        Raises CfLocalError when another thread holds on to an unfinished stream.
        """
        if self._whole is not None:
            self._closed = True
            return
        self.cancel()
        # A stream that this very thread has left unfinished would never end while we wait for it.
        must_wait = self._turn.thread != threading.get_ident()
        if must_wait and not self._turn.busy.acquire(timeout=_CLOSE_TIMEOUT_S):
            raise CfLocalError("An answer is still being read; exhaust or close its stream first.")
        try:
            self._closed = True
            self._crew.close()
            for source in self.sources:
                source.close()
        finally:
            if must_wait:
                self._turn.busy.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(
        self,
        prompt: Prompt,
        settings: Settings,
        cancelled: threading.Event,
        on_progress: Progress | None,
    ) -> Iterator[Event]:
        with self._exclusive():
            writer = Writer(
                self.speakers(settings), settings, cancelled.is_set, self.speculator, self._crew
            )
            try:
                writer.begin(prompt, on_progress)
                yield from writer.write()
            except Cancelled:
                writer.finish_reason = "cancelled"
            finally:
                writer.rollback()
            yield writer.answer()

    def _settings_of(self, names: Sequence[str]) -> Settings:
        """The settings for the sources of these names."""
        settings = self.settings
        single = settings.single if settings.single in names else None
        if settings.weights is None:
            return replace(settings, single=single)
        all_names = [source.info.name for source in self.sources]
        weights = dict(zip(all_names, settings.weights, strict=True))
        return replace(settings, single=single, weights=tuple(weights[name] for name in names))

    @property
    def _is_closed(self) -> bool:
        return self._closed or (self._whole is not None and self._whole._is_closed)

    def speakers(self, settings: Settings) -> tuple[Source, ...]:
        """The sources that take part. Raises InputError where the settings do not match them."""
        names = [source.info.name for source in self.sources]
        if settings.weights is not None and len(settings.weights) != len(names):
            raise InputError(f"{len(settings.weights)} weights for {len(names)} sources.")
        if settings.mode != "single":
            return self.sources
        if settings.single is not None and settings.single not in names:
            raise InputError(f"No source is named {settings.single!r}; there are {names}.")
        return (self.sources[names.index(settings.single) if settings.single else 0],)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._is_closed:
            raise ClosedError("This fusion has been closed.")
        if not self._turn.busy.acquire(blocking=False):
            raise CfLocalError(
                "This fusion is already writing an answer; wait for it or cancel it."
            )
        try:
            self._turn.thread = threading.get_ident()
            yield
        finally:
            self._turn.thread = None
            self._turn.busy.release()
