"""Rules for JSON strings: any, of some length, of a known format.

A lone half of a surrogate pair is never written: two of them would count as one character.
"""

from typing import Any

from cf_local.errors import InputError
from cf_local.structured.pattern import pattern_rule
from cf_local.structured.rules import Rules

_CHAR = (
    r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" '
    r"([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))"
)
_DAYS = (
    '("0" [1-9] | [12] [0-9] | "3" [01])',
    '("0" [1-9] | [12] [0-9] | "30")',
    '("0" [1-9] | "1" [0-9] | "2" [0-8])',  # the 29th of February is not every year's
)
_DATE = (
    '("20" | "19") [0-9]{2} "-" '
    f'(("0" [13578] | "10" | "12") "-" {_DAYS[0]} | ("0" [469] | "11") "-" {_DAYS[1]} '
    f'| "02-" {_DAYS[2]})'
)
_CLOCK = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
_TIME = f'{_CLOCK} ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [-+] {_CLOCK})'
_HEX = "[0-9a-f]"
_BYTE = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9]{2} | [1-9] [0-9] | [0-9])'
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": f'{_HEX}{{8}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{12}}',
    "ipv4": f'{_BYTE} "." {_BYTE} "." {_BYTE} "." {_BYTE}',
}
"""The formats that are kept, and what stands between the quotation marks."""


def any_string(rules: Rules) -> str:
    """The name of the rule for any string."""
    return rules.add("string", rf'"\"" {char_rule(rules)}* "\""')


def char_rule(rules: Rules) -> str:
    """The name of the rule for one character of a string, escaped where it must be."""
    return rules.add("char", _CHAR)


def string_rule(rules: Rules, schema: dict[str, Any], where: str) -> str:
    """The name of the rule for the strings that a schema allows."""
    given: list[str] = [key for key in ("pattern", "format") if key in schema]
    given += ["minLength and maxLength"] if schema.keys() & {"minLength", "maxLength"} else []
    if len(given) > 1:
        raise InputError(f"{where}: {' with '.join(given)} cannot be kept; leave one of them out")
    if "pattern" in schema:
        if not isinstance(schema["pattern"], str):
            raise InputError(f"{where}/pattern: it must be a string")
        inside = pattern_rule(schema["pattern"], f"{where}/pattern")
    elif "format" in schema:
        inside = _format(schema["format"], where)
    elif given:
        low, high = lengths(schema, "minLength", "maxLength", where)
        inside = rules.counted(char_rule(rules), low, high)
    else:
        return any_string(rules)
    return rules.add("string", rf'"\"" {inside} "\""')


def lengths(
    schema: dict[str, Any], low_key: str, high_key: str, where: str
) -> tuple[int, int | None]:
    """The smallest and the largest number of something, None without end."""
    low, high = schema.get(low_key, 0), schema.get(high_key)
    for key, value in ((low_key, low), (high_key, high)):
        if (value is None and key in schema) or not _is_count(value):
            raise InputError(f"{where}/{key}: it must be a whole number from 0, not {value!r}")
    low, high = int(low), None if high is None else int(high)
    if high is not None and low > high:
        raise InputError(f"{where}: {low_key} {low} is above {high_key} {high}")
    return low, high


def _is_count(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return value is None or (isinstance(value, int | float) and value >= 0 and value % 1 == 0)


def _format(name: Any, where: str) -> str:
    if not isinstance(name, str) or name not in FORMATS:
        raise InputError(f"{where}/format: {name!r} cannot be kept; known are {', '.join(FORMATS)}")
    return FORMATS[name]
