r"""Regular expressions of JSON schemas as GBNF: anchored ones, without backtracking.

Supported: ``^...$`` with literals, escapes, classes, groups, alternatives and counts. Where Python
and JavaScript differ (``\w``, ``.``, negations), the rule is narrow enough for both. Left out, and
refused: look-around, back-references, flags, ``\b``, patterns not anchored at both ends.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cf_local.errors import InputError
from cf_local.structured.rules import char_class, literal

_Ranges = list[tuple[int, int]]

_CLASSES: dict[str, _Ranges] = {
    "d": [(48, 57)],
    "w": [(48, 57), (65, 90), (95, 95), (97, 122)],
    "s": [(32, 32)],  # JSON must escape all others
}
_MUST_ESCAPE: _Ranges = [(0, 31), (34, 34), (92, 92), (127, 127)]
_LINE_ENDS: _Ranges = [(0x85, 0x85), (0x2028, 0x2029)]
_PRINTABLE = range(32, 127)
_MOST_TURNS = 1000
_COUNTS: Mapping[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_DEEPEST = 50


class _Part(NamedTuple):
    """An item of a pattern: its rule, its length in characters, and how often it comes.

    An upper bound of None is unlimited.
    """

    rule: str
    shortest: int
    longest: int | None
    least: int = 1
    most: int | None = 1

    @property
    def lengths(self) -> tuple[int, int | None]:
        """The least and the greatest number of characters of all its turns."""
        is_open = self.most is None or self.longest is None
        most = None if is_open else (self.most or 0) * (self.longest or 0)
        return self.least * self.shortest, 0 if self.most == 0 or self.longest == 0 else most

    @property
    def text(self) -> str:
        """The rule with its count."""
        if (self.least, self.most) == (1, 1):
            return self.rule
        return f"{self.rule}{{{self.least},{'' if self.most is None else self.most}}}"


def pattern_rule(pattern: str, where: str, low: int = 0, high: int | None = None) -> str:
    """The body of a rule for the text of a matching string, within its quotation marks.

    The string has from ``low`` to ``high`` characters (None: any number). ``where`` is the
    pattern's place in the schema. Raises InputError for what is not supported.
    """
    if not (pattern.startswith("^") and pattern.endswith("$")) or pattern.endswith("\\$"):
        raise InputError(f"{where}: {pattern!r} must start with ^ and end with $")
    return _PatternParser(pattern, where).whole(low, high)


class _PatternParser:
    """A recursive descent parser of one pattern."""

    def __init__(self, pattern: str, where: str) -> None:
        self._pattern, self._where = pattern, where
        self._text, self._at, self._depth = pattern[1:-1], 0, 0

    def whole(self, low: int, high: int | None) -> str:
        parts = self._sequence()
        if self._peek() == "|":
            raise self._error("put the alternatives between ^ and $ in parentheses")
        if self._at < len(self._text):
            raise self._error("there is an unmatched )")
        return _text(self._within(parts, low, high))

    def _within(self, parts: list[_Part], low: int, high: int | None) -> list[_Part]:
        """The parts, where need be with fewer turns of the one that may come more or less often."""
        shortest, longest = _lengths(parts)
        if shortest >= low and (high is None or (longest is not None and longest <= high)):
            return parts
        free = [i for i, part in enumerate(parts) if part.lengths[0] != part.lengths[1]]
        if len(free) == 1 and (parts[free[0]].shortest, parts[free[0]].longest) == (1, 1):
            part = parts[free[0]]
            others = shortest - part.least
            least = max(part.least, low - others)
            mosts = [] if high is None else [high - others]
            mosts += [] if part.most is None else [part.most]
            most = min(mosts, default=None)
            if most is None or least <= most:
                parts[free[0]] = part._replace(least=least, most=most)
                return parts
        raise self._error(
            "minLength and maxLength cannot narrow this pattern; put the counts into it"
        )

    def _alternatives(self) -> tuple[str, int, int | None]:
        """The rule of alternatives, and the least and the greatest length of any of them."""
        ways = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            ways.append(self._sequence())
        shortest, longest = zip(*map(_lengths, ways), strict=True)
        most = None if None in longest else max(n for n in longest if n is not None)
        return " | ".join(_text(way) or '""' for way in ways), min(shortest), most

    def _sequence(self) -> list[_Part]:
        items = []
        while self._peek() not in ("", "|", ")"):
            atom = self._atom()
            least, most = self._count()
            items.append(atom._replace(least=least, most=most))
        return items

    def _atom(self) -> _Part:
        if self._peek() == "(":
            self._at += 1
            return self._group()
        return _Part(self._char(), 1, 1)

    def _char(self) -> str:
        char = self._take()
        if char == "[":
            return self._class()
        if char == ".":
            return char_class([*_MUST_ESCAPE, *_LINE_ENDS], negated=True)
        if char == "\\":
            return self._escape()
        if char in "*+?{}^$]":
            raise self._error(f"{char!r} is not allowed here")
        return _written(ord(char))

    def _group(self) -> _Part:
        if self._text.startswith("?:", self._at):
            self._at += 2
        elif self._peek() == "?":
            raise self._error("only the groups ( ) and (?: ) are supported")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"groups are nested more than {_DEEPEST} deep")
        body, shortest, longest = self._alternatives()
        self._depth -= 1
        if self._take() != ")":
            raise self._error("a ) is missing")
        return _Part(f"( {body} )", shortest, longest)

    def _escape(self) -> str:
        kind = self._peek()
        if kind in _CLASSES:
            self._at += 1
            return char_class(_CLASSES[kind])
        if kind.lower() in _CLASSES and kind:
            self._at += 1
            return char_class(_but(_CLASSES[kind.lower()]))
        return _written(self._escaped_point())

    def _escaped_point(self) -> int:
        char = self._take()
        simple = {"t": 9, "n": 10, "r": 13, "f": 12, "v": 11}
        if char in simple:
            return simple[char]
        if char in ("x", "u"):
            n_digits = 2 if char == "x" else 4
            digits = self._text[self._at : self._at + n_digits]
            self._at += n_digits
            if len(digits) < n_digits or not set(digits) <= set("0123456789abcdefABCDEF"):
                raise self._error(f"\\{char} needs {n_digits} hexadecimal digits")
            point = int(digits, 16)
            if 0xD800 <= point < 0xE000:
                raise self._error("lone surrogates are not supported")
            return point
        if not char or char.isalnum():
            raise self._error(f"\\{char} is not supported")
        return ord(char)

    def _class(self) -> str:
        is_negated = self._peek() == "^"
        self._at += is_negated
        ranges: _Ranges = []
        has_kind = False
        while self._peek() != "]":
            if not self._peek():
                raise self._error("a ] is missing")
            found, is_kind = self._class_item()
            ranges += found
            has_kind = has_kind or is_kind
        self._at += 1
        if is_negated:
            refused = [*ranges, *_MUST_ESCAPE]
            return char_class(_but(ranges)) if has_kind else char_class(refused, negated=True)
        return _any_of(ranges) or self._nothing()

    def _class_item(self) -> tuple[_Ranges, bool]:
        if self._peek() == "\\" and self._text[self._at + 1 : self._at + 2].lower() in _CLASSES:
            kind = self._text[self._at + 1]
            self._at += 2
            found = _CLASSES[kind.lower()]
            return (found if kind.islower() else _but(found)), True
        first = last = self._class_point()
        if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
            self._at += 1
            last = self._class_point()
        if last < first:
            raise self._error("the end of a range is below its start")
        return [(first, last)], False

    def _class_point(self) -> int:
        char = self._take()
        if char == "[":
            raise self._error("write \\[ within a class")
        if char == "\\":
            if self._peek() == "b" or self._peek().lower() in _CLASSES:
                raise self._error(f"\\{self._peek()} is not allowed here")
            return self._escaped_point()
        return ord(char)

    def _count(self) -> tuple[int, int | None]:
        """How often the item before it comes, at least and at most."""
        char = self._peek()
        count: tuple[int, int | None]
        if char in _COUNTS:
            self._at += 1
            count = _COUNTS[char]
        elif char == "{":
            count = self._braces()
        else:
            return 1, 1
        if self._peek() == "?":  # lazy: it matches the same strings
            self._at += 1
        return count

    def _braces(self) -> tuple[int, int | None]:
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : max(end, 0)].partition(",")
        digits = (low, high) if high else (low,)
        if end < 0 or not all(part.isascii() and part.isdigit() for part in digits):
            raise self._error("a count is written {2}, {2,} or {2,5}")
        numbers = [int(part) for part in digits]
        if max(numbers) > _MOST_TURNS or numbers != sorted(numbers):
            raise self._error(f"a count must increase, to at most {_MOST_TURNS}")
        self._at = end + 1
        return numbers[0], None if comma and not high else numbers[-1]

    def _nothing(self) -> str:
        raise self._error("a class contains no supported character")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _error(self, problem: str) -> InputError:
        return InputError(f"{self._where}: {self._pattern!r}: {problem}")


def _text(parts: Sequence[_Part]) -> str:
    return " ".join(part.text for part in parts)


def _lengths(parts: Sequence[_Part]) -> tuple[int, int | None]:
    """The least and the greatest number of characters of a sequence."""
    shortest, longest = 0, 0
    is_open = False
    for part in parts:
        low, high = part.lengths
        shortest, longest = shortest + low, longest + (high or 0)
        is_open = is_open or high is None
    return shortest, None if is_open else longest


def _written(point: int) -> str:
    """The literal of one character, escaped as in JSON."""
    char = chr(point)
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r"}
    short["\t"] = "\\t"
    if char in short:
        return literal(short[char])
    return literal(char if point >= 32 and point != 127 else f"\\u{point:04x}")


def _any_of(ranges: _Ranges) -> str:
    """A choice of characters; those that JSON escapes are separate alternatives."""
    plain = _without(ranges, _MUST_ESCAPE)
    escaped = [p for p in (34, 92, 9, 10, 13) if any(a <= p <= b for a, b in ranges)]
    ways = ([char_class(plain)] if plain else []) + [_written(point) for point in escaped]
    return ways[0] if len(ways) == 1 else f"( {' | '.join(ways)} )" if ways else ""


def _but(ranges: _Ranges) -> _Ranges:
    """The printable ASCII characters outside of ``ranges`` that JSON does not escape."""
    return _without([(_PRINTABLE[0], _PRINTABLE[-1])], [*ranges, *_MUST_ESCAPE])


def _without(ranges: _Ranges, holes: _Ranges) -> _Ranges:
    for start, end in [*holes, (0xD800, 0xDFFF)]:
        pieces = []
        for first, last in ranges:
            pieces += [(first, min(last, start - 1)), (max(first, end + 1), last)]
        ranges = [(a, b) for a, b in pieces if a <= b]
    return ranges
