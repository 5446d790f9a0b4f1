"""Fields of a JSON object that nobody has checked yet: each is of its kind or the file is refused.

Fields that nobody asks for are left alone, so that files of newer versions can be read.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from cf_local.errors import InputError

_TOLD = 60  # characters of a wrong value that an error repeats
T = TypeVar("T")
_MOST = 2**53  # of what is counted, and of seconds: sums and pictures of them stay finite
_MISSING: Any = object()


class Fields:
    """One object; ``where`` says in errors where it stands: "FILE, line N" and what is in it."""

    def __init__(self, values: object, where: str) -> None:
        """Raises InputError when ``values`` is no JSON object."""
        if not isinstance(values, dict):
            raise InputError(f"{where}: {_short(values)} must be an object with named fields.")
        self.values: Mapping[str, Any] = values
        self.where = where

    def text(self, key: str, default: str = _MISSING) -> str:
        """A string; half characters (lone surrogates) become U+FFFD."""
        return clean(self._get(key, str, "text", default))

    def flag(self, key: str, default: bool = _MISSING) -> bool:
        """True or false."""
        return self._get(key, bool, "true or false", default)

    def count(self, key: str, default: T = _MISSING) -> int | T:
        """A whole number of at least 0."""
        value = self.values.get(key)
        if default is not _MISSING and value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
            raise self._wrong(key, "a whole number of at least 0")
        return value

    def seconds(self, key: str, default: float = _MISSING) -> float:
        """A number of at least 0, and of no more than a lifetime."""
        value = _float(self.values.get(key, default))
        if value is None or not 0 <= value < _MOST:
            raise self._wrong(key, "a number of at least 0")
        return value

    def score(self, key: str) -> float | None:
        """A number, or None where there is none or null."""
        value = _float(self.values.get(key))
        if value is None and self.values.get(key) is not None:
            raise self._wrong(key, "a number or null")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self._get(key, list, "a list of names")
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(key, "a list of names")
        return tuple(map(clean, values))

    def inner(self, key: str) -> "Fields":
        """An object within; an empty one if there is none."""
        return Fields(self.values.get(key, {}), f"{self.where}, {key}")

    def each(self, key: str) -> Iterator["Fields"]:
        """The objects of a list."""
        for number, value in enumerate(self._get(key, list, "a list"), start=1):
            yield Fields(value, f"{self.where}, {key} {number}")

    def choice(self, key: str, allowed: tuple[str, ...]) -> Any:
        """One of the strings allowed."""
        if self.values.get(key) not in allowed:
            raise self._wrong(key, f"one of {', '.join(allowed)}")
        return self.values[key]

    def _get(self, key: str, kind: type[T], told: str, default: T = _MISSING) -> T:
        value = self.values.get(key, default)
        if not isinstance(value, kind):
            raise self._wrong(key, told)
        return value

    def _wrong(self, key: str, told: str) -> InputError:
        if key not in self.values:
            return InputError(f"{self.where}: {key} is missing; it must be {told}.")
        return InputError(f"{self.where}: {key} is {_short(self.values[key])}; it must be {told}.")


def clean(text: str) -> str:
    """The text without half characters, which could not be written anywhere."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _float(value: object) -> float | None:
    """A number that is one; None for anything else."""
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
    return text if len(text) <= _TOLD else f"{text[: _TOLD - 3]}..."
