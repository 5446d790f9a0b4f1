"""The format of a saved state: what llama.cpp wrote, sealed with a checksum.

llama.cpp writes and reads the file itself, tensor by tensor, so that memory holds no second copy of
the state. It checks what it can, but not the numbers, and some damage to the header would end the
process. So there is a seal at the end, which is checked first::

    payload as llama.cpp wrote it | tokens: int32 each | their number: u64 | SHA-256 | magic

The SHA-256 is over the key (see ``llama.state_key``) and everything before the checksum.
"""

import hashlib
import os
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"CFKEPT01"
_COUNT = struct.Struct("<Q")
_DIGEST_BYTES = hashlib.sha256().digest_size
_TAIL_BYTES = _COUNT.size + _DIGEST_BYTES + len(_MAGIC)
_CHUNK_BYTES = 1 << 20


def seal(path: Path, key: str, tokens: Sequence[int]) -> None:
    """Seal a file that llama.cpp has written, with the state after ``tokens``. Raises OSError."""
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(array("i", tokens).tobytes() + _COUNT.pack(len(tokens)))
        digest = _digest(file, file.tell(), key)
        file.write(digest + _MAGIC)


def tokens_of(path: Path) -> list[int]:
    """The tokens that a file says it holds, unchecked; none if it is not such a file."""
    try:
        with path.open("rb") as file:
            n_bytes = file.seek(0, os.SEEK_END)
            if n_bytes < _TAIL_BYTES:
                return []
            file.seek(n_bytes - _TAIL_BYTES)
            tail = file.read(_TAIL_BYTES)
            (n_tokens,) = _COUNT.unpack_from(tail)
            tokens = array("i")
            n_token_bytes = n_tokens * tokens.itemsize
            if not tail.endswith(_MAGIC) or n_token_bytes > n_bytes - _TAIL_BYTES:
                return []
            file.seek(n_bytes - _TAIL_BYTES - n_token_bytes)
            tokens.frombytes(file.read(n_token_bytes))
            return tokens.tolist()
    except (OSError, ValueError):
        return []


def is_whole(path: Path, key: str) -> bool:
    """Whether a file is unchanged since it was sealed with this key."""
    try:
        with path.open("rb") as file:
            n_bytes = file.seek(0, os.SEEK_END) - _DIGEST_BYTES - len(_MAGIC)
            if n_bytes < _COUNT.size:
                return False
            digest = _digest(file, n_bytes, key)
            return file.read() == digest + _MAGIC
    except OSError:
        return False


def _digest(file: BinaryIO, n_bytes: int, key: str) -> bytes:
    """The checksum of the first ``n_bytes``; leaves the file positioned after them."""
    digest = hashlib.sha256(key.encode())
    file.seek(0)
    while n_bytes > 0:
        chunk = file.read(min(_CHUNK_BYTES, n_bytes))
        if not chunk:
            break
        digest.update(chunk)
        n_bytes -= len(chunk)
    return digest.digest()
