"""A conversation as plain data: its system text and its turns.

A turn is a question with its answer, so that no state of a conversation is malformed: a missing
answer is an empty one. Turns without an answer stay in the record but not in the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cf_local.errors import InputError
from cf_local.types import FinishReason, Message

State = Literal["writing", "stopped", "done"]
STATES: tuple[str, ...] = get_args(State)


def state_after(reason: FinishReason) -> State:
    """The state of an answer that has ended: "stopped" where it was cut, and so can go on."""
    return "done" if reason in ("stop", "stuck") else "stopped"


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A question and its answer; ``thinking`` is what a reasoning model wrote before it.

    ``state``: the answer is "writing" (or was, when its process was killed), "stopped" (by the user
    or a limit) or "done".
    ``asked_at`` is UTC in ISO 8601, "" if unknown.
    """

    question: str
    answer: str = ""
    thinking: str = ""
    state: State = "done"
    asked_at: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The system text and the turns. Immutable: each change returns a new transcript."""

    system: str | None = None
    turns: tuple[ChatTurn, ...] = ()

    def messages(self) -> list[Message]:
        """The messages for a prompt, without thinking and without unanswered questions."""
        messages = [Message("system", self.system)] if self.system else []
        for turn in self.turns:
            if turn.answer:
                messages += [Message("user", turn.question), Message("assistant", turn.answer)]
        return messages

    def with_turn(self, turn: ChatTurn) -> "Transcript":
        """This transcript with one more turn."""
        return replace(self, turns=(*self.turns, turn))

    def without_last(self) -> "Transcript":
        """This transcript without its last turn."""
        return replace(self, turns=self.turns[:-1])

    @property
    def title(self) -> str:
        """The first question on one line of at most 60 characters; "" without turns."""
        first = " ".join(self.turns[0].question.split()) if self.turns else ""
        return first if len(first) <= 60 else f"{first[:59]}…"


def from_messages(messages: Sequence[Message]) -> Transcript:
    """The transcript of messages: system text first, then alternating questions and answers.

    Consecutive messages of one role are joined. The last question needs no answer. Raises
    InputError that names the first message (from 1) out of place.
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
            where = "comes before any question" if role == "assistant" else "is not allowed here"
            raise InputError(f"Message {number}, of role {role!r}, {where}.")
        before = role
    return Transcript("\n\n".join(system) or None, tuple(turns))
