"""What a kept state belongs to.

States of another model, another version of llama.cpp or another cache are of no use, so all that is
in the key. The model file is known by its checksum where the hub's cache names it so. To compute
one takes half a minute for a large file, so any other file is known by its path, size and time of
change: a copy of it is read anew, once.
"""

import hashlib
import re
from pathlib import Path

from cf_local.files import parts

_BLOB = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


def key_of(identity: str, kind: str) -> str:
    """The key of states of a model; ``kind`` is all else that they depend on."""
    return hashlib.sha256(f"{kind}\n{identity}".encode()).hexdigest()[:32]


def identity_of(file: Path) -> str:
    """What tells a model file (the first of a split one) from others.

    Raises OSError when it cannot be looked at.
    """
    return "\n".join(_identity(file.with_name(part)) for part in parts(file.name))


def owner_of(database: Path, number: int) -> str:
    """The name under which states of a saved conversation are kept: nothing of it can be read."""
    return hashlib.sha256(f"{database.resolve()}\n{number}".encode()).hexdigest()[:16]


def _identity(file: Path) -> str:
    real = file.resolve()
    if _BLOB.fullmatch(real.name):
        return real.name
    status = real.stat()
    return f"{real}\n{status.st_size}\n{status.st_mtime_ns}"
