"""Reads questions and other text from the command line, a file or a pipe."""

import stat
import sys
from collections.abc import Sequence
from io import UnsupportedOperation
from os import fstat
from pathlib import Path

import click

from cf_local.errors import InputError
from cf_local.types import is_unicode


def read_question(words: Sequence[str], file: str | None) -> str:
    """The question: the text of ``file`` ("-" for stdin) or of a pipe, if any, then the ``words``.

    Raises InputError for text that is empty or not UTF-8.
    """
    if not words and file is None and sys.stdin.isatty():
        raise click.UsageError("Ask something: cf-local ask 'QUESTION', or pipe text in.")
    if file is None and (not words or _is_piped()):
        file = "-"
    parts = [read_text(file)] if file is not None else []
    parts.append(_checked(" ".join(words)))
    question = "\n\n".join(part for part in parts if part.strip())
    if not question.strip():
        raise InputError("The prompt is empty. Ask something.")
    return question


def absolute(path: Path) -> Path:
    """The absolute path of a file; links stay, as the hub's cache uses them. Raises InputError."""
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # "~name" of an unknown user
        raise InputError(f"{path}: {error}") from None


def read_text(file: str) -> str:
    """The text of a file ("-" for stdin).

    Raises InputError for a file that cannot be read or is not UTF-8.
    """
    name = "standard input" if file == "-" else file
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from error
    try:
        return raw.decode("utf-8-sig").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}. "
            "Convert it to UTF-8 first."
        ) from None


def _is_piped() -> bool:
    """Whether stdin is a pipe or a file; a socket, for one, may never end."""
    try:
        mode = fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, UnsupportedOperation):  # there is no stdin
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _checked(words: str) -> str:
    if not is_unicode(words):
        raise InputError("The prompt is not UTF-8. Set a UTF-8 locale or use a file.")
    return words
