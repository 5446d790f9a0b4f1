"""Checks values of a request against the JSON schemas that the OpenAPI description shows.

Supports only the keywords that ``parameters`` uses. Errors name the parameter as OpenAI's do.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from cf_local.server.api_errors import ApiError, invalid
from cf_local.types import is_unicode

Schema = Mapping[str, Any]

_NAMES = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_Holds = Callable[[float, float], bool]
_BOUNDS: tuple[tuple[str, str, _Holds], ...] = (
    ("minimum", "at least", lambda value, bound: value >= bound),
    ("maximum", "at most", lambda value, bound: value <= bound),
)
_SIZES: tuple[tuple[tuple[str, ...], str, _Holds], ...] = (
    (("minItems", "minLength", "minProperties"), "fewer", lambda size, bound: size >= bound),
    (("maxItems", "maxLength", "maxProperties"), "more", lambda size, bound: size <= bound),
)


def checked(value: Any, schema: Schema, param: str = "") -> Any:
    """``value``, with whole numbers as ints. Raises ApiError if it does not match ``schema``."""
    if "anyOf" in schema:
        return _any_of(value, schema["anyOf"], param)
    kind = _kind(value, schema, param)
    if kind == "integer":
        value = int(value)
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(map(str, schema["enum"]))
        raise _wrong(param, f"must be one of {allowed}", "invalid_value")
    _check_bounds(value, schema, kind, param)
    if kind == "array" and "items" in schema:
        return [checked(v, schema["items"], f"{param}[{i}]") for i, v in enumerate(value)]
    if kind == "object" and ("properties" in schema or "additionalProperties" in schema):
        return _checked_object(value, schema, param)
    if kind == "string":
        _check_text(value, param)
    return value


def _kind(value: Any, schema: Schema, param: str) -> str:
    kinds = schema.get("type", list(_NAMES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    for kind in kinds:
        if _is(value, kind):
            return str(kind)
    expected = " or ".join(_NAMES[kind] for kind in kinds)
    raise _wrong(param, f"must be {expected}", "invalid_type")


def _is(value: Any, kind: str) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return is_number and (isinstance(value, int) or value.is_integer())
    if kind == "number":
        return is_number
    kinds = {"string": str, "boolean": bool, "array": list, "object": dict, "null": type(None)}
    return isinstance(value, kinds[kind])


def _any_of(value: Any, schemas: list[Schema], param: str) -> Any:
    """The value by the first schema that accepts it; otherwise raises the most helpful error.

    That is the error of a schema with the given ``type`` or ``role`` that failed further inside.
    """
    errors: list[ApiError] = []
    for schema in schemas:
        try:
            return checked(value, schema, param)
        except ApiError as error:
            errors.append(error)
    is_other = (".type", ".role")
    raise max(
        errors,
        key=lambda error: (
            error.param != param,
            not str(error.param).endswith(is_other),
            error.code != "invalid_type",
        ),
    )


def _check_bounds(value: Any, schema: Schema, kind: str, param: str) -> None:
    if kind in ("integer", "number"):
        for key, limit, holds in _BOUNDS:
            if key in schema and not holds(value, schema[key]):
                raise _wrong(param, f"must be {limit} {schema[key]}", "invalid_value")
    if kind in ("array", "string", "object"):
        for keys, limit, holds in _SIZES:
            bound = next((schema[key] for key in keys if key in schema), None)
            if bound is not None and not holds(len(value), bound):
                unit = "characters" if kind == "string" else "entries"
                raise _wrong(param, f"must have no {limit} than {bound} {unit}", "invalid_value")


def _checked_object(value: dict[str, Any], schema: Schema, param: str) -> dict[str, Any]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    prefix = f"{param}." if param else ""
    found = {}
    for key, inner in value.items():
        if key in known:
            found[key] = checked(inner, known[key], f"{prefix}{key}")
        elif isinstance(others, Mapping):
            found[key] = checked(inner, others, f"{prefix}{_short(key)}")
        elif not others:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            name = f"{prefix}{_short(key)}"
            raise invalid(f"Unknown parameter: {name!r}.{hint}", name, "unknown_parameter")
        else:
            found[key] = inner
    for key in schema.get("required", ()):
        if key not in value:
            name = f"{prefix}{key}"
            message = f"Missing required parameter: {name!r}."
            raise invalid(message, name, "missing_required_parameter")
    return found


def _check_text(value: str, param: str) -> None:
    if not is_unicode(value):
        message = "contains half of a character (a lone surrogate), which is not text"
        raise _wrong(param, message, "invalid_value")


def _short(key: str) -> str:
    return key.encode(errors="replace").decode()[:60]


def _wrong(param: str, problem: str, code: str) -> ApiError:
    return invalid(f"{param or 'The request'} {problem}.", param or None, code)
