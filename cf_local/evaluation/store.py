"""An evaluation on disk: a folder from which an interrupted run can be resumed.

``run.json`` says what is evaluated (task, questions, settings, models); only the same evaluation
can resume it. ``items.jsonl`` has the questions, ``results.jsonl`` one line per answer or
``walks.jsonl`` one per reference text, each flushed when it is written. A killed process may leave
an incomplete last line; it is dropped.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

from cf_local import hub
from cf_local.errors import InputError
from cf_local.evaluation.runner import Result, Store
from cf_local.evaluation.tasks.task import Item, Task
from cf_local.evaluation.tasks.textfile import json_objects
from cf_local.evaluation.variants import Variant
from cf_local.evaluation.walk import Walk, WalkStore, Word
from cf_local.files import write_text
from cf_local.method.session import Source
from cf_local.progress import Closing
from cf_local.settings import Settings
from cf_local.types import Candidate, Score

_FORMAT = 1
_ABOUT, _ITEMS, _RESULTS, _WALKS = "run.json", "items.jsonl", "results.jsonl", "walks.jsonl"
_NOT_COMPARED = ("cf_local", "path")  # what may differ between the parts of one run
_MAX_REPORTED = 4  # differences

Record = Mapping[str, Any]


def record_of(
    sources: Sequence[Source], task: Task, items: Sequence[Item], variants: Sequence[Variant]
) -> dict[str, Any]:
    """What is evaluated, as plain data."""
    from importlib import metadata  # imported here: it is slow, and other commands do not need it

    lines = "\n".join(_line(_item(item)) for item in items)
    return {
        "format": _FORMAT,
        "cf_local": metadata.version("cf-local"),
        "task": task.name,
        "n_questions": len(items),
        "questions_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "models": models_of(sources),
        "variants": {variant.name: _variant(variant) for variant in variants},
    }


def record_of_walks(record: Record, settings: Settings) -> Record:
    """The part of a record that decides walks: any variant can be tried on them later."""
    kept = {key: value for key, value in record.items() if key != "variants"}
    return kept | {"segments": settings.segments, "segment_limit": settings.segment_limit}


class RunFolder(Closing):
    """The folder of a run, for a ``with`` statement; ``n_dropped`` counts incomplete lines."""

    def __init__(
        self, folder: Path, name: str, record: Record, items: Sequence[Item], *, resume: bool
    ) -> None:
        """Start a run, or with ``resume`` continue the one in the folder if there is one.

        ``name`` is that of the file with the lines. Raises InputError when the folder already holds
        a run and ``resume`` is not set, when that run evaluates something else, or when its files
        cannot be read or written.
        """
        self._path = folder / name
        self.n_dropped = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / _ABOUT).exists():
                self._go_on(folder, record, resume)
            else:
                _start(folder, self._path, record, items)
            self._file = self._path.open("a", encoding="utf-8", newline="\n")
        except OSError as error:
            raise InputError(f"{folder} cannot be used for results: {error.strerror}.") from error

    def lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The lines of the file, each with its place."""
        return json_objects(self._path)

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line; it is in the file when this returns."""
        try:
            self._file.write(_line(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self._path} cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """Close the file; a ``with`` statement does it."""
        self._file.close()

    def _go_on(self, folder: Path, record: Record, resume: bool) -> None:
        if not resume:
            raise InputError(
                f"{folder} already holds an evaluation. Resume it with --resume, or choose another "
                "folder."
            )
        _check_same(folder, record)
        if self._path.exists():
            self.n_dropped = _drop_incomplete_line(self._path)


class FolderStore(Store, Closing):
    """Results in a folder (see RunFolder)."""

    def __init__(
        self, folder: Path, record: Record, items: Sequence[Item], *, resume: bool
    ) -> None:
        """Start or go on with a run. Raises what RunFolder raises."""
        super().__init__()
        self._folder = RunFolder(folder, _RESULTS, record, items, resume=resume)
        self.n_dropped = self._folder.n_dropped
        for where, line in self._folder.lines():
            super().append(_result(where, line))

    def append(self, result: Result) -> None:
        """Store a result; it is in the file when this returns."""
        super().append(result)
        self._folder.write(asdict(result))

    def close(self) -> None:
        """Close the file; a ``with`` statement does it."""
        self._folder.close()


class WalkFolder(WalkStore, Closing):
    """Walks in a folder (see RunFolder)."""

    def __init__(
        self, folder: Path, record: Record, items: Sequence[Item], *, resume: bool
    ) -> None:
        """Start or go on with a run. Raises what RunFolder raises."""
        super().__init__()
        self._folder = RunFolder(folder, _WALKS, record, items, resume=resume)
        self.n_dropped = self._folder.n_dropped
        for where, line in self._folder.lines():
            super().append(_walk(where, line))

    def append(self, walked: Walk) -> None:
        """Store a walk; it is in the file when this returns."""
        super().append(walked)
        words = [_word_line(word) for word in walked.words]
        self._folder.write({"item": walked.item, "n_words": walked.n_words, "words": words})

    def close(self) -> None:
        """Close the file; a ``with`` statement does it."""
        self._folder.close()


def _start(folder: Path, path: Path, record: Record, items: Sequence[Item]) -> None:
    # run.json comes last and is written atomically: if it exists, the other files are whole.
    path.unlink(missing_ok=True)
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
    if found := differences(there, here):
        raise InputError(
            f"{folder} holds a different evaluation: {found}. Use its settings to resume it, or "
            "choose another folder."
        )


def differences(there: Any, here: Any) -> str:
    """What differs between two records, or parts of them; empty if one can stand for the other."""
    found = list(_differences(there, here, ""))
    more = f" and {len(found) - _MAX_REPORTED} more" if len(found) > _MAX_REPORTED else ""
    return "; ".join(found[:_MAX_REPORTED]) + more


def _differences(there: Any, here: Any, where: str) -> Iterator[str]:
    """The differences, each with the path of its keys."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            if key not in _NOT_COMPARED:
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


def _drop_incomplete_line(path: Path) -> int:
    """Remove an incomplete last line; returns how many were dropped."""
    raw = path.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole == len(raw):
        return 0
    with path.open("r+b") as file:
        file.truncate(whole)
    return 1


def _result(where: str, line: Mapping[str, Any]) -> Result:
    if set(line) != {field.name for field in fields(Result)}:
        raise InputError(
            f"{where}: this is not a result that this version wrote; choose another folder."
        )
    return Result(**line)


def _word_line(word: Word) -> dict[str, Any]:
    return {
        # Bytes as the characters of the same numbers: a draft need not be UTF-8.
        "candidates": [[each.text.decode("latin-1"), each.ends] for each in word.candidates],
        "drafts": word.drafts,
        "right": word.right,
        "scores": [[astuple(score) for score in row] for row in word.scores],
        "next_scores": [astuple(score) for score in word.next_scores],
    }


def _walk(where: str, line: Mapping[str, Any]) -> Walk:
    try:
        words = tuple(_word(word) for word in line["words"])
        return Walk(line["item"], line["n_words"], words)
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{where}: this is not a walk that this version wrote; choose another folder."
        ) from None


def _word(line: Mapping[str, Any]) -> Word:
    return Word(
        tuple(Candidate(text.encode("latin-1"), ends) for text, ends in line["candidates"]),
        tuple(line["drafts"]),
        tuple(line["right"]),
        tuple(tuple(Score(*score) for score in row) for row in line["scores"]),
        tuple(Score(*score) for score in line["next_scores"]),
    )


def models_of(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """What a record says about the models; it takes reading their files."""
    return [_model(source) for source in sources]


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
