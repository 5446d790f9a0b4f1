"""A conversation: its turns, and which of them fit the contexts of the sources."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, Self

from cf_local.errors import CfLocalError, ContextError, InputError
from cf_local.progress import AsyncClosing, Progress
from cf_local.runtime.stream import Stream
from cf_local.settings import Settings
from cf_local.structured.tools import ToolCall
from cf_local.types import Chat, Event, Message, Step

RESERVE_TOKENS = 128
"""Context that older turns must leave for the answer."""

_REMINDER = "\n\nWith this result, answer in one sentence: {}"
_LONGEST_REMINDER = 1000  # characters of a question that is asked again

OnDropped = Callable[[int], None]


class Speaker(Protocol):
    """What answers a conversation: a Fusion."""

    @property
    def settings(self) -> Settings:
        """The default settings of its answers."""

    def stream(
        self,
        prompt: Chat,
        settings: Settings | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> Stream:
        """Write an answer."""


class Conversation:
    """The turns of one chat. A turn that fails changes nothing; one that is stopped keeps its text.

    A conversation answers one question at a time. Any number of conversations, in any threads, may
    share a fusion.
    """

    def __init__(
        self,
        system: str | None = None,
        *,
        thinks: bool | None = None,
        speaker: Speaker | None = None,
    ) -> None:
        """Start with ``system`` text; ``thinks`` is that of ``types.Chat``.

        ``speaker`` is the fusion that answers ``ask``.
        """
        self.thinks = thinks
        self.messages: list[Message] = [Message("system", system)] if system else []
        self._speaker = speaker
        self._busy = threading.Lock()

    def ask(
        self,
        question: str,
        settings: Settings | None = None,
        *,
        on_dropped: OnDropped = lambda _n_turns: None,
        on_progress: Progress | None = None,
    ) -> "Turn":
        """Ask; question and answer are recorded once the answer has ended or was stopped.

        When the conversation outgrows the context, its oldest turns are left out of the prompt, but
        never system text or this question; ``on_dropped`` receives their number. ``on_progress``
        receives the evaluated share of the prompt (0 to 1), in the thread that reads. Reading the
        answer raises ContextError when even the question alone does not fit, and CfLocalError while
        an earlier answer is still being read.
        """
        if self._speaker is None:
            raise InputError(
                "This conversation has no fusion. Start it with fusion.conversation()."
            )
        return Turn(self, self._speaker, question, settings, on_dropped, on_progress)

    def stream(
        self,
        fusion: Speaker,
        question: str,
        settings: Settings | None = None,
        *,
        prefix: str = "",
        on_dropped: OnDropped = lambda _n_turns: None,
        on_progress: Progress | None = None,
    ) -> Iterator[Event]:
        """Like ``ask``, but answered by any ``fusion``; the answer continues ``prefix``."""
        with Turn(self, fusion, question, settings, on_dropped, on_progress, prefix) as turn:
            yield from turn


class Turn(AsyncClosing):
    """A question of a conversation and the events of its answer: ``for`` or ``async for``.

    ``cancel`` from any thread ends the answer; ``close``, and dropping the turn, end the reading.
    The text received until then stays in the conversation.
    """

    def __init__(
        self,
        conversation: Conversation,
        speaker: Speaker,
        question: str,
        settings: Settings | None,
        on_dropped: OnDropped,
        on_progress: Progress | None,
        prefix: str = "",
    ) -> None:
        self._conversation, self._speaker, self._question = conversation, speaker, question
        self._prefix = prefix
        self._settings, self._on_dropped = settings or speaker.settings, on_dropped
        self._on_progress = on_progress
        self._asked: list[Message] = []
        self._n_dropped = 0
        self._shown = ""
        self._has_events = self._is_over = self._is_cancelled = False
        self._stream: Stream | None = None

    def cancel(self) -> None:
        """End the answer; its reader gets what was written. Any thread may call it."""
        self._is_cancelled = True
        if self._stream is not None:
            self._stream.cancel()

    def close(self) -> None:
        """Stop reading. May be called twice."""
        self._end(keeps=True)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while True:
            stream = self._open_stream()
            if stream is None:
                raise StopIteration
            try:
                return self._noted(next(stream))
            except BaseException as error:
                if not self._goes_on(error):
                    raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            stream = self._open_stream()
            if stream is None:
                raise StopAsyncIteration
            try:
                return self._noted(await anext(stream))
            except BaseException as error:
                if not self._goes_on(error):
                    raise

    def __del__(self) -> None:
        self.close()

    def _open_stream(self) -> Stream | None:
        """The stream to read; None when the turn is over."""
        if self._is_over:
            return None
        if self._stream is None:
            if not self._conversation._busy.acquire(blocking=False):
                self._is_over = True
                raise CfLocalError(
                    "This conversation is still being answered. Read that answer to its end or "
                    "close it first, or start another conversation."
                )
            self._asked = [*self._conversation.messages, Message("user", self._question)]
            self._stream = self._ask()
        return self._stream

    def _ask(self) -> Stream:
        """Ask with as many turns as may fit; each failure leaves out one more."""
        kept = without_oldest(self._asked, self._n_dropped)
        reserve = 1 if self._is_shortest else min(RESERVE_TOKENS, self._settings.max_tokens)
        settings = replace(self._settings, reserve_tokens=reserve)
        if self._prefix:
            kept.append(Message("assistant", self._prefix))
        prompt = Chat(tuple(kept), self._conversation.thinks)
        stream = self._speaker.stream(prompt, settings, on_progress=self._on_progress)
        if self._is_cancelled:
            stream.cancel()
        return stream

    @property
    def _is_shortest(self) -> bool:
        fewer = without_oldest(self._asked, self._n_dropped + 1)
        return fewer == without_oldest(self._asked, self._n_dropped)

    def _noted(self, event: Event) -> Event:
        if not self._has_events and self._n_dropped:
            self._on_dropped(self._n_dropped)
        self._has_events = True
        if isinstance(event, Step):
            self._shown = event.text if event.whole else self._shown + event.text
        return event

    def _goes_on(self, error: BaseException) -> bool:
        """Whether to try again with fewer turns; otherwise the turn is over."""
        if isinstance(error, ContextError) and not self._has_events and not self._is_shortest:
            self._n_dropped += 1
            self._stream = self._ask()
            return True
        is_end = isinstance(error, StopIteration | StopAsyncIteration)
        # A turn that failed leaves no trace; Ctrl-C and a cancelled task are not failures.
        self._end(keeps=is_end or not isinstance(error, Exception))
        return False

    def _end(self, *, keeps: bool) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._stream is not None:
            self._stream.close()
            if self._shown and keeps:
                answer = Message("assistant", self._prefix + self._shown)
                self._conversation.messages = [*self._asked, answer]
            self._conversation._busy.release()


def without_oldest(messages: Sequence[Message], n_turns: int) -> list[Message]:
    """``messages`` without the first ``n_turns`` exchanges; system text and the last turn stay."""
    system = [m for m in messages if m.role == "system"]
    turns = [m for m in messages if m.role != "system"]
    while n_turns > 0 and len(turns) > 1:
        turns = turns[1:]
        while len(turns) > 1 and turns[0].role != "user":
            turns = turns[1:]
        n_turns -= 1
    return [*system, *turns]


def without_repeated_calls(messages: Sequence[Message]) -> list[Message] | None:
    """``messages`` for an answer without calls, if they end with calls that only repeat others.

    That is the same calls twice in a row, with the same results both times. Small models imitate
    what they have called until something ends it. The repetition is left out, and the question is
    asked again after the result, without which they still write the call, as text. None if there
    is no repetition.
    """
    kept = list(messages)
    last = _calls_at_end(kept)
    while last and (before := _calls_at_end(kept[: -len(last)])) and _is_same(before, last):
        del kept[-len(last) :]
    question = next((turn.content for turn in reversed(kept) if turn.role == "user"), "")
    if len(kept) == len(messages):
        return None
    if 0 < len(question) <= _LONGEST_REMINDER:
        kept[-1] = replace(kept[-1], content=kept[-1].content + _REMINDER.format(question))
    return kept


def _calls_at_end(messages: Sequence[Message]) -> Sequence[Message]:
    """The last turn with calls and their results, if nothing follows these; else nothing."""
    at = next((i for i in reversed(range(len(messages))) if messages[i].role != "tool"), -1)
    return messages[at:] if at >= 0 and messages[at].tool_calls and messages[at + 1 :] else ()


def _is_same(first: Sequence[Message], second: Sequence[Message]) -> bool:
    """Whether two turns make the same calls, and these had the same results."""

    def known(turns: Sequence[Message]) -> list[object]:
        calls = [(call.name, _parsed(call)) for call in turns[0].tool_calls]
        return [calls, *(turn.content for turn in turns[1:])]

    return known(first) == known(second)


def _parsed(call: ToolCall) -> object:
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments
