"""The table ``ray`` of a source in ``models.toml``: what it asks of a node of a Ray cluster."""

import math
from collections.abc import Mapping
from typing import Any

from cf_local.planning.memory import bytes_of
from cf_local.planning.nodes import Placement
from cf_local.registry.toml import TomlFile, ValueType

RAY_KEYS: Mapping[str, ValueType] = {
    "num_cpus": (int, float),
    "num_gpus": (int, float),
    "memory": (int, str),
    "resources": dict,
    "labels": dict,
    "round_trip_ms": (int, float),
}
"""The keys of the table, and their types."""


def placement_of(file: TomlFile, where: tuple[str, ...], table: Mapping[str, Any]) -> Placement:
    """What a table asks for. Raises ConfigError for a key or a value that makes no sense."""
    file.check_keys(where, table, RAY_KEYS)
    values = dict(table)
    if isinstance(text := values.get("memory"), str):
        values["memory"] = bytes_of(text)
        if values["memory"] is None:
            raise file.error(where, f"memory: {text!r} is not a size; write it as 500MB or 4GB.")
    numbers = {key: n for key, n in values.items() if key not in ("resources", "labels")}
    numbers |= {f"resources.{key}": n for key, n in values.get("resources", {}).items()}
    for key, n in numbers.items():
        if type(n) not in (int, float) or not 0 <= n < math.inf:
            raise file.error(where, f"{key}: {n!r} is not a number of at least 0.")
    for key, label in values.get("labels", {}).items():
        if not isinstance(label, str):
            raise file.error(where, f"labels.{key}: {label!r} is not text.")
    return Placement(**values)
