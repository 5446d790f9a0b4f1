"""A set of loaded sources that answer together: the public engine.

It owns the sources and decides which take part; ``writer`` writes the answer, ``stream`` delivers
it, and ``worker`` is the one thread that computes. It yields typed events and prints nothing; other
code renders them.
"""

import copy
import logging
import threading
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from cf_local.errors import Cancelled, CfLocalError, ClosedError, InputError
from cf_local.method.overlap import Overlap
from cf_local.method.session import Source
from cf_local.method.thinking import closing_of, opening_of
from cf_local.progress import Closing, Progress
from cf_local.runtime.conversation import Conversation, without_repeated_calls
from cf_local.runtime.slots import Slots
from cf_local.runtime.stream import AnswerJob, ExclusiveJob, Job, Stream
from cf_local.runtime.worker import Worker
from cf_local.settings import Settings
from cf_local.structured.tool_grammar import talk_format, tools_format
from cf_local.types import FUSED, Answer, Chat, Prompt, SourceInfo, Tokens, is_unicode, text_of


class _Named(Protocol):
    @property
    def info(self) -> SourceInfo:
        """The model that it is."""


T = TypeVar("T")
S = TypeVar("S", bound=_Named)
_log = logging.getLogger(__name__)


def _check_text(*texts: str) -> None:
    if not all(map(is_unicode, texts)):
        raise InputError(
            "A text contains half of a character (a lone surrogate). It may come from bytes that "
            "are not UTF-8."
        )


def speakers_of(sources: tuple[S, ...], settings: Settings) -> tuple[S, ...]:
    """Those of the sources that take part. Raises InputError if the settings do not match them."""
    names = [source.info.name for source in sources]
    settings.weights_of([source.info for source in sources])
    if settings.mode != "single":
        return sources
    if settings.only is not None and settings.only not in names:
        raise InputError(
            f"No source is named {settings.only!r}; the sources are {', '.join(names)}."
        )
    return (sources[names.index(settings.only) if settings.only else 0],)


def _without_prefix(prompt: Chat) -> tuple[Chat, str]:
    """A conversation without a last turn of the assistant, and the text of that turn."""
    written = ""
    if prompt.messages and prompt.messages[-1].role == "assistant":
        *turns, last = prompt.messages
        prompt, written = replace(prompt, messages=tuple(turns)), last.content
    if not prompt.messages:
        raise InputError("The conversation has no question. Add a turn of the user.")
    return prompt, written


def _settings_to_continue(settings: Settings) -> Settings:
    """The settings of an answer that has already started. Raises InputError."""
    if settings.response_format:
        raise InputError(
            "An answer in a required form, or with tools, cannot continue a text. Leave out the "
            "form and the tools, or the last turn of the assistant."
        )
    if settings.mode == "cool+r":
        raise InputError(
            'Mode "cool+r" cannot continue an answer that has already started; choose "cool" or '
            '"rerank".'
        )
    # Speculation records the response from its start, and does not see a prefix.
    return replace(settings, speculation=False)


class Fusion(Closing):
    """Loaded sources that answer together. All methods may be called from any thread.

    It writes as many answers at once as the sources have sessions, taking turns segment by segment;
    further answers wait in order. One thread computes, whichever thread asks.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        settings: Settings | None = None,
        *,
        overlap: bool = False,
        worker: Worker | None = None,
    ) -> None:
        """Own ``sources``, closed with the fusion; ``settings`` are the defaults of answers.

        With ``overlap`` sources work at the same time where they do not wait for each other; those
        in other processes always do.
        ``worker`` is the thread in which they compute. Raises InputError when there is no source,
        two share a name, one is named FUSED, or the weights do not match.
        """
        self.sources = tuple(sources)
        self.settings = settings or Settings()
        names = [source.info.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise InputError(f"A fusion needs sources with different names, not {names}.")
        if FUSED in names:
            raise InputError(f"A source cannot be named {FUSED!r}: it marks the fused answer.")
        self.speakers(self.settings)
        self.n_conversations = min(len(source.sessions) for source in self.sources)
        """The most answers written at once, and the most conversations in the caches."""
        self._worker = worker or Worker()
        self._worker.lends_turns = all(source.info.n_threads <= 1 for source in self.sources)
        self._slots = Slots(self.n_conversations)
        # Signal handlers read it without a lock: only atomic operations are safe.
        self._streams: dict[int, weakref.ref[Stream]] = {}
        self._closed = False
        self._after_answer: list[Callable[[], None]] = []
        self._whole: Fusion | None = None  # for a part: the fusion that it belongs to
        self._overlap = Overlap.of(self.sources, overlap=overlap)

    def stream(
        self,
        prompt: Prompt,
        settings: Settings | None = None,
        *,
        prefix: str = "",
        on_progress: Progress | None = None,
    ) -> Stream:
        """Write an answer: a Step for each fused segment, then one Answer.

        Read the stream with ``for`` or ``async for``. Nothing is written before the first event is
        requested, and no more than is requested. If all slots are taken, it waits for one.
        ``prefix`` is the text the answer already has; the steps continue it, without speculation.
        A last turn of the assistant in a Chat is such text, too.
        ``on_progress`` receives the evaluated share of the prompt (0 to 1), in the reading thread.
        After ``cancel``, of this stream or of the fusion, the Answer holds what was written.
        Reading raises InputError, ContextError, ClosedError, and CfLocalError where it would wait
        for a stream that the same reader has left unfinished.
        """
        settings = settings or self.settings
        _check_text(text_of(prompt), prefix, *settings.stop)
        if isinstance(prompt, Chat):
            prompt, settings = self._with_tools(prompt, settings)
            prompt, written = _without_prefix(prompt)
            prefix = written + prefix
        if isinstance(prompt, Tokens) and len(self.speakers(settings)) > 1:
            raise InputError(
                "A prompt of tokens is for one source: each has a vocabulary of its own. Send text,"
                " or ask a source alone."
            )
        if prefix:
            settings = _settings_to_continue(settings)
        job = AnswerJob(
            self._worker,
            self._slots,
            prompt,
            settings,
            prefix=prefix.encode(),
            sources=lambda: self.speakers(settings),
            overlap=self._overlap,
            answered=self._answered,
        )
        return self._streamed(job, on_progress)

    def answer(self, prompt: Prompt, settings: Settings | None = None) -> Answer:
        """The answer of ``stream`` without its steps."""
        *_, last = self.stream(prompt, settings)
        assert isinstance(last, Answer)
        return last

    def n_prompt_tokens(self, prompt: Prompt, settings: Settings | None = None) -> dict[str, int]:
        """What ``Answer.prompt_tokens`` would be, without a pass. Raises InputError."""
        settings = settings or self.settings
        _check_text(text_of(prompt))
        if isinstance(prompt, Chat):
            prompt, settings = self._with_tools(prompt, settings)
            prompt, _ = _without_prefix(prompt)
        sources = self.speakers(settings)

        def count() -> dict[str, int]:
            return {source.info.name: source.n_prompt_tokens(prompt) for source in sources}

        self._check_open()
        return self._worker.call(count)

    def after_answer(self, work: Callable[[], None]) -> None:
        """Do ``work`` once, after an answer and while no other is written, in the same thread.

        A failure is logged; closing the fusion waits for the work.
        """
        self._after_answer.append(work)

    def conversation(self, system: str | None = None) -> Conversation:
        """A new conversation, with ``system`` as instructions for all sources."""
        return Conversation(system, speaker=self)

    def alone(self, work: Callable[[], T]) -> T:
        """Run ``work`` with the ``sources`` while no answer uses them; returns its result.

        It runs in the thread that computes, once answers in the first slot have ended.
        """

        def at_once() -> Generator[None, None, T]:
            yield from ()
            return work()

        return self.in_turns(at_once)

    def in_turns(self, work: Callable[[], Generator[None, None, T]]) -> T:
        """As ``alone``; where ``work`` yields, answers in other slots take a turn."""
        found: list[T] = []

        def parts() -> Generator[None]:
            found.append((yield from work()))

        if self._worker.is_here:
            for _ in parts():
                pass
            return found[0]
        job = ExclusiveJob(self._worker, self._slots, parts)
        for _ in self._streamed(job, None):
            pass
        if not job.is_done:
            raise Cancelled("Cancelled.")
        return found[0]

    def of(self, names: Sequence[str], settings: Settings | None = None) -> "Fusion":
        """Some of the sources, in the order of ``names``, as their own fusion: no second load.

        This fusion still owns the sources: all parts take turns with it, ``cancel`` of one ends the
        answers of all, and closing a part closes no source. ``settings`` are its defaults; without
        them it has those of this fusion, with the weights of the named sources. Raises InputError
        for an unknown name, or one given twice.
        """
        known = {source.info.name: source for source in self.sources}
        if not names or len(set(names)) < len(names) or not known.keys() >= set(names):
            raise InputError(f"Name some of {list(known)}, each once; got {list(names)}.")
        part = copy.copy(self)
        part.sources = tuple(known[name] for name in names)
        part.settings = settings or self._settings_of(names)
        part.speakers(part.settings)
        part._whole = self
        return part

    def cancel(self) -> None:
        """End all streams as soon as the running forward pass allows."""
        for known in list(self._streams.values()):
            stream = known()
            if stream is not None:
                stream.cancel()

    def close(self) -> None:
        """Cancel all answers, close the sources and free the memory. May be called twice.

        Waits for the running forward pass, not for readers: they get the answer as far as it was
        written. Only a stream that this thread has left unfinished raises ClosedError when it is
        read further.
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
        for job in self._slots.jobs:
            if isinstance(job, Job):
                job.conclude(closer)
        self._overlap.close()
        for source in self.sources:
            source.close()

    def _with_tools(self, prompt: Chat, settings: Settings) -> tuple[Chat, Settings]:
        """The same with the form of calls, and the format that allows them. Raises InputError."""
        if prompt.messages and prompt.messages[-1].tool_calls:
            raise InputError("The last turn calls tools. Add a turn with the result of each call.")
        has_calls = any(turn.tool_calls for turn in prompt.messages)
        if not prompt.tools and not has_calls:
            return prompt, settings
        infos = [source.info for source in self.speakers(settings)]
        written = prompt.tool_form or settings.tool_form_of(infos)
        prompt, choice, shorter = replace(prompt, tool_form=written), prompt.tool_choice, None
        if choice == "auto" and settings.repetition_guard:
            shorter = without_repeated_calls(prompt.messages)
        if shorter is not None:
            prompt, choice = replace(prompt, messages=tuple(shorter)), "none"
        if not prompt.tools or choice == "none":
            is_free = settings.response_format is None
            if has_calls and is_free and prompt.messages[-1].role != "assistant":
                form = talk_format(written, is_plain=shorter is not None)
                settings = replace(settings, response_format=form)
            return replace(prompt, tools=()), settings
        form = tools_format(
            prompt.tools,
            written,
            choice=choice,
            parallel=prompt.parallel_tool_calls,
            closing=closing_of(opening_of(prompt, infos)),
            talk=settings.response_format,
        )
        return prompt, replace(settings, response_format=form)

    def _streamed(self, job: Job, on_progress: Progress | None) -> Stream:
        """The events of a job, which ``cancel`` can reach from now on."""
        stream = Stream(job, on_progress, self._check_open)
        key, streams = id(stream), self._streams
        streams[key] = weakref.ref(stream, lambda _: streams.pop(key, None))
        return stream

    def _answered(self) -> None:
        if self._after_answer:
            self._worker.submit(self._do_what_waited)

    def _do_what_waited(self) -> None:
        while self._after_answer and not self._slots.jobs:
            work = self._after_answer.pop(0)
            try:
                work()
            except CfLocalError as error:
                _log.info("Work after an answer failed: %s", error)

    def _settings_of(self, names: Sequence[str]) -> Settings:
        """The settings for the sources of these names."""
        settings = self.settings
        only = settings.only if settings.only in names else None
        weights = settings.weights
        if isinstance(weights, Mapping):
            weights = {name: weight for name, weight in weights.items() if name in names}
        return replace(settings, only=only, weights=weights)

    @property
    def _is_closed(self) -> bool:
        return self._closed or (self._whole is not None and self._whole._is_closed)

    def speakers(self, settings: Settings) -> tuple[Source, ...]:
        """The sources that take part. Raises InputError if the settings do not match them."""
        return speakers_of(self.sources, settings)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError("This fusion has been closed.")
