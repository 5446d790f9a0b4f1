"""Rules for numbers, whole or not, within bounds."""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from cf_local.errors import InputError

_MOST_DIGITS = 16
INTEGER = f'"-"? ("0" | [1-9] [0-9]{{0,{_MOST_DIGITS - 1}}})'
NUMBER = INTEGER + ' ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?'
_FRACTION = '"." [0-9]{0,5} [1-9]'  # strictly between two whole numbers
_EXACT_FRACTIONS = 10**9  # below it, no such fraction is rounded to a whole number


def integer_rule(low: int | None, high: int | None) -> str:
    """Whole numbers from ``low`` to ``high``; a side that is None is open, 16 digits long."""
    if low is None and high is None:
        return INTEGER
    return " | ".join(_integers(*_closed(low, high)))


def number_rule(low: int | None, high: int | None) -> str:
    """Numbers from ``low`` to ``high``: whole ones, and fractions of up to 6 digits."""
    return _numbers(*_closed(low, high), low, high)


def bounds(schema: dict[str, Any], where: str, *, whole: bool) -> tuple[int | None, int | None]:
    """The bounds of a schema; those of numbers that are not ``whole`` must be whole themselves."""
    low, high = _bound(schema, "minimum", where), _bound(schema, "maximum", where)
    above = _bound(schema, "exclusiveMinimum", where)
    below = _bound(schema, "exclusiveMaximum", where)
    if not whole:
        for key, value in (("minimum", low), ("maximum", high)):
            if value is not None and value % 1:
                raise InputError(f"{where}: {key} of a number must be whole here, not {value}")
        for key, value in (("exclusiveMinimum", above), ("exclusiveMaximum", below)):
            if value is not None:
                raise InputError(f"{where}: {key} is only kept for integers; use another bound")
    lows = [math.ceil(low)] if low is not None else []
    lows += [math.floor(above) + 1] if above is not None else []
    highs = [math.floor(high)] if high is not None else []
    highs += [math.ceil(below) - 1] if below is not None else []
    first, last = max(lows, default=None), min(highs, default=None)
    if first is not None and last is not None and first > last:
        raise InputError(f"{where}: no number lies between its bounds")
    return first, last


def _bound(schema: dict[str, Any], key: str, where: str) -> Decimal | None:
    if key not in schema:
        return None
    value: Any = schema[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and abs(value) < 10**_MOST_DIGITS):
        raise InputError(f"{where}: {key} must be a number of at most 16 digits, not {value!r}")
    return Decimal(str(value))


def _closed(low: int | None, high: int | None) -> tuple[int, int]:
    most = 10**_MOST_DIGITS - 1
    return (-most if low is None else low, most if high is None else high)


def _numbers(first: int, last: int, low: int | None, high: int | None) -> str:
    if low is None and high is None:
        return NUMBER
    ways = list(_integers(first, last))
    # i.f lies in (i, i + 1), -i.f in (-i - 1, -i)
    limit = _EXACT_FRACTIONS
    above = range(max(first, 0), min(last, limit))
    if above:
        ways += [f"({' | '.join(_digits(above[0], above[-1]))}) {_FRACTION}"]
    below = range(max(-last, 0), min(-first, limit))
    if below:
        ways += [f'"-" ({" | ".join(_digits(below[0], below[-1]))}) {_FRACTION}']
    return " | ".join(ways)


def _integers(low: int, high: int) -> Iterator[str]:
    """Alternatives for the whole numbers from ``low`` to ``high``."""
    if low < 0:
        yield from (f'"-" {way}' for way in _digits(max(1, -high), -low))
    if high >= 0:
        yield from _digits(max(0, low), high)


def _digits(low: int, high: int) -> Iterator[str]:
    """Alternatives for the numbers from ``low`` to ``high``, neither below 0."""
    for n_digits in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (n_digits - 1) if n_digits > 1 else 0)
        last = min(high, 10**n_digits - 1)
        yield from _same_length(str(first), str(last))


def _same_length(first: str, last: str) -> Iterator[str]:
    """Alternatives for the numbers between two of the same length."""
    if len(first) == 1:
        yield _digit(first, last)
        return
    zeros, nines = "0" * (len(first) - 1), "9" * (len(first) - 1)
    start, end = int(first[0]), int(last[0])
    if start == end:
        yield from _behind(first[0], first[1:], last[1:])
        return
    if first[1:] != zeros:
        yield from _behind(first[0], first[1:], nines)
        start += 1
    is_open = last[1:] != nines
    if start <= end - is_open:
        yield f"{_digit(str(start), str(end - is_open))} [0-9]{{{len(nines)}}}"
    if is_open:
        yield from _behind(last[0], zeros, last[1:])


def _behind(digit: str, first: str, last: str) -> Iterator[str]:
    return (f"{_digit(digit, digit)} {way}" for way in _same_length(first, last))


def _digit(first: str, last: str) -> str:
    return f'"{first}"' if first == last else f"[{first}-{last}]"
