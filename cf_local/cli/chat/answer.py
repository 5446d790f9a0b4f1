"""One answer of a chat: shown and saved while it streams."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cf_local.chats.autosave import Autosave
from cf_local.chats.transcript import ChatTurn, State, Transcript, state_after
from cf_local.cli.chat.engine import Engine
from cf_local.cli.chat.view import AnswerView, View
from cf_local.cli.winners import statistics
from cf_local.errors import CfLocalError
from cf_local.method.thinking import AnswerSplitter
from cf_local.runtime.conversation import Conversation, without_oldest
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.trace import Trace, record
from cf_local.types import Answer, Chat, Message, Prompt, RawText, Step

_CUT: Mapping[str, str] = {
    "length": "it reached max_tokens or the end of a context",
    "repetition": "it repeats itself (/set repetition_guard off allows that)",
}


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """What is known about an answer of this chat; ``answer`` is None if it failed."""

    steps: tuple[Step, ...]
    answer: Answer | None
    names: tuple[str, ...]
    fusion: Fusion
    prompt: Chat
    settings: Settings
    asked_at: str
    first_word_s: float
    n_dropped: int
    n_answer_tokens: Mapping[str, int]
    """Tokens of the answer that are in each source's context, in its own vocabulary."""

    def trace(self) -> Trace:
        """The trace of the answer; computed on demand, as it reads large model files."""
        date, parts = self.asked_at, (self.prompt, self.settings, self.steps, self.answer)
        return record(self.fusion, *parts, date=date)

    @property
    def statistics(self) -> str:
        """Speed, agreement and wins, on one line."""
        if self.answer is None or not self.steps:
            return "Nothing was written."
        return statistics(self.steps, self.answer, self.first_word_s)


class AnswerWriter:
    """Writes the answer to the last question of a conversation; each object writes one answer."""

    def __init__(
        self, engine: Engine, view: View, autosave: Autosave, thinks: bool | None, turn: ChatTurn
    ) -> None:
        """``turn`` gets the answer; one that it already has is continued."""
        self._turn, self._prefix = turn, turn.answer
        self._engine = engine
        self._view = view
        self._autosave = autosave
        self._thinks = thinks
        infos = [source.info for source in engine.fusion.speakers(engine.settings)]
        # What is continued has its thinking apart.
        prompt: Prompt = RawText(self._prefix) if self._prefix else Chat((), thinks)
        self._splitter = AnswerSplitter(prompt, infos)
        self._steps: list[Step] = []
        self._answer: Answer | None = None
        self._text = ""
        self._n_dropped = 0
        self._n_answer_tokens: dict[str, int] = {}
        self._start_s = time.perf_counter()
        self._first_word_s = math.nan

    def write(
        self, base: Transcript, former: ChatTurn | None = None
    ) -> tuple[Transcript, AnswerRecord]:
        """Answer the turn after ``base``; returns the conversation with it, and the record.

        Ctrl-C and errors keep the part of the answer written so far; an error is shown. If an
        error comes before any text, the question is dropped. ``former`` is the turn that this one
        replaces; it stays if there is no text. The returned conversation is always the saved one.
        """
        if former is None:
            self._autosave.save(base.with_turn(self._turn))
        settings = self._engine.settings
        streams = settings.is_final_as_written
        shown = AnswerView(self._view, self._engine.names, self._splitter, streams=streams)
        has_failed = False
        self._view.hold()
        try:
            self._stream(base, settings, shown)
        except CfLocalError as error:
            has_failed = True
            self._view.error(error)
        finally:  # even if the terminal is gone
            reason = self._answer.finish_reason if self._answer is not None else "cancelled"
            transcript = base.with_turn(self._answered(state_after(reason)))
            if not self._text and former is not None:
                transcript = base.with_turn(former)
            elif not self._text and has_failed:
                transcript = base
            self._autosave.save(transcript)
        if self._text or not has_failed:
            shown.end(self._steps, self._text, is_stopped=not self._has_ended)
        for notice in self._answer.notices if self._answer is not None else ():
            self._view.note(notice)
        if reason in _CUT:
            self._view.note(f"The answer is cut: {_CUT[reason]}. /continue goes on.")
        self._view.release()
        return transcript, self._written(base, settings)

    def _stream(self, base: Transcript, settings: Settings, shown: AnswerView) -> None:
        conversation = Conversation(thinks=self._thinks)
        conversation.messages = base.messages()
        events = conversation.stream(
            self._engine.fusion,
            self._turn.question,
            settings,
            prefix=self._prefix,
            on_dropped=self._note_dropped,
            on_progress=self._stoppable(shown.reading),
        )
        for event in events:
            self._stop_if_asked()
            if isinstance(event, Answer):
                self._answer = event
                self._n_answer_tokens = {
                    source.info.name: source.sessions[0].n_response_tokens
                    for source in self._engine.fusion.speakers(settings)
                }
                continue
            if not self._steps:
                self._first_word_s = time.perf_counter() - self._start_s
            self._steps.append(event)
            self._text = event.text if event.whole else self._text + event.text
            shown.step(event)
            self._autosave.save_soon(base.with_turn(self._answered("writing")))

    @property
    def _has_ended(self) -> bool:
        return self._answer is not None and self._answer.finish_reason != "cancelled"

    def _answered(self, state: State) -> ChatTurn:
        if self._prefix:
            return replace(self._turn, answer=self._prefix + self._text, state=state)
        thinking, answer = self._splitter.split(self._text, ended=self._has_ended)
        return replace(self._turn, thinking=thinking, answer=answer, state=state)

    def _stoppable(self, on_progress: Callable[[float], None]) -> Callable[[float], None]:
        def progress(share: float) -> None:
            self._stop_if_asked()
            on_progress(share)

        return progress

    def _stop_if_asked(self) -> None:
        """Cancel if Ctrl-C was pressed, even before the stream started."""
        if self._engine.interrupt.is_set():
            self._engine.fusion.cancel()

    def _note_dropped(self, n_turns: int) -> None:
        self._n_dropped = n_turns
        turns = "turn no longer fits" if n_turns == 1 else f"{n_turns} turns no longer fit"
        self._view.note(f"The oldest {turns} the context; the models see only what came after.")

    def _written(self, base: Transcript, settings: Settings) -> AnswerRecord:
        asked = [*base.messages(), Message("user", self._turn.question)]
        prompt = Chat(tuple(without_oldest(asked, self._n_dropped)), self._thinks)
        return AnswerRecord(
            tuple(self._steps),
            self._answer,
            tuple(self._engine.names),
            self._engine.fusion,
            prompt,
            settings,
            self._turn.asked_at,
            self._first_word_s,
            self._n_dropped,
            self._n_answer_tokens,
        )
