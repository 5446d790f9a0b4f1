"""Tables of several TOML files laid over each other, key by key, each value with its origin.

An entry of a higher layer changes single keys of the entry below it, unless it has a key that
says what the entry is (the file of a source, the sources of a fusion): then it takes its place,
since what was said about another model need not hold for this one.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from cf_local.registry.toml import TomlFile

Layer = tuple[TomlFile, Mapping[str, Mapping[str, Any]]]
"""A file and its tables of one kind by name, checked."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The file a value is from (or "built in"), and the line where that can be found."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Merged:
    """An entry of all layers: values by key, the file of each, and the layers that speak of it.

    ``files_by_key`` has the same keys as ``values``; ``layers`` are in their order, lowest first,
    from the one that says what the entry is.
    """

    values: Mapping[str, Any]
    files_by_key: Mapping[str, TomlFile]
    layers: tuple[TomlFile, ...]

    def file_of(self, *keys: str) -> TomlFile:
        """The highest layer that gives one of the keys, or else the highest of the entry."""
        given = [self.files_by_key[key] for key in keys if key in self.files_by_key]
        return max(given or self.layers, key=self.layers.index)


def merge(
    layers: Iterable[Layer], starts: Set[str], drops: Mapping[str, Set[str]]
) -> dict[str, Merged]:
    """The entries of all layers by name; the lowest layer comes first.

    A table with a key of ``starts`` takes the place of the one below. A key of ``drops`` drops the
    keys of lower layers that it makes untrue.
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
