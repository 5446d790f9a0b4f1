"""Reads questions and other text from the command line, a file or a pipe."""

import sys
from pathlib import Path

import click

from cf_local.errors import InputError
from cf_local.types import is_unicode


def read_question(words: str | None, file: str | None) -> str:
    """The question: the text of ``file`` ("-" for stdin), if any, then ``words``.

    Without either it comes from a pipe. Raises InputError for text that is empty or not UTF-8.
    """
    if words is None and file is None:
        if sys.stdin.isatty():
            raise click.UsageError("Ask something: cf-local ask 'QUESTION', or pipe text in.")
        file = "-"
    parts = [read_text(file)] if file is not None else []
    if words is not None:
        parts.append(_checked(words))
    question = "\n\n".join(parts)
    if not question.strip():
        raise InputError("The prompt is empty. Ask something.")
    return question


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


def _checked(words: str) -> str:
    if not is_unicode(words):
        raise InputError("The prompt is not UTF-8. Set a UTF-8 locale or use a file.")
    return words
