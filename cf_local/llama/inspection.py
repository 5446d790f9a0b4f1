"""Describes a model file without loading it, whatever the file contains.

Some crafted files make llama.cpp's readers end the process or use up all memory. So they read in a
child process; if the child fails, the file is broken. A file that will be loaded is also tried once
in a child, as its header might end the process.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cf_local import errors
from cf_local.errors import BrokenModelError, CfLocalError, UnsupportedModelError
from cf_local.llama import child
from cf_local.llama.card import Card, cache_of, fills_gaps, read_card, silence
from cf_local.llama.embedding import embedding_bytes
from cf_local.llama.header import check_file
from cf_local.llama.model import LlamaModel
from cf_local.llama.sizes import SimulatedModel
from cf_local.progress import IsCancelled, never

_TIMEOUT_S = 60
_tried: set[tuple[str, int, int]] = set()


def inspect(path: Path) -> Card:
    """The card of a model file.

    The card of a file that can be read but not loaded for text has a ``problem``. Raises
    MissingModelError or BrokenModelError.
    """
    check_file(path)
    if not child.can_run():
        return _card(_of_one(path), None, path)
    records, ended = child.run(__name__, ["card", str(path.absolute())], timeout_s=_TIMEOUT_S)
    return _card(records, ended, path)


def inspect_all(
    paths: Sequence[Path], is_cancelled: IsCancelled = never
) -> list[Card | CfLocalError]:
    """Like ``inspect`` for many files, in one child process while none of them ends it.

    Whether a vocabulary can mark gaps is left out. An error stands for each file that cannot be
    read. Raises Cancelled.
    """
    found: dict[Path, Card | CfLocalError] = {}
    for path in paths:
        try:
            check_file(path)
        except CfLocalError as error:
            found[path] = error
    left = [path for path in paths if path not in found]
    while left:
        if child.can_run():
            files = [str(path.absolute()) for path in left]
            timeout_s = _TIMEOUT_S + len(files)
            records, ended = child.run(
                __name__, ["cards", *files], timeout_s=timeout_s, is_cancelled=is_cancelled
            )
        else:
            records, ended = list(_of_all(left)), None
        starts = [i for i, record in enumerate(records) if "file" in record] or [0]
        for path, start, stop in zip(left, starts, [*starts[1:], len(records)], strict=False):
            try:
                found[path] = _card(records[start:stop], ended, path)
            except CfLocalError as error:
                found[path] = error
        left = left[len(starts) :]
    return [found[path] for path in paths]


def _of_one(path: Path) -> Iterator[dict[str, Any]]:
    """The findings about a file, also what takes longer."""
    yield from _stages(path)
    with suppress(CfLocalError):  # a card without it will do
        yield {"fills_gaps": fills_gaps(path)}


def _of_all(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The findings about each file, after a record that names it."""
    for path in paths:
        yield {"file": str(path)}
        yield from _stages(path)


def _stages(path: Path) -> Iterator[dict[str, Any]]:
    """The findings, step by step; the last record may be an error."""
    try:
        card = read_card(path)
        yield {"card": asdict(card)}
        try:
            cache, window = cache_of(path)
        except UnsupportedModelError:
            if card.pooling is None:
                raise
            embedding_bytes(path, 512)
            yield {"cache": None, "window": None}
        else:
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
        gaps = found.get("fills_gaps")
        return replace(card, cache=found["cache"], window=found["window"], fills_gaps=gaps)
    problem = found.get("message") or f"{path} makes llama.cpp fail ({ended})."
    return replace(card, problem=problem)


def try_headers(paths: Sequence[Path], is_cancelled: IsCancelled = never) -> None:
    """Raise BrokenModelError for a file whose header would end this process, or Cancelled."""
    new = [path for path in paths if path.is_file() and _key(path) not in _tried]
    if not new or not child.can_run():
        return
    files = [str(path.absolute()) for path in new]
    records, ended = child.run(__name__, ["try", *files], is_cancelled=is_cancelled)
    n_survived = sum("survived" in record for record in records)
    _tried.update(_key(path) for path in new[:n_survived])
    has_started = any("started" in record for record in records)  # else the child did not start
    if ended and has_started and n_survived < len(new):
        raise BrokenModelError(
            f"{new[n_survived]} cannot be loaded: its header makes llama.cpp fail "
            f"({ended}). Download it again, or check where it comes from."
        )


def _key(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path.absolute()), found.st_size, found.st_mtime_ns


def _try(names: Sequence[str]) -> None:
    """In the child: plan each file, and report each one that did not end the process."""
    child.emit({"started": True})
    for name in names:
        try:
            _plan(Path(name))
            LlamaModel(Path(name), n_gpu_layers=0, devices=(), vocab_only=True).close()
        except CfLocalError:  # the parent meets and reports it
            pass
        child.emit({"survived": name})


def _plan(path: Path) -> None:
    try:
        model = SimulatedModel(path, n_forks=4)
    except UnsupportedModelError:
        embedding_bytes(path, 512)
        return
    with closing(model):
        model.sizes(path.name)
        model.layout(512, "f16")
        model.layout(512, "q8_0")


if __name__ == "__main__":
    what, *files = sys.argv[1:]
    if what == "card":
        silence()
        for stage in _of_one(Path(files[0])):
            child.emit(stage)
    elif what == "cards":
        silence()
        for stage in _of_all([Path(file) for file in files]):
            child.emit(stage)
    else:
        _try(files)
