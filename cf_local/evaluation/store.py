"""An evaluation on disk: a folder that an interrupted run goes on from.

``run.json`` says what is evaluated (task, questions, settings, models); a folder is only gone on
with by the same. ``items.jsonl`` has the questions, ``results.jsonl`` a line for each answer,
written and flushed one by one. A last line without its end is what a killed process leaves; it is
dropped.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cf_local import hub
from cf_local.errors import InputError
from cf_local.evaluation.runner import Result, Store
from cf_local.evaluation.tasks.task import Item, Task
from cf_local.evaluation.tasks.textfile import json_objects
from cf_local.evaluation.variants import Variant
from cf_local.files import write_text
from cf_local.method.session import Source
from cf_local.progress import Closing

_FORMAT = 1
_ABOUT, _ITEMS, _RESULTS = "run.json", "items.jsonl", "results.jsonl"
_TOLD_ONLY = ("cf_local", "path")  # what may differ between the parts of one run
_MOST_TOLD = 4

Record = Mapping[str, Any]


def record_of(
    sources: Sequence[Source], task: Task, items: Sequence[Item], variants: Sequence[Variant]
) -> dict[str, Any]:
    """What is evaluated, as plain data."""
    from importlib import metadata  # imported here: it takes long, and other commands need it not

    lines = "\n".join(_line(_item(item)) for item in items)
    return {
        "format": _FORMAT,
        "cf_local": metadata.version("cf-local"),
        "task": task.name,
        "n_questions": len(items),
        "questions_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "models": [_model(source) for source in sources],
        "variants": {variant.name: _variant(variant) for variant in variants},
    }


class FolderStore(Store, Closing):
    """Results in a folder. Use it in a ``with`` statement; ``n_dropped`` counts torn lines."""

    def __init__(
        self, folder: Path, record: Record, items: Sequence[Item], *, resume: bool
    ) -> None:
        """Begin a run, or with ``resume`` go on with the one that is there, if there is one.

        Raises InputError when the folder holds a run already and ``resume`` is not set, when that
        run is of something else, or when its files cannot be read or written.
        """
        super().__init__()
        self._path = folder / _RESULTS
        self.n_dropped = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / _ABOUT).exists():
                self._go_on(folder, record, resume)
            else:
                _begin(folder, record, items)
            self._file = self._path.open("a", encoding="utf-8", newline="\n")
        except OSError as error:
            raise InputError(f"{folder} cannot be used for results: {error.strerror}.") from error

    def append(self, result: Result) -> None:
        """Keep a result; it is in the file when this returns."""
        super().append(result)
        try:
            self._file.write(_line(asdict(result)) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self._path} cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """Close the file; a ``with`` statement does it."""
        self._file.close()

    def _go_on(self, folder: Path, record: Record, resume: bool) -> None:
        if not resume:
            raise InputError(
                f"{folder} holds an evaluation already. Go on with it by --resume, or choose "
                "another folder."
            )
        _check_same(folder, record)
        if not self._path.exists():
            return
        self.n_dropped = _drop_torn_line(self._path)
        for where, line in json_objects(self._path):
            super().append(_result(where, line))


def _begin(folder: Path, record: Record, items: Sequence[Item]) -> None:
    # run.json comes last and at once: where it is, the other files are whole.
    (folder / _RESULTS).unlink(missing_ok=True)
    lines = "".join(_line(_item(item)) + "\n" for item in items)
    write_text(folder / _ITEMS, lines)
    write_text(folder / _ABOUT, json.dumps(record, ensure_ascii=False, indent=2) + "\n")


def _check_same(folder: Path, record: Record) -> None:
    path = folder / _ABOUT
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    here = json.loads(json.dumps(record))  # tuples have become lists there
    found = list(_differences(there, here, ""))
    if found:
        more = f" and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
        raise InputError(
            f"{folder} holds an evaluation of something else: {'; '.join(found[:_MOST_TOLD])}"
            f"{more}. Repeat its settings to go on, or choose another folder."
        )


def _differences(there: Any, here: Any, where: str) -> Iterator[str]:
    """What differs, with the path of keys to it."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            if key not in _TOLD_ONLY:
                path = f"{where} {key}".strip()
                yield from _differences(there.get(key), here.get(key), path)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for number, (one, other) in enumerate(zip(there, here, strict=True), start=1):
            yield from _differences(one, other, f"{where} {number}")
    elif there != here:
        yield f"{where} is {_short(there)} there and {_short(here)} here"


def _short(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _drop_torn_line(path: Path) -> int:
    """Cut a last line off that has no end; returns how many were dropped."""
    raw = path.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole == len(raw):
        return 0
    with path.open("r+b") as file:
        file.truncate(whole)
    return 1


def _result(where: str, line: Mapping[str, Any]) -> Result:
    if set(line) != {field.name for field in fields(Result)}:
        raise InputError(f"{where}: this is no result of this version; choose another folder.")
    return Result(**line)


def _model(source: Source) -> dict[str, Any]:
    info = source.info
    path = Path(info.file)
    is_file = path.is_file()
    return {
        "name": info.name,
        "path": info.file,
        "size_bytes": path.stat().st_size if is_file else None,
        "sha256": hub.sha256(path) if is_file else None,
        "n_ctx": info.n_ctx,
    }


def _variant(variant: Variant) -> dict[str, Any]:
    part = {} if variant.sources is None else {"sources": variant.sources}
    return asdict(variant.settings) | part


def _item(item: Item) -> dict[str, Any]:
    return asdict(item) | {"prompt": asdict(item.prompt)}


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)
