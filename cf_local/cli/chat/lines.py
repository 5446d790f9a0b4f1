"""Reads the lines of a chat from a plain terminal or a pipe; defines what a source of lines is."""

import sys
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

import click

from cf_local.cli.interrupt import Interrupt

QUOTES = '"""'
PROMPT, MORE = "> ", "... "


Complete = Callable[[list[str]], Iterable[str]] | Literal["file"]
"""Completes the last of the words after a command; "file" completes file names."""


def nothing(_words: list[str]) -> Iterable[str]:
    """The completion of a command without arguments to choose from."""
    return ()


class Completion(Protocol):
    """What line editing knows about a command."""

    @property
    def help(self) -> str:
        """A description on one line."""

    @property
    def complete(self) -> Complete:
        """Completes its arguments."""


class Lines(Protocol):
    """Reads the entries of a chat."""

    def read(self) -> str | None:
        """The next entry; lines between triple quotes are one entry. None at the end."""

    def confirm(self, question: str) -> bool:
        """Whether the user says yes; False if nobody can be asked."""


class PipeLines:
    """Lines from a pipe or a file. Reports and skips a line that is not UTF-8."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def read(self) -> str | None:
        """The next line, or text between triple quotes. Ctrl-C ends the wait and the chat."""
        self._interrupt.clear()
        with self._interrupt.raising():
            return joined(self._next)

    def confirm(self, question: str) -> bool:
        """False: nobody is there to answer."""
        click.echo(f"{question} Nobody is there to answer, so no.", err=True)
        return False

    def _next(self, _prompt: str) -> str | None:
        while raw := sys.stdin.buffer.readline():
            try:
                return raw.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                click.echo("Error: that line is not UTF-8.", err=True)
        return None


class PlainLines:
    """Lines from a terminal that can only show text."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def read(self) -> str | None:
        """The next line; Ctrl-C at the prompt drops what is typed."""
        while True:
            self._interrupt.clear()
            try:
                with self._interrupt.raising():
                    return joined(self._next)
            except KeyboardInterrupt:
                click.echo(err=True)

    def confirm(self, question: str) -> bool:
        """Ask; Ctrl-C and Ctrl-D mean no."""
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
    """Whether a text starts with triple quotes that are not closed yet."""
    start = text.lstrip()
    return start.startswith(QUOTES) and not start.removeprefix(QUOTES).rstrip().endswith(QUOTES)


def unquoted(text: str) -> str:
    """A text without the triple quotes around it."""
    inner = text.strip()
    if not inner.startswith(QUOTES):
        return text
    return inner.removeprefix(QUOTES).removesuffix(QUOTES).strip("\n")


def is_yes(answer: str | None) -> bool:
    """Whether an answer means yes."""
    return (answer or "").strip().lower() in ("y", "yes")
