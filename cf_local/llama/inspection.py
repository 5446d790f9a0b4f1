"""What a model file is, without loading it, whatever is in the file.

llama.cpp's readers end the process for some files that were made to do so, or use up all memory.
So they read in a child; a child that comes to a bad end means a broken file.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cf_local import errors
from cf_local.errors import CfLocalError
from cf_local.llama import child
from cf_local.llama.card import Card, cache_of, read_card, silence
from cf_local.llama.modelfile import check_file

_TIMEOUT_S = 60


def inspect(path: Path) -> Card:
    """The card of a model file.

    A file that can be read, but not loaded for text, has a ``problem``. Raises MissingModelError,
    BrokenModelError.
    """
    check_file(path)
    if not child.can_run():
        return _card(_stages(path), None, path)
    records, ended = child.run(__name__, [str(path.absolute())], timeout_s=_TIMEOUT_S)
    return _card(records, ended, path)


def _stages(path: Path) -> Iterator[dict[str, Any]]:
    """What is found, step by step; the last record may be an error."""
    try:
        yield {"card": asdict(read_card(path))}
        cache, window = cache_of(path)
        yield {"cache": cache, "window": window}
    except CfLocalError as error:
        yield {"error": type(error).__name__, "message": str(error)}
    except (MemoryError, RecursionError, UnicodeError, OSError) as error:
        yield {"error": "BrokenModelError", "message": f"{path} cannot be read: {error}."}


def _card(records: Any, ended: str | None, path: Path) -> Card:
    found: dict[str, Any] = {}
    for record in records:
        found |= record
    if "card" not in found:
        kind = getattr(errors, found.get("error", "BrokenModelError"))
        reason = found.get("message") or (
            f"{path} is broken: llama.cpp failed while reading it ({ended}). Download it again."
        )
        raise kind(reason)
    values = found["card"]
    values["special_tokens"] = {k: tuple(v) for k, v in values["special_tokens"].items()}
    card = Card(**values)
    if "cache" in found:
        return replace(card, cache=found["cache"], window=found["window"])
    problem = found.get("message") or f"{path} makes llama.cpp fail ({ended})."
    return replace(card, problem=problem)


if __name__ == "__main__":
    silence()
    for stage in _stages(Path(sys.argv[1])):
        child.emit(stage)
