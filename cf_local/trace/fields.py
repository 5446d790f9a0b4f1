"""Fields of an unchecked JSON object: each has the expected type, or the file is refused.

Unknown fields are ignored, so that files of newer versions can be read.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from cf_local.errors import InputError

_MOST_SHOWN = 60  # characters of a wrong value that an error quotes
T = TypeVar("T")
_MOST = 2**53  # of counts and of seconds: their sums and charts stay finite
_MISSING: Any = object()


class Fields:
    """One object; errors give its place as ``where``: "FILE, line N" and the path within."""

    def __init__(self, values: object, where: str) -> None:
        """Raises InputError unless ``values`` is a JSON object."""
        if not isinstance(values, dict):
            raise InputError(f"{where}: {_short(values)} must be an object with named fields.")
        self.values: Mapping[str, Any] = values
        self.where = where

    def text(self, key: str, default: str = _MISSING) -> str:
        """A string; lone surrogates become U+FFFD."""
        return clean(self._get(key, str, "text", default))

    def flag(self, key: str, default: bool = _MISSING) -> bool:
        """True or false."""
        return self._get(key, bool, "true or false", default)

    def count(self, key: str, default: T = _MISSING) -> int | T:
        """A whole number of at least 0 (and at most 2**53)."""
        value = self.values.get(key)
        if default is not _MISSING and value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
            raise self._wrong(key, "a whole number of at least 0")
        return value

    def amount(self, key: str, default: T = _MISSING) -> float | T:
        """A number, for example of seconds: at least 0 and below 2**53."""
        value = _float(self.values.get(key))
        if default is not _MISSING and self.values.get(key) is None:
            return default
        if value is None or not 0 <= value < _MOST:
            raise self._wrong(key, "a number of at least 0")
        return value

    def score(self, key: str) -> float | None:
        """A number; None where the field is missing or null."""
        value = _float(self.values.get(key))
        if value is None and self.values.get(key) is not None:
            raise self._wrong(key, "a number or null")
        return value

    def names(self, key: str, default: list[str] = _MISSING) -> tuple[str, ...]:
        """A list of strings."""
        values = self._get(key, list, "a list of names", default)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(key, "a list of names")
        return tuple(map(clean, values))

    def inner(self, key: str) -> "Fields":
        """A nested object; an empty one if the field is missing."""
        return Fields(self.values.get(key, {}), f"{self.where}, {key}")

    def each(self, key: str, default: list[object] = _MISSING) -> Iterator["Fields"]:
        """The objects in a list."""
        for number, value in enumerate(self._get(key, list, "a list", default), start=1):
            yield Fields(value, f"{self.where}, {key} {number}")

    def choice(self, key: str, allowed: tuple[str, ...]) -> Any:
        """One of the ``allowed`` strings."""
        if self.values.get(key) not in allowed:
            raise self._wrong(key, f"one of {', '.join(allowed)}")
        return self.values[key]

    def _get(self, key: str, kind: type[T], expected: str, default: T = _MISSING) -> T:
        value = self.values.get(key, default)
        if not isinstance(value, kind):
            raise self._wrong(key, expected)
        return value

    def _wrong(self, key: str, expected: str) -> InputError:
        if key not in self.values:
            return InputError(f"{self.where}: {key} is missing; it must be {expected}.")
        return InputError(
            f"{self.where}: {key} is {_short(self.values[key])}; it must be {expected}."
        )


def clean(text: str) -> str:
    """The text with lone surrogates replaced: they cannot be encoded as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _float(value: object) -> float | None:
    """The value as a float; None if it is not a number (NaN included)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return None if math.isnan(number) else number


def _short(value: object) -> str:
    if isinstance(value, dict | list):  # however large or deep
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
