"""Files of which only the header is real, made from models that are not on this machine.

Such a file is as long as the model's, so that all checks of its tensors hold, but takes next to no
disk: behind the header it has a hole.
"""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from cf_local.errors import BrokenModelError
from cf_local.llama.header import parse_header

ReadRemote = Callable[[int, int], bytes]
_BLOCK_BYTES = 4_000_000  # a vocabulary of 150,000 tokens makes a header of 6 MB
_MAX_HEADER_BYTES = 256_000_000


def fetch_headers(folder: Path, parts: Sequence[tuple[str, int, ReadRemote]]) -> Path:
    """Put the files of a model (name, bytes, and how to read it) there; the path of the first.

    Raises BrokenModelError, and what reading raises.
    """
    paths = []
    for name, n_bytes, read in parts:
        path = folder / PurePosixPath(name).name
        fetched = _Beginning(name, read)
        parse_header(fetched.read, n_bytes, name)
        with path.open("wb") as file:
            file.write(fetched.data)
            file.truncate(n_bytes)
        paths.append(path)
    return paths[0]


class _Beginning:
    """The beginning of a file, as far as it was asked for."""

    def __init__(self, name: str, read: ReadRemote) -> None:
        self._name, self._read = name, read
        self.data = bytearray()

    def read(self, start: int, n_bytes: int) -> bytes:
        """So many bytes from there on; blocks are fetched one after the other."""
        while len(self.data) < start + n_bytes:
            if start + n_bytes > _MAX_HEADER_BYTES:
                raise BrokenModelError(f"{self._name}: its header is too large to be true.")
            block = self._read(len(self.data), _BLOCK_BYTES)
            if not block:
                break
            self.data += block
        return bytes(self.data[start : start + n_bytes])
