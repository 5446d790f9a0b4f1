"""Read files of questions, with errors that name the file and line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cf_local.errors import InputError
from cf_local.types import is_unicode


def read_text(path: Path) -> str:
    """The text of a file. Raises InputError if it cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: this is not UTF-8 text.") from None


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers (the first is 1)."""
    # Split only at line feeds: str.splitlines also splits at U+2028, which JSON strings may hold.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r")


def json_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSONL file, each with its place for error messages: "FILE, line N"."""
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: this is not JSON: {error.msg}.") from None
        if re.search(r"\\u[dD][89a-fA-F]", line) and not is_unicode(
            json.dumps(record, ensure_ascii=False)
        ):
            raise InputError(f"{where}: a \\u escape is half a character (a lone surrogate).")
        if not isinstance(record, dict):
            raise InputError(f"{where}: this is not a JSON object.")
        yield where, record
