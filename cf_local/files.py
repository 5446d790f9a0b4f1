"""Local files: written whole or not at all, private where they must be, and their names.

A new file takes its name at once, at the very end. Another reader, and anyone after a crash, finds
the old file or the new one, never half of it.
"""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from cf_local.errors import CfLocalError, InputError

CACHE_VARIABLE = "CF_LOCAL_CACHE"
"""The environment variable that names another folder for cached files."""
DATA_VARIABLE = "CF_LOCAL_DATA"
"""The environment variable that names another folder for conversations and the input history."""
UNFINISHED = ".unfinished"
"""The end of a file's name while it is being written."""

_HEAD_BYTES = 2000
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<of>\d{5})\.gguf", re.IGNORECASE)


class UnwritableError(CfLocalError):
    """A place cannot be written to: no folder, no permission, no space."""


def cache_root() -> Path:
    """The folder of cached files, which may not exist yet."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).absolute()
    return platformdirs.user_cache_path("cf-local", appauthor=False)


def data_folder() -> Path:
    """The folder of conversations, created (mode 0700) if missing. Raises UnwritableError."""
    named = os.environ.get(DATA_VARIABLE)
    path = Path(named) if named else platformdirs.user_data_path("cf-local", appauthor=False)
    if not named and not path.is_absolute():  # a literal "~": the user has no home
        raise UnwritableError(f"You have no home folder; set {DATA_VARIABLE} to a folder.")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableError(f"The folder {path} cannot be created: {error.strerror}.") from error
    return path


def make_private(path: Path) -> None:
    """Create a file, or change it, so that only its owner can read it (mode 0600).

    Raises UnwritableError.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if path.stat().st_mode & 0o077 and os.name == "posix":
            path.chmod(0o600)
    except OSError as error:
        raise UnwritableError(f"{path} cannot be written: {error.strerror}.") from error


@contextmanager
def replacing(place: Path, *, private: bool = False) -> Iterator[Path]:
    """A new file to write; at the end it replaces the file at ``place``. Raises OSError.

    After an exception, or if the new file was deleted, ``place`` is unchanged. Where ``place`` is a
    link, the file it points to is replaced. ``private``: only the owner can read it (mode 0600);
    otherwise it keeps the mode of the file it replaces.
    """
    place = Path(os.path.realpath(place))  # resolve() fails otherwise than with OSError
    new = place.with_name(f".{place.name[:80]}.{secrets.token_hex(6)}{UNFINISHED}")
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666))
    try:
        yield new
        if new.exists():
            if not private and place.exists():
                shutil.copymode(place, new)
            new.replace(place)
    finally:
        with suppress(OSError):
            new.unlink()


def write_text(
    place: Path,
    text: str,
    *,
    private: bool = False,
    check: Callable[[Path], None] = lambda _: None,
) -> None:
    """Write UTF-8 text as a whole and flush it to disk. Raises OSError.

    ``check`` receives the new file before it replaces the old one; if it raises, the old one stays.
    A device or a pipe is written to directly.
    """
    if place.exists() and not place.is_file():
        place.write_text(text, encoding="utf-8", newline="")
        return
    with replacing(place, private=private) as new:
        # What only a file's name can contain, half a character, becomes "?".
        with new.open("w", encoding="utf-8", errors="replace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        check(new)


def write_result(place: Path, text: str, *, private: bool = False) -> None:
    """Like ``write_text``, for a file named by the user. Raises InputError."""
    try:
        write_text(place, text, private=private)
    except OSError as error:
        raise InputError(f"{place} cannot be written: {error.strerror}.") from error


def check_folder(path: Path) -> None:
    """Raise InputError unless the folder of ``path`` exists."""
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: the folder {path.parent} does not exist.")


def check_replaceable(path: Path, is_ours: Callable[[bytes], bool], kind: str) -> None:
    """Raise InputError unless ``path`` is free, or holds a file of the same ``kind``.

    ``is_ours`` receives the first bytes of an existing file. Check before the work, so that a
    mistyped name costs neither the work nor another file.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file.")
    check_folder(path)
    if not path.is_file():  # nothing, or a device or pipe, where nothing can be lost
        return
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if head and not is_ours(head):
        raise InputError(f"{path} exists and is not {kind}. Choose another name.")


def parts(file: str) -> tuple[str, ...]:
    """All files of the model that ``file`` belongs to: itself, or every part of a split model."""
    split = _SPLIT.fullmatch(file)
    if split is None:
        return (file,)
    stem, n_parts = split["stem"], int(split["of"])
    return tuple(f"{stem}-{part:05}-of-{n_parts:05}.gguf" for part in range(1, n_parts + 1))
