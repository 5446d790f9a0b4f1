"""What is asked and how an answer is judged: Item, and Task, which users can implement."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cf_local.errors import InputError
from cf_local.settings import Settings
from cf_local.types import Chat, Message, Prompt, RawText, text_of

Expected = str | tuple[str, ...]
"""The right answer as text, or all accepted ones."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a task; the report also lists accuracy by ``group``."""

    id: str
    prompt: Prompt
    answer: Expected
    group: str = ""

    @property
    def accepted(self) -> tuple[str, ...]:
        """All accepted answers."""
        return (self.answer,) if isinstance(self.answer, str) else self.answer

    @property
    def question(self) -> str:
        """The question without role or template; a few-shot prompt as a whole."""
        return text_of(self.prompt)


class Task(Protocol):
    """A set of questions and their judge. A class of your own may derive from this one.

    ``stop`` and ``max_tokens`` are for answers to this task; the command line can override them.
    """

    name: str
    stop: tuple[str, ...] = ()
    max_tokens: int = 512

    def items(self) -> Sequence[Item]:
        """All questions, in a fixed order, with distinct ids."""

    def is_right(self, item: Item, text: str) -> bool | float:
        """Whether ``text`` answers the item, or how well: a number from 0 to 1."""


def settings_for(task: Task, settings: Settings, *, max_tokens: int | None = None) -> Settings:
    """The settings with the task's stop strings, and its ``max_tokens`` unless that is given."""
    stop = tuple(dict.fromkeys((*settings.stop, *task.stop)))
    return replace(settings, stop=stop, max_tokens=max_tokens or task.max_tokens)


def checked_items(task: Task) -> tuple[Item, ...]:
    """The items of a task. Raises InputError if there are none or two share an id."""
    items = tuple(task.items())
    if not items:
        raise InputError(f"The task {task.name} has no questions.")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InputError(
                f"Two questions of {task.name} have the id {item.id!r}; make them distinct."
            )
        seen.add(item.id)
    return items


def judge(task: Task, item: Item, text: str) -> float:
    """The task's verdict on ``text``, from 0 (wrong) to 1 (right); else raises InputError."""
    right = float(task.is_right(item, text))
    if not 0 <= right <= 1:
        raise InputError(
            f"{task.name} judged question {item.id!r} with {right}; "
            "is_right must return True, False or a number from 0 to 1."
        )
    return right


def with_system(item: Item, system: str) -> Item:
    """The item with this system text, which replaces its own if it has any.

    Raises InputError for a prompt that is not a chat.
    """
    if not isinstance(item.prompt, Chat):
        raise InputError("Raw prompts have no system text; leave out --system or --raw-prompts.")
    turns = [turn for turn in item.prompt.messages if turn.role != "system"]
    return replace(item, prompt=Chat((Message("system", system), *turns)))


BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Example:
    """A question as it is asked, and the solution that follows it."""

    question: str
    solution: str


def prompt_with(
    examples: Sequence[Example], question: str, *, raw: bool, space: str = " "
) -> Prompt:
    """The examples, then the question; in raw text, ``space`` comes before each solution."""
    if raw:
        shown = [f"{example.question}{space}{example.solution}" for example in examples]
        return RawText(BETWEEN.join([*shown, question]))
    turns = [
        Message(role, text)
        for example in examples
        for role, text in (("user", example.question), ("assistant", example.solution))
    ]
    return Chat((*turns, Message("user", question)))
