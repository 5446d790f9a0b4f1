"""What a command of the chat is: a row of the table that ``commands`` fills."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cf_local.cli.chat.chat import Chat


def nothing(_words: list[str]) -> Iterable[str]:
    """The completion of a command that has no arguments to choose from."""
    return ()


@dataclass(frozen=True, slots=True)
class Command:
    """A line that starts with "/" and this name.

    ``run`` gets the chat and what stands behind the name, and returns True to leave. ``complete``
    gets the words behind the name, the unfinished one included, and returns what that could be;
    "file" stands for names of files.
    """

    name: str
    arguments: str
    help: str
    run: Callable[["Chat", str], bool | None]
    complete: Callable[[list[str]], Iterable[str]] | Literal["file"] = nothing
