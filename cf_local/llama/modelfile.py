"""What can be told about a bad model file before llama.cpp sees it."""

from pathlib import Path

from cf_local.errors import BrokenModelError, MissingModelError

_GGUF_MAGIC = b"GGUF"


def check_file(path: Path) -> None:
    """Raise MissingModelError or BrokenModelError for what cannot be a GGUF file."""
    try:
        if not path.exists():
            raise MissingModelError(f"There is no model file {path}. Check the path.")
        if not path.is_file():
            raise BrokenModelError(f"{path} is not a file. Name a .gguf file.")
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:  # also of a folder that may not be looked into
        raise BrokenModelError(f"{path} cannot be read: {error.strerror}.") from error
    if magic != _GGUF_MAGIC:
        raise BrokenModelError(f"{path} is not a GGUF file (it begins with {magic!r}).")
