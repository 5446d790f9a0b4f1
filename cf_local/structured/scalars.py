"""Rules for JSON numbers within bounds, and for JSON strings with a length, format or pattern.

Lone surrogates are never written: two of them would count as one character.
"""

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from cf_local.errors import InputError
from cf_local.structured.pattern import pattern_rule
from cf_local.structured.rules import Rules

_MOST_DIGITS = 16
INTEGER = f'"-"? ("0" | [1-9] [0-9]{{0,{_MOST_DIGITS - 1}}})'
NUMBER = INTEGER + ' ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?'
_FRACTION_DIGITS = 6
_UNIT = 10**_FRACTION_DIGITS
_MOST = (10**_MOST_DIGITS - 1) * _UNIT
_EXACT_FRACTIONS = 10**9  # below it, no such fraction rounds to another one or to a whole number


_CHAR = (
    r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" '
    r"([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))"
)
_DAYS = (
    '("0" [1-9] | [12] [0-9] | "3" [01])',
    '("0" [1-9] | [12] [0-9] | "30")',
    '("0" [1-9] | "1" [0-9] | "2" [0-8])',  # not February 29, which does not exist every year
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
_LABEL = "[a-z0-9] ([a-z0-9-]{0,20} [a-z0-9])?"
_HOST = f'{_LABEL} ("." {_LABEL}){{1,3}}'
_PATH = "[A-Za-z0-9._~/-]{0,200}"
_QUERY = '("?" [A-Za-z0-9._~=&+-]{0,200})?'
_N = "[0-9]{1,4}"
FORMATS: Mapping[str, tuple[str, int, int]] = {
    "date": (_DATE, 10, 10),
    "time": (_TIME, 9, 21),
    "date-time": (f'{_DATE} "T" {_TIME}', 20, 32),
    "duration": (f'"P" ({_N} "D" ("T" {_N} [HMS])? | "T" {_N} [HMS])', 4, 12),
    "uuid": (
        f'{_HEX}{{8}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{12}}',
        36,
        36,
    ),
    "ipv4": (f'{_BYTE} "." {_BYTE} "." {_BYTE} "." {_BYTE}', 7, 15),
    "hostname": (_HOST, 3, 91),
    "email": (f'[a-z0-9] [a-z0-9._+-]{{0,29}} [a-z0-9] "@" {_HOST}', 6, 123),
    "uri": (f'"http" "s"? "://" {_HOST} ("/" {_PATH} {_QUERY})?', 10, 501),
}
"""The supported formats: the rule for the text within the quotation marks, its least and greatest
number of characters."""
# Formats of the standard that have no rule; all other names are annotations.
_OTHER_FORMATS = frozenset({"ipv6", "idn-email", "idn-hostname", "iri", "iri-reference", "regex"})
_OTHER_FORMATS |= {"uri-reference", "uri-template", "json-pointer", "relative-json-pointer"}


def integer_rule(low: int | None, high: int | None) -> str:
    """Whole numbers from ``low`` to ``high``; None stands for a bound of 16 digits."""
    if low is None and high is None:
        return INTEGER
    return " | ".join(_integers(*_closed(low, high)))


def number_rule(low: int | None, high: int | None) -> str:
    """Numbers from ``low`` to ``high``, in millionths: with up to 6 digits after the point."""
    if low is None and high is None:
        return NUMBER
    first, last = -_MOST if low is None else low, _MOST if high is None else high
    ways = []
    if first < 0:
        ways += [f'"-" ({way})' for way in _positive(max(1, -last), -first)]
    if last >= 0:
        ways += _positive(max(0, first), last)
    return " | ".join(ways)


def bounds(schema: dict[str, Any], where: str, *, whole: bool) -> tuple[int | None, int | None]:
    """The bounds in a schema, both included: of integers, or of numbers in millionths.

    ``whole``: for type "integer". Raises InputError, with the place ``where`` in the schema.
    """
    unit = 1 if whole else _UNIT
    low, high = (_bound(schema, key, where, unit) for key in ("minimum", "maximum"))
    above, below = (
        _bound(schema, key, where, unit) for key in ("exclusiveMinimum", "exclusiveMaximum")
    )
    lows = [math.ceil(low)] if low is not None else []
    lows += [math.floor(above) + 1] if above is not None else []
    highs = [math.floor(high)] if high is not None else []
    highs += [math.ceil(below) - 1] if below is not None else []
    first, last = max(lows, default=None), min(highs, default=None)
    if first is not None and last is not None and first > last:
        raise InputError(f"{where}: there is no number between its bounds")
    return first, last


def _bound(schema: dict[str, Any], key: str, where: str, unit: int) -> Decimal | None:
    if key not in schema:
        return None
    value: Any = schema[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and abs(value) < 10**_MOST_DIGITS):
        raise InputError(f"{where}: {key} must be a number of at most 16 digits, not {value!r}")
    return Decimal(str(value)) * unit


def _closed(low: int | None, high: int | None) -> tuple[int, int]:
    most = 10**_MOST_DIGITS - 1
    return (-most if low is None else low, most if high is None else high)


def _positive(low: int, high: int) -> list[str]:
    """Alternatives for the numbers from ``low`` to ``high`` millionths, both at least 0."""
    (first, start), (last, end) = divmod(low, _UNIT), divmod(high, _UNIT)
    if first == last:
        return _with_fraction(first, start, end)
    ways = _with_fraction(first, start, _UNIT - 1)
    limit = min(last, _EXACT_FRACTIONS)
    if first + 1 < limit:
        ways.append(f'({" | ".join(_digits(first + 1, limit - 1))}) ("." [0-9]{{1,6}})?')
    if max(first + 1, limit) < last:
        ways += _digits(max(first + 1, limit), last - 1)
    return ways + _with_fraction(last, 0, end)


def _with_fraction(whole: int, start: int, end: int) -> list[str]:
    """Alternatives for ``whole`` plus ``start`` to ``end`` millionths."""
    ways = [f'"{whole}"'] if start == 0 else []
    if whole >= _EXACT_FRACTIONS:
        return ways
    for n_digits in range(1, _FRACTION_DIGITS + 1):
        step = 10 ** (_FRACTION_DIGITS - n_digits)
        first, last = -(-start // step), end // step
        if first <= last:
            texts = (str(value).zfill(n_digits) for value in (first, last))
            ways += [f'"{whole}." {way}' for way in _same_length(*texts)]
    return ways


def _integers(low: int, high: int) -> Iterator[str]:
    """Alternatives for the whole numbers from ``low`` to ``high``."""
    if low < 0:
        yield from (f'"-" {way}' for way in _digits(max(1, -high), -low))
    if high >= 0:
        yield from _digits(max(0, low), high)


def _digits(low: int, high: int) -> Iterator[str]:
    """Alternatives for the numbers from ``low`` to ``high``, both at least 0."""
    for n_digits in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (n_digits - 1) if n_digits > 1 else 0)
        last = min(high, 10**n_digits - 1)
        yield from _same_length(str(first), str(last))


def _same_length(first: str, last: str) -> Iterator[str]:
    """Alternatives for the numbers between two with the same number of digits."""
    if len(first) == 1:
        yield _digit(first, last)
        return
    zeros, nines = "0" * (len(first) - 1), "9" * (len(first) - 1)
    start, end = int(first[0]), int(last[0])
    if start == end:
        yield from _after(first[0], first[1:], last[1:])
        return
    if first[1:] != zeros:
        yield from _after(first[0], first[1:], nines)
        start += 1
    is_open = last[1:] != nines
    if start <= end - is_open:
        yield f"{_digit(str(start), str(end - is_open))} [0-9]{{{len(nines)}}}"
    if is_open:
        yield from _after(last[0], zeros, last[1:])


def _after(digit: str, first: str, last: str) -> Iterator[str]:
    return (f"{_digit(digit, digit)} {way}" for way in _same_length(first, last))


def _digit(first: str, last: str) -> str:
    return f'"{first}"' if first == last else f"[{first}-{last}]"


def any_string(rules: Rules) -> str:
    """The name of the rule for any string."""
    return rules.add("string", rf'"\"" {char_rule(rules)}* "\""')


def char_rule(rules: Rules) -> str:
    """The name of the rule for one character of a string, escaped where necessary."""
    return rules.add("char", _CHAR)


def string_rule(rules: Rules, schema: dict[str, Any], where: str) -> str:
    """The name of the rule for the strings that a schema allows. Raises InputError."""
    low, high = lengths(schema, "minLength", "maxLength", where)
    form = _format(schema["format"], where) if "format" in schema else None
    if "pattern" in schema:
        if form is not None:
            raise InputError(f"{where}: pattern and format cannot be combined; use only one")
        if not isinstance(schema["pattern"], str):
            raise InputError(f"{where}/pattern: it must be a string")
        inside = pattern_rule(schema["pattern"], f"{where}/pattern", low, high)
    elif form is not None:
        inside, least, most = form
        if low > least or (high is not None and high < most):
            raise InputError(
                f"{where}: format {schema['format']} has {least} to {most} characters here; "
                "minLength and maxLength cannot narrow that"
            )
    elif low or high is not None:
        inside = rules.counted(char_rule(rules), low, high)
    else:
        return any_string(rules)
    return rules.add("string", rf'"\"" {inside} "\""')


def lengths(
    schema: dict[str, Any], low_key: str, high_key: str, where: str
) -> tuple[int, int | None]:
    """The minimum and maximum of a length or count; a maximum of None is unlimited."""
    low, high = schema.get(low_key, 0), schema.get(high_key)
    for key, value in ((low_key, low), (high_key, high)):
        if (value is None and key in schema) or not _is_count(value):
            raise InputError(
                f"{where}/{key}: it must be a whole number of at least 0, not {value!r}"
            )
    low, high = int(low), None if high is None else int(high)
    if high is not None and low > high:
        raise InputError(f"{where}: {low_key} {low} is above {high_key} {high}")
    return low, high


def _is_count(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return value is None or (isinstance(value, int | float) and value >= 0 and value % 1 == 0)


def _format(name: Any, where: str) -> tuple[str, int, int] | None:
    """The rule and the lengths of a format; None for one that the standard does not have."""
    if name in _OTHER_FORMATS or not isinstance(name, str):
        raise InputError(
            f"{where}/format: {name!r} is not supported; use one of {', '.join(FORMATS)}"
        )
    return FORMATS.get(name)
