"""Reference texts: good answers of the user's own, along which sources are compared word by word.

Each line of a JSONL file has ``prompt`` (text) or ``messages``, and ``reference``: the answer, a
text that a user would like to get. ``id`` and ``group`` are optional.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cf_local.errors import InputError
from cf_local.evaluation.tasks.file import read_item, read_items
from cf_local.evaluation.tasks.task import Item, Task
from cf_local.evaluation.tasks.textfile import json_objects

KIND = "references"
NO_FILE = (
    "Name the file with the texts: references:FILE.jsonl. Each line is an object with a prompt (or "
    "messages) and a reference, the text of a good answer."
)
_FIELDS = ("prompt", "messages", "reference", "id", "group")


class ReferenceFile(Task):
    """The texts of a file. An item's answer is its reference, without whitespace at the ends.

    Raises InputError, with file and line, for anything in the file that is not valid.
    """

    stop = ()

    def __init__(self, path: Path) -> None:
        self.name = path.name
        read = partial(read_item, answer_of=_reference, fields=_FIELDS)
        self._items = read_items(json_objects(path), read)

    def items(self) -> Sequence[Item]:
        """The texts in the order of the file."""
        return self._items

    def is_right(self, item: Item, text: str) -> bool:
        """Whether ``text`` is the reference itself; the usual verdict is by word (``walk``)."""
        return (text.strip(),) == item.accepted


def _reference(where: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    if "reference" not in record:
        raise InputError(f"{where}: the reference is missing.")
    text = record["reference"]
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: the reference must be text.")
    return (text.strip(),)
