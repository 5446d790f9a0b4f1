"""Questions of the user's own, from a JSONL, CSV or TSV file.

Each question has ``prompt`` (text) or, in JSONL, ``messages`` (roles and contents), and ``answer``:
text, a number, or a list of all that are accepted (in a table: a cell with a JSON list).
``id``, ``group`` and ``metric`` are optional; any other name must begin with ``_``, or it counts as
a mistake.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cf_local.errors import InputError
from cf_local.evaluation.answer_metrics import METRICS, problem_with
from cf_local.evaluation.tasks.task import Item, Task
from cf_local.evaluation.tasks.textfile import json_objects, read_text
from cf_local.registry.toml import nearest
from cf_local.types import Chat, Message, Prompt, chat

_MOST_OF_A_CELL = 2**31 - 1  # what a C long holds everywhere
SUFFIXES = (".jsonl", ".csv", ".tsv")

_FIELDS = ("prompt", "messages", "answer", "id", "group", "metric")
_TEXTS = {"id", "group", "metric"}
_ROLES = ("system", "user", "assistant")

ReadRecord = Callable[[str, dict[str, Any], int], Item]
"""Makes an item of a record: its place for error messages, its keys, and its number in the file."""


class QuestionFile(Task):
    """The questions of a file; ``metric`` judges those that name no metric.

    Without either, a number is compared as a number and text exactly. Raises InputError, with file
    and line, for anything in the file that is not valid.
    """

    stop = ()
    max_tokens = 512

    def __init__(self, path: Path, metric: str | None = None) -> None:
        self.name = path.name
        _check_metric("--metric", metric)
        self._metrics: dict[str, str] = {}
        records = json_objects(path) if path.suffix == ".jsonl" else _rows(path)
        self._items = read_items(records, partial(self._read, metric))

    def items(self) -> Sequence[Item]:
        """The questions in the order of the file."""
        return self._items

    def is_right(self, item: Item, text: str) -> float:
        """The verdict of the question's metric."""
        return METRICS[self._metrics[item.id]](text, item.accepted)

    def _read(self, metric: str | None, where: str, record: Mapping[str, Any], number: int) -> Item:
        """The question of a record; its metric is kept."""
        item = read_item(where, record, number, _answer_of, _FIELDS)
        chosen = record.get("metric") or metric or _usual_metric(record["answer"])
        _check_metric(where, chosen)
        if reason := problem_with(chosen, item.accepted):
            raise InputError(f"{where}: metric {chosen}: {reason}")
        self._metrics[item.id] = chosen
        return item


def read_items(records: Iterable[tuple[str, dict[str, Any]]], read: ReadRecord) -> list[Item]:
    """The items of a file, in its order. Raises InputError if two share an id."""
    items: list[Item] = []
    places: dict[str, str] = {}
    for number, (where, record) in enumerate(records, start=1):
        item = read(where, record, number)
        if item.id in places:
            raise InputError(f"{where}: the id {item.id!r} occurs before, in {places[item.id]}.")
        places[item.id] = where
        items.append(item)
    return items


def read_item(
    where: str,
    record: Mapping[str, Any],
    number: int,
    answer_of: Callable[[str, Mapping[str, Any]], tuple[str, ...]],
    fields: Sequence[str],
) -> Item:
    """The item of a record that may have these ``fields``; without an id, its number is its id.

    Raises InputError, with ``where``, for anything that is not valid.
    """
    _check_keys(where, list(record), fields)
    for key in fields:
        if key in _TEXTS and not isinstance(record.get(key, ""), str | int):
            raise InputError(f"{where}: {key} must be text.")
    answer, group = answer_of(where, record), str(record.get("group", ""))
    return Item(str(record.get("id", number)), _prompt(where, record), answer, group)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a table as objects, without empty cells."""
    delimiter = "\t" if path.suffix == ".tsv" else ","
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    usual = csv.field_size_limit(_MOST_OF_A_CELL)
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(row):
                continue
            if header is None:
                header = [name.strip() for name in row]
                _check_keys(where, header, _FIELDS)
            elif len(row) != len(header):
                raise InputError(f"{where}: {len(row)} cells for {len(header)} columns.")
            else:
                cells = zip(header, row, strict=True)
                yield where, {key: _cell(where, key, cell) for key, cell in cells if cell}
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}.") from None
    finally:
        csv.field_size_limit(usual)


def _cell(where: str, key: str, cell: str) -> Any:
    if key != "answer" or not cell.lstrip().startswith("["):
        return cell
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        raise InputError(
            f"{where}: the answer {cell!r} looks like a JSON list but is not one."
        ) from None


def _check_keys(where: str, keys: Sequence[str], known: Sequence[str]) -> None:
    for key in keys:
        if key not in known and not key.startswith("_"):
            raise InputError(
                f"{where}: unknown key {key!r}{nearest(key, known)}. Known "
                f"keys are {', '.join(known)}; others must begin with _, and are ignored."
            )


def _check_metric(where: str, metric: str | None) -> None:
    if metric is not None and metric not in METRICS:
        raise InputError(
            f"{where}: unknown metric {metric!r}{nearest(str(metric), METRICS)}; "
            f"choose one of {', '.join(METRICS)}."
        )


def _answer_of(where: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """The accepted answers as text."""
    if "answer" not in record:
        raise InputError(f"{where}: the answer is missing.")
    accepted = _as_list(record["answer"])
    # type(True) is bool, which is not an answer
    if not accepted or not {type(one) for one in accepted} <= {str, int, float}:
        raise InputError(f"{where}: the answer must be text, a number or a list of them.")
    return tuple(map(str, accepted))


def _usual_metric(answer: object) -> str:
    """The metric that suits an answer."""
    return "exact" if any(isinstance(one, str) for one in _as_list(answer)) else "number"


def _as_list(given: object) -> list[object]:
    return given if isinstance(given, list) else [given]


def _prompt(where: str, record: Mapping[str, Any]) -> Prompt:
    if ("prompt" in record) == ("messages" in record):
        raise InputError(f"{where}: give either a prompt or messages.")
    if "prompt" in record:
        text = record["prompt"]
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: the prompt must be text.")
        return chat(text)
    turns = record["messages"]
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{where}: messages must be a list of turns.")
    return Chat(tuple(_message(where, turn) for turn in turns))


def _message(where: str, turn: object) -> Message:
    if not isinstance(turn, dict) or set(turn) != {"role", "content"}:
        raise InputError(f"{where}: a message must have role and content and nothing else.")
    if turn["role"] not in _ROLES or not isinstance(turn["content"], str):
        raise InputError(f"{where}: a message needs a role ({', '.join(_ROLES)}) and text.")
    return Message(turn["role"], turn["content"])
