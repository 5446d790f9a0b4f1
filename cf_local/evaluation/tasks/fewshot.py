"""Prompts with worked examples in front, as turns of a conversation or as one text.

As text (``raw``) they are those of lm-evaluation-harness without a chat template; as turns, those
it makes with --apply_chat_template and --fewshot_as_multiturn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cf_local.types import Chat, Message, Prompt, RawText

BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Example:
    """A question as it is put, and the solution that follows it."""

    question: str
    solution: str


def prompt_with(
    examples: Sequence[Example], question: str, *, raw: bool, space: str = " "
) -> Prompt:
    """The examples, then the question; in raw text ``space`` stands before a solution."""
    if raw:
        shown = [f"{example.question}{space}{example.solution}" for example in examples]
        return RawText(BETWEEN.join([*shown, question]))
    turns = [
        Message(role, text)
        for example in examples
        for role, text in (("user", example.question), ("assistant", example.solution))
    ]
    return Chat((*turns, Message("user", question)))
