"""Whether no value can obey two schemas at once, as far as that is easily seen."""

from collections.abc import Callable, Mapping
from typing import Any

_DEEPEST = 6
_NUMBERS = frozenset({"integer", "number"})


def are_disjoint(
    one: Any, other: Any, resolved: Callable[[Any], Any], depth: int = _DEEPEST
) -> bool:
    """True only if it is certain: by constants, by types, or by a property both must have."""
    one, other = resolved(one), resolved(other)
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)) or depth == 0:
        return False
    values, more = _values(one), _values(other)
    if values is not None and more is not None:
        return not any(_equal(a, b) for a in values for b in more)
    kinds, others = _kinds(one, values), _kinds(other, more)
    if kinds is not None and others is not None and not kinds & others:
        return True
    if kinds != {"object"} or others != {"object"}:
        return False
    both = set(one.get("required", ())) & set(other.get("required", ()))
    return any(
        are_disjoint(one["properties"][n], other["properties"][n], resolved, depth - 1)
        for n in both
        if n in one.get("properties", {}) and n in other.get("properties", {})
    )


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _kinds(schema: Mapping[str, Any], values: list[Any] | None) -> set[str] | None:
    """The types of JSON a schema allows, whole numbers being numbers; None for any."""
    if values is not None:
        return {_kind(value) for value in values}
    given = schema.get("type")
    if given is None:
        return None
    kinds = {given} if isinstance(given, str) else set(given)
    return kinds - {"integer"} | {"number"} if kinds & _NUMBERS else kinds


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object"


def _equal(one: Any, other: Any) -> bool:
    return _kind(one) == _kind(other) and bool(one == other)
