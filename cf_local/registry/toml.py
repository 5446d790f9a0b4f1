"""A TOML file whose errors name the file, the line if it can be found, and the nearest word.

The standard library's parser does not keep line numbers, so a line is looked up again in the text.
That works for the usual layout of TOML: a header and ``key = value`` lines.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cf_local.errors import ConfigError

_TWICE = re.compile("overwrite a value|[Cc]annot declare|[Cc]annot mutate")
_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
ValueType = type | tuple[type, ...]
"""The type of a value in a file, or the types that it may have."""
_TYPE_NAMES: dict[ValueType, str] = {
    **{str: "text", int: "a whole number", list: "a list", dict: "a table"},
    (dict, str): 'a table, or "size" or "equal"',
    (int, float): "a number",
    (int, str): "a size, such as 4GB or 500000000",
}


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A file that was read; ``origin`` is its name in messages, ``tables`` its content."""

    path: Path
    origin: str
    text: str
    tables: dict[str, Any]

    @classmethod
    def read(cls, path: Path, origin: str) -> "TomlFile":
        """Read a file, without the byte order mark that some editors write.

        Raises ConfigError when the file is missing, unreadable, not UTF-8 or not TOML.
        """
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except (OSError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                line = error.object.count(b"\n", 0, error.start) + 1
                raise ConfigError(f"{origin}, line {line}: this is not UTF-8 text.") from error
            reason = getattr(error, "strerror", None) or error  # a NUL in a path is a ValueError
            raise ConfigError(f"{origin}: cannot be read: {reason}.") from error
        try:
            return cls(path, origin, text, tomllib.loads(text))
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
            hint = " A key or a table occurs twice." if _TWICE.search(str(error)) else ""
            raise ConfigError(f"{origin}: this is not valid TOML: {error}.{hint}") from error

    def line(self, where: tuple[str, ...]) -> int | None:
        """The line (the first is 1) of the value at ``where``, None if it cannot be found.

        A key within an inline table is on the line of the table.
        """
        found = _find_line(self.text, where)
        return _find_line(self.text, where[:-1]) if found is None and len(where) > 3 else found

    def error(self, where: tuple[str, ...], message: str) -> ConfigError:
        """An error about the value at ``where``, a path of table names and perhaps a key."""
        line = self.line(where)
        place = self.origin if line is None else f"{self.origin}, line {line}"
        return ConfigError(f"{place}: {message}")

    def check_keys(
        self, where: tuple[str, ...], table: Mapping[str, object], known: Mapping[str, ValueType]
    ) -> None:
        """Raise ConfigError for an unknown key in the table, or one of the wrong type."""
        for key, value in table.items():
            if key not in known:
                hint = nearest(key, known)
                raise self.error((*where, key), f"unknown key {key!r}{hint}.")
            kind = known[key]
            types = (int, float) if kind is float else kind if isinstance(kind, tuple) else (kind,)
            if type(value) not in types:  # not isinstance: true is not a whole number
                message = f"{key} must be {_TYPE_NAMES[kind]}, not {value!r}."
                raise self.error((*where, key), message)
            if isinstance(value, str) and "\0" in value:  # not in a path, a template or a name
                raise self.error((*where, key), f"{key} contains a NUL character.")


def nearest(name: str, known: Iterable[str], *, fold: Callable[[str], str] = str.lower) -> str:
    """The end of a sentence that asks whether the most similar known word is meant, or nothing."""
    matches = difflib.get_close_matches(fold(name), list(known), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _find_line(text: str, where: tuple[str, ...]) -> int | None:
    """The line of a key (the first is 1), or of its table's header if the key is not found."""
    *tables, key = where
    assignment = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
    header, header_line = "", None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _HEADER.fullmatch(line):
            header = re.sub(r"[\"'\s]", "", match[1])
            if header == ".".join(where) or (not tables and header.startswith(f"{key}.")):
                return number
            if header == ".".join(tables):
                header_line = number
        elif header == ".".join(tables) and assignment.match(line):
            return number
    return header_line


Layer = tuple[TomlFile, Mapping[str, Mapping[str, Any]]]
"""A file and its tables of one kind by name, checked."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that a value is from (or "built in"), and the line if it can be found."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Merged:
    """An entry of all layers: values by key, the file of each value, and the layers that have it.

    ``files_by_key`` has the same keys as ``values``. ``layers`` are ordered, lowest first, from the
    one that says what the entry is.
    """

    values: Mapping[str, Any]
    files_by_key: Mapping[str, TomlFile]
    layers: tuple[TomlFile, ...]

    def file_of(self, *keys: str) -> TomlFile:
        """The highest layer that sets one of the keys, or else the entry's highest layer."""
        given = [self.files_by_key[key] for key in keys if key in self.files_by_key]
        return max(given or self.layers, key=self.layers.index)


def merge(
    layers: Iterable[Layer], starts: Set[str], drops: Mapping[str, Set[str]]
) -> dict[str, Merged]:
    """The entries of all layers by name; the lowest layer comes first.

    A table with a key of ``starts`` replaces the one below. A key of ``drops`` drops the keys of
    lower layers that it makes untrue.
    """
    merged: dict[str, Merged] = {}
    for file, tables in layers:
        for name, table in tables.items():
            below = merged.get(name)
            if below is None or starts & table.keys():
                below = Merged({}, {}, ())
            untrue = frozenset().union(*(drops[key] for key in drops.keys() & table.keys()))
            kept = below.values.keys() - untrue
            merged[name] = Merged(
                {key: value for key, value in below.values.items() if key in kept} | dict(table),
                {key: f for key, f in below.files_by_key.items() if key in kept}
                | dict.fromkeys(table, file),
                (*below.layers, file),
            )
    return merged
