"""The key of a saved state.

States of another model, another version of llama.cpp or another cache cannot be used, so the key
contains all of these. A model file in the hub's cache is identified by the checksum in its name.
Computing one takes half a minute for a large file, so any other file is identified by its path,
size and modification time: with a copy of it, prompts are read again once.
"""

import hashlib
import os
import re
from pathlib import Path

from cf_local.files import parts

_HEADER_BYTES = 16_000_000  # of the largest vocabularies
_BLOB = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


def key_of(identity: str, kind: str) -> str:
    """The key of a model's states; ``kind`` is everything else that they depend on."""
    return hashlib.sha256(os.fsencode(f"{kind}\n{identity}")).hexdigest()[:32]


def identity_of(file: Path) -> str:
    """Identifies a model file (the first part of a split model).

    Raises OSError when the file cannot be accessed.
    """
    return "\n".join(_identity(file.with_name(part)) for part in parts(file.name))


def fingerprint_of(file: Path) -> str:
    """Whether a file on another machine is the same: its size, and all that precedes the weights.

    Raises OSError when the file cannot be accessed.
    """
    with file.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    return f"{file.stat().st_size} {hashlib.sha256(start).hexdigest()}"


def owner_of(database: Path, number: int) -> str:
    """The name for the states of a saved conversation; it reveals nothing about it."""
    return hashlib.sha256(os.fsencode(f"{os.path.realpath(database)}\n{number}")).hexdigest()[:16]


def _identity(file: Path) -> str:
    real = Path(os.path.realpath(file))  # a link to itself is an OSError of stat() then
    if _BLOB.fullmatch(real.name):
        return real.name
    status = real.stat()
    return f"{real}\n{status.st_size}\n{status.st_mtime_ns}"
