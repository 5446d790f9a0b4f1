"""Questions of the user's own, from a JSONL, CSV or TSV file.

Each question has ``prompt`` (text) or, in JSONL, ``messages`` (roles and contents), and ``answer``:
text, a number, or a list of all that are accepted (in a table: a cell with a JSON list).
``id``, ``group`` and ``metric`` are optional; any other name must begin with ``_``, or it counts as
a mistake.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
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
_ROLES = ("system", "user", "assistant")


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
        self._items: list[Item] = []
        self._metrics: dict[str, str] = {}
        places: dict[str, str] = {}
        records = json_objects(path) if path.suffix == ".jsonl" else _rows(path)
        for number, (where, record) in enumerate(records, start=1):
            item, chosen = _read(where, record, str(number), metric)
            if item.id in places:
                raise InputError(
                    f"{where}: the id {item.id!r} occurs before, in {places[item.id]}."
                )
            places[item.id] = where
            self._items.append(item)
            self._metrics[item.id] = chosen

    def items(self) -> Sequence[Item]:
        """The questions in the order of the file."""
        return self._items

    def is_right(self, item: Item, text: str) -> float:
        """The verdict of the question's metric."""
        return METRICS[self._metrics[item.id]](text, item.accepted)


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
                _check_keys(where, header)
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


def _check_keys(where: str, keys: Sequence[str]) -> None:
    for key in keys:
        if key not in _FIELDS and not key.startswith("_"):
            raise InputError(
                f"{where}: the key {key!r} is not known{nearest(key, _FIELDS)}. "
                f"Known are {', '.join(_FIELDS)}; begin others with _ to have them ignored."
            )


def _check_metric(where: str, metric: str | None) -> None:
    if metric is not None and metric not in METRICS:
        raise InputError(
            f"{where}: there is no metric {metric!r}{nearest(str(metric), METRICS)}; "
            f"there are {', '.join(METRICS)}."
        )


def _read(
    where: str, record: Mapping[str, Any], number: str, metric: str | None
) -> tuple[Item, str]:
    """The question of a record and its metric."""
    _check_keys(where, list(record))
    for key in ("id", "group", "metric"):
        if not isinstance(record.get(key, ""), str | int):
            raise InputError(f"{where}: {key} must be text.")
    answer, chosen = _answer(where, record)
    chosen = record.get("metric") or metric or chosen
    _check_metric(where, chosen)
    if reason := problem_with(chosen, answer):
        raise InputError(f"{where}: metric {chosen}: {reason}")
    group = str(record.get("group", ""))
    return Item(str(record.get("id", number)), _prompt(where, record), answer, group), chosen


def _answer(where: str, record: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """The accepted answers as text, and the metric that suits them."""
    if "answer" not in record:
        raise InputError(f"{where}: there is no answer.")
    given = record["answer"]
    accepted = given if isinstance(given, list) else [given]
    kinds = {type(one) for one in accepted}
    if not accepted or not kinds <= {str, int, float}:  # type(True) is bool, which is not an answer
        raise InputError(f"{where}: the answer must be text, a number or a list of them.")
    return tuple(map(str, accepted)), "number" if str not in kinds else "exact"


def _prompt(where: str, record: Mapping[str, Any]) -> Prompt:
    if ("prompt" in record) == ("messages" in record):
        raise InputError(f"{where}: there must be either a prompt or messages.")
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
