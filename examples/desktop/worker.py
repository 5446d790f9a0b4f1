"""The models' thread: it loads a fusion, writes answers, and reports through a queue.

Everything slow happens here, so that the window never waits. Two rules make that safe: this thread
never touches the window, and it alone writes all answers of a fusion.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

import cf_local


@dataclass(frozen=True, slots=True)
class Busy:
    """The progress of a long step: "Loading the models", 0.4 of it done."""

    what: str
    share: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A fusion is ready; ``settings`` are its defaults."""

    names: tuple[str, ...]
    settings: cf_local.Settings


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The last task ended with an error; ``has_models`` says whether questions can be asked."""

    text: str
    has_models: bool


Report = Busy | Loaded | Notice | Failed | cf_local.Step | cf_local.Answer


class Worker:
    """Runs one task after the other in a thread of its own.

    Every ``load`` ends with a Loaded or a Failed in ``reports``, every ``ask`` with a
    ``cf_local.Answer`` or a Failed. The methods return at once; call them from one thread.
    """

    def __init__(self) -> None:
        self.reports: SimpleQueue[Report] = SimpleQueue()
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._fusion: cf_local.Fusion | None = None
        self._conversation = cf_local.Conversation()
        self._thread = threading.Thread(target=self._work, name="models")
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread is still running; it ends some time after ``close``."""
        return self._thread.is_alive()

    def load(self, fusion: str | None = None, models: Sequence[str] = ()) -> None:
        """Load a fusion by its name, or these models, instead of what is loaded."""
        self._start(partial(self._load, fusion, models))

    def ask(self, question: str, settings: cf_local.Settings) -> None:
        """Answer the next question of the conversation."""
        self._start(partial(self._ask, question, settings))

    def forget(self) -> None:
        """Start a new conversation."""
        self._start(self._forget)

    def stop(self) -> None:
        """End the running load or answer soon; the part of an answer that is written stays."""
        self._stopped.set()
        if self._fusion is not None:
            self._fusion.cancel()

    def close(self) -> None:
        """Stop, free the models' memory and end the thread; nothing can be asked any more."""
        self.stop()
        self._tasks.put(None)

    def _start(self, task: Callable[[], None]) -> None:
        self._stopped.clear()
        self._tasks.put(task)

    # ---- All above runs in the window's thread, all below in the models' thread

    def _work(self) -> None:
        try:
            while (task := self._tasks.get()) is not None:
                self._run(task)
        finally:
            self._unload()

    def _run(self, task: Callable[[], None]) -> None:
        """Run a task to its end. An error is reported, and the thread goes on."""
        try:
            task()
        except cf_local.CfLocalError as error:
            self._fail(str(error))
        except Exception as error:  # a dead thread would leave the window waiting
            logging.getLogger(__name__).exception("a task failed")
            self._fail(f"Unexpected {type(error).__name__}: {error}")

    def _load(self, fusion: str | None, models: Sequence[str]) -> None:
        self._unload()  # first, so that two sets of models need not fit in memory
        self._fusion = cf_local.load(
            fusion,
            models=models,
            is_cancelled=self._stopped.is_set,
            on_progress=lambda share: self._report_progress("Loading the models", share),
            on_notice=lambda text: self.reports.put(Notice(text)),
        )
        names = tuple(source.info.name for source in self._fusion.sources)
        self.reports.put(Loaded(names, self._fusion.settings))

    def _unload(self) -> None:
        fusion, self._fusion = self._fusion, None
        if fusion is not None:
            fusion.close()

    def _ask(self, question: str, settings: cf_local.Settings) -> None:
        if self._fusion is None:
            raise cf_local.InputError("No models are loaded. Load some first.")
        events = self._conversation.stream(
            self._fusion,
            question,
            settings,
            on_dropped=self._report_dropped,
            on_progress=lambda share: self._report_progress("Reading", share),
        )
        for event in events:
            self.reports.put(event)
            self._obey(self._fusion)

    def _forget(self) -> None:
        self._conversation = cf_local.Conversation()

    def _report_progress(self, what: str, share: float) -> None:
        self.reports.put(Busy(what, share))
        if self._fusion is not None:
            self._obey(self._fusion)

    def _obey(self, fusion: cf_local.Fusion) -> None:
        """Cancel again: a ``stop`` before the stream started found nothing to cancel."""
        if self._stopped.is_set():
            fusion.cancel()

    def _report_dropped(self, n_turns: int) -> None:
        self.reports.put(Notice(f"The {n_turns} oldest turns no longer fit and are not read."))

    def _fail(self, text: str) -> None:
        self.reports.put(Failed(text, has_models=self._fusion is not None))
