"""Where the lines of a chat come from: a terminal with line editing, a plain one, or a pipe."""

import sys
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

import click

from cf_local.cli.interrupt import Interrupt

QUOTES = '"""'
PROMPT, MORE = "> ", "... "


Complete = Callable[[list[str]], Iterable[str]] | Literal["file"]
"""What the words behind a command, the unfinished one included, could become; or names of files."""


def nothing(_words: list[str]) -> Iterable[str]:
    """The completion of a command that has no arguments to choose from."""
    return ()


class Completion(Protocol):
    """What line editing knows of a command."""

    @property
    def help(self) -> str:
        """One line about it."""

    @property
    def complete(self) -> Complete:
        """What its arguments may be."""


class Lines(Protocol):
    """The next line, whatever it comes from."""

    def read(self) -> str | None:
        """What was entered, several lines between triple quotes as one text; None at the end."""

    def confirm(self, question: str) -> bool:
        """Whether the user says yes; no where nobody can be asked."""


class PipeLines:
    """Lines from a pipe or a file. One that is no UTF-8 is told and left out."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def read(self) -> str | None:
        """The next line, or text between triple quotes; Ctrl-C ends the wait, and the chat."""
        self._interrupt.clear()
        with self._interrupt.raising():
            return joined(self._next)

    def confirm(self, question: str) -> bool:
        """Nobody is there to ask."""
        click.echo(f"{question} There is nobody to ask; no.", err=True)
        return False

    def _next(self, _prompt: str) -> str | None:
        while raw := sys.stdin.buffer.readline():
            try:
                return raw.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                click.echo("Error: that line is not UTF-8.", err=True)
        return None


class PlainLines:
    """Lines from a terminal that can do nothing but show text."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def read(self) -> str | None:
        """The next line; Ctrl-C at the prompt only drops what was typed."""
        while True:
            self._interrupt.clear()
            try:
                with self._interrupt.raising():
                    return joined(self._next)
            except KeyboardInterrupt:
                click.echo(err=True)

    def confirm(self, question: str) -> bool:
        """Ask; Ctrl-C and Ctrl-D say no."""
        try:
            with self._interrupt.raising():
                return is_yes(self._next(f"{question} [y/N] "))
        except KeyboardInterrupt:
            click.echo(err=True)
            return False

    def _next(self, prompt: str) -> str | None:
        click.echo(prompt, nl=False)
        sys.stdout.flush()
        raw = sys.stdin.buffer.readline()
        if not raw.endswith(b"\n"):
            click.echo()
        if not raw:
            return None
        try:
            return raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            click.echo("Error: that line is not UTF-8.", err=True)
            return ""


def joined(next_line: Callable[[str], str | None]) -> str | None:
    """The next entry: a line, or all lines from triple quotes to triple quotes (or the end)."""
    line = next_line(PROMPT)
    if line is None or not is_open(line):
        return None if line is None else unquoted(line)
    while is_open(line):
        more = next_line(MORE)
        if more is None:
            break
        line += f"\n{more}"
    return unquoted(line)


def is_open(text: str) -> bool:
    """Whether a text begins with triple quotes that nothing closes yet."""
    start = text.lstrip()
    return start.startswith(QUOTES) and not start.removeprefix(QUOTES).rstrip().endswith(QUOTES)


def unquoted(text: str) -> str:
    """A text without the triple quotes around it."""
    inner = text.strip()
    if not inner.startswith(QUOTES):
        return text
    return inner.removeprefix(QUOTES).removesuffix(QUOTES).strip("\n")


def is_yes(answer: str | None) -> bool:
    """Whether somebody said yes."""
    return (answer or "").strip().lower() in ("y", "yes")
