"""Schemas of tools that hold what no grammar can guarantee: the same with less and less of it.

Agents send schemas of all kinds and check the arguments themselves. The grammar then guarantees
what it can, and the rest is left to the models, which read the whole schema in their prompt.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_CHOICES = ("anyOf", "oneOf", "allOf")
_STRUCTURE = ("type", "properties", "required", "additionalProperties", "items", "prefixItems")
_LIMITS = (
    *("format", "pattern", "uniqueItems", "minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
)
_VALUES = ("enum", "const")


def relaxed(schema: Any) -> Iterator[Any]:
    """``schema``, then ever wider ones; the last allow any value of its type, and any value.

    Nested schemas are the same objects in all of them.
    """
    yield schema
    if not isinstance(schema, Mapping):
        return
    known = _known(schema)
    yield known
    for key in _LIMITS:
        if known.pop(key, None) is not None:
            yield known
    for key in ("required", "items", "prefixItems", "additionalProperties", "properties"):
        if known.pop(key, None) is not None:
            yield known
    if "type" in known:
        yield {"type": known["type"]}
    yield {}


def _known(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema in the keywords that are supported, as far as they can be combined."""
    schema = _current(_merged(schema))
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    for key in _VALUES:
        if key in schema:
            return _nullable(schema, {k: schema[k] for k in ("type", key) if k in schema})
    if not schema.keys() & {"properties", "items", "prefixItems"}:
        for key in _CHOICES:
            if key in schema:
                return {"anyOf": schema[key]} if key == "oneOf" else {key: schema[key]}
    keys = (*_STRUCTURE, *_LIMITS)
    return _nullable(schema, {key: schema[key] for key in keys if key in schema})


def _merged(schema: Mapping[str, Any]) -> dict[str, Any]:
    """``allOf`` of several plain schemas as one schema; of keywords they share, the first holds."""
    parts = schema.get("allOf")
    if not isinstance(parts, list | tuple) or not all(isinstance(p, Mapping) for p in parts):
        return dict(schema)
    if any("$ref" in part for part in parts):
        return dict(schema)
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        for key, value in part.items():
            before = merged.get(key)
            if isinstance(before, Mapping) and isinstance(value, Mapping):
                merged[key] = {**before, **{k: v for k, v in value.items() if k not in before}}
            elif key == "required" and isinstance(before, list) and isinstance(value, list):
                merged[key] = [*before, *value]
            else:
                merged.setdefault(key, value)
    return merged


def _current(schema: dict[str, Any]) -> dict[str, Any]:
    """Keywords of older drafts as they are written now."""
    items = schema.get("items")
    if isinstance(items, list | tuple):
        schema = {**schema, "prefixItems": items, "items": schema.get("additionalItems", True)}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool):  # draft 4
            is_exclusive = schema[exclusive]
            schema = {key: value for key, value in schema.items() if key != exclusive}
            if is_exclusive and bound in schema:
                schema[exclusive] = schema.pop(bound)
    return schema


def _nullable(schema: Mapping[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """``known``, with null if OpenAPI's ``nullable`` allows it."""
    if schema.get("nullable") is not True:
        return known
    kind = known.get("type")
    if isinstance(kind, str | list | tuple):
        kinds = [kind] if isinstance(kind, str) else [*kind]
        known["type"] = kinds if "null" in kinds else [*kinds, "null"]
    if isinstance(values := known.get("enum"), list | tuple) and None not in values:
        known["enum"] = [*values, None]
    return known
