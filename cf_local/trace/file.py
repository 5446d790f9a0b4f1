"""Files that come whole: under their name lies the old one or the new one, never a half."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cf_local.errors import InputError
from cf_local.trace.lines import lines
from cf_local.trace.model import Trace

_HEAD_BYTES = 2000
_TRACE_STARTS = b'{"type":'


def write(path: Path, traces: Sequence[Trace]) -> None:
    """Write the traces into one file. Raises InputError where that cannot be."""
    write_whole(path, "".join(f"{line}\n" for trace in traces for line in lines(trace)))


def check_place(path: Path) -> None:
    """Whether a trace may be written there: told before the work, not after it.

    Raises InputError where there is no folder, or a file that is no trace: who mistypes a name
    loses nothing by it.
    """
    check_replaceable(path, lambda head: head.startswith(_TRACE_STARTS), "a trace")


def check_replaceable(path: Path, is_ours: Callable[[bytes], bool], kind: str) -> None:
    """Raise InputError unless a file can be written at ``path``, or one of its ``kind`` is there.

    ``is_ours`` sees the first bytes of the file that is there.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file.")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}.")
    if not path.is_file():  # nothing, or a device or pipe, in which nothing can be lost
        return
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if head and not is_ours(head):
        raise InputError(f"{path} exists and is not {kind}. Choose another name.")


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text; a file that was there is replaced at once, at the very end."""
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8", newline="\n")
        else:
            _replace(path.resolve(), text)  # resolved: a link stays a link
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        with new.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        with suppress(FileNotFoundError):
            new.unlink()
