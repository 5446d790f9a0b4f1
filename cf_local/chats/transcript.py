"""A conversation as plain data: its system text and its turns.

A turn is a question with what was answered, so that no state of a conversation is malformed: an
answer that never came is an empty one. Turns without an answer stay in the record and are left out
of the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cf_local.errors import InputError
from cf_local.types import Message

State = Literal["writing", "stopped", "done"]
STATES: tuple[str, ...] = get_args(State)


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A question and its answer; ``thinking`` is what a reasoning model thought before it.

    ``state``: the answer is "writing" (or was, when its process was killed), was "stopped", or is
    "done". ``asked_at`` is UTC in ISO 8601, "" when unknown.
    """

    question: str
    answer: str = ""
    thinking: str = ""
    state: State = "done"
    asked_at: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """System text and turns; every change makes a new transcript."""

    system: str | None = None
    turns: tuple[ChatTurn, ...] = ()

    def messages(self) -> list[Message]:
        """What the models are told of it: no thinking, no question that was not answered."""
        told = [Message("system", self.system)] if self.system else []
        for turn in self.turns:
            if turn.answer:
                told += [Message("user", turn.question), Message("assistant", turn.answer)]
        return told

    def with_turn(self, turn: ChatTurn) -> "Transcript":
        """This with one turn more."""
        return replace(self, turns=(*self.turns, turn))

    def without_last(self) -> "Transcript":
        """This without its last turn."""
        return replace(self, turns=self.turns[:-1])

    @property
    def title(self) -> str:
        """The first question, shortened to one line."""
        first = " ".join(self.turns[0].question.split()) if self.turns else ""
        return first if len(first) <= 60 else f"{first[:59]}…"


def from_messages(messages: Sequence[Message]) -> Transcript:
    """The transcript of messages: system text in front, then questions and answers in turn.

    Neighbouring messages of one role become one. Raises InputError that names the first message
    (from 1) that does not fit; the last question may lack its answer.
    """
    system: list[str] = []
    turns: list[ChatTurn] = []
    before = "system"
    for number, message in enumerate(messages, start=1):
        role, content = message.role, message.content
        if role == "system" and before == "system":
            system.append(content)
        elif role == "user" and before == "user":
            turns[-1] = replace(turns[-1], question=f"{turns[-1].question}\n\n{content}")
        elif role == "user":
            turns.append(ChatTurn(content))
        elif role == "assistant" and turns:
            answer = f"{turns[-1].answer}\n\n{content}" if before == "assistant" else content
            turns[-1] = replace(turns[-1], answer=answer)
        else:
            where = "comes before any question" if role == "assistant" else "has no place here"
            raise InputError(f"Message {number}, of role {role!r}, {where}.")
        before = role
    return Transcript("\n\n".join(system) or None, tuple(turns))
