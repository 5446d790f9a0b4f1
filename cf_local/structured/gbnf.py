"""Whether llama.cpp can read a GBNF grammar and finish with it.

llama.cpp prints its errors, with the whole grammar, to stderr; it takes a count above 2000 as
unlimited; it misses left recursion after rules that may be empty, and then fills the memory; and it
parses groups recursively, so that deep ones overflow the stack. So this parser of the same notation
reads a grammar first and refuses it with the wrong line. Left out, and refused: tokens (``<...>``),
which belong to one vocabulary, while several sources write.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cf_local.errors import InputError

MOST_TURNS = 2000
MOST_SYMBOLS = 50_000
MOST_RULES = 5000
_MOST_TURNS_OF_NOTHING = 20  # of something that may be empty: each adds a state
_DEEPEST = 64
_LONGEST = 2_000_000  # characters

_NAME = re.compile(r"[a-zA-Z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_CHAR = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[trn\\\"\[\]])|[^\\]", re.DOTALL
)
_COUNT = re.compile(r"\{[ \t]*(\d{1,9})[ \t]*(,[ \t]*(\d{1,9})?[ \t]*)?\}", re.ASCII)
_OTHER_OR_NAME = re.compile(
    r"""\"(?:\\.|[^"\\])*\"|\[(?:\\.|[^\]\\])*\]|#[^\r\n]*|\{[^}]*\}|(?P<name>[a-zA-Z0-9-]+)""",
    re.DOTALL,
)
_LAST_POINT = 0x10FFFF

_Sequence = list["_Item"]


@dataclass(slots=True)
class _Item:
    """A symbol of a sequence, with its count: characters, a ``name``, or a group of ``ways``."""

    line: int
    name: str | None = None
    ways: list[_Sequence] | None = None
    n_symbols: int = 1  # 0 in an empty literal
    low: int = 1
    high: int | None = 1


@dataclass(slots=True)
class _Facts:
    """Properties of rules that follow from all rules together."""

    empty: set[str] = field(default_factory=set)  # names of rules that may be empty
    ending: set[str] = field(default_factory=set)  # names of rules that can end


def renamed(grammar: str, ending: str) -> str:
    """A checked ``grammar`` with ``ending`` added to the names of all its rules."""
    return _OTHER_OR_NAME.sub(lambda m: m[0] + ending if m["name"] else m[0], grammar)


def check_grammar(grammar: str) -> None:
    """Raise InputError for a grammar that llama.cpp must not receive."""
    if "\0" in grammar or len(grammar) > _LONGEST:
        raise InputError("The grammar has a NUL character, or is longer than 2 million characters.")
    try:
        grammar.encode()
    except UnicodeEncodeError:
        raise InputError("The grammar is not valid text: it has a lone surrogate.") from None
    rules = _GrammarParser(grammar).rules()
    if len(rules) > MOST_RULES:
        raise InputError(f"The grammar has {len(rules)} rules; at most {MOST_RULES} are allowed.")
    if "root" not in rules:
        raise InputError("The grammar has no rule `root ::= ...`, its start.")
    _check_names(rules)
    facts = _facts(rules)
    endless = sorted(rules.keys() - facts.ending)
    if endless:
        raise InputError(f"The grammar can never end; see the rule {endless[0]!r}.")
    _check_left_recursion(rules, facts.empty)
    _check_size(rules, facts.empty)


class _GrammarParser:
    """Parses the notation as llama.cpp does: a rule ends with its line, except within a group."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0
        self._line_ends = [found.start() for found in re.finditer("\n", text)]

    def rules(self) -> dict[str, list[_Sequence]]:
        found: dict[str, list[_Sequence]] = {}
        self._skip(_SPACES)
        while self._at < len(self._text):
            name = self._match(_NAME, "the name of a rule is expected").group()
            self._skip(_SPACE)
            self._expect("::=")
            self._skip(_SPACES)
            if name in found:
                raise self._error(f"the rule {name!r} is defined twice")
            found[name] = self._ways(is_nested=False)
            if self._peek() not in ("", "\r", "\n"):
                raise self._error(f"{self._peek()!r} is not allowed here")
            self._skip(_SPACES)
        return found

    def _ways(self, *, is_nested: bool) -> list[_Sequence]:
        ways = [self._sequence(is_nested=is_nested)]
        while self._peek() == "|":
            self._at += 1
            self._skip(_SPACES)
            ways.append(self._sequence(is_nested=is_nested))
        return ways

    def _sequence(self, *, is_nested: bool) -> _Sequence:
        space = _SPACES if is_nested else _SPACE
        items: _Sequence = []
        while True:
            item = self._item()
            if item is None:
                return items
            self._skip(space)
            while self._peek() and self._peek() in "*+?{":
                item = self._counted(item)
                self._skip(space)
            items.append(item)

    def _item(self) -> _Item | None:
        char, line = self._peek(), self._line()
        if char == '"':
            return _Item(line, n_symbols=self._characters('"'))
        if char == "[":
            if self._text.startswith("[^", self._at):
                self._at += 1
            n_symbols = self._characters("]")
            if not n_symbols:
                raise self._error("a character class is empty")
            return _Item(line, n_symbols=n_symbols)
        if char == "(":
            return _Item(line, ways=self._group())
        if char == ".":
            self._at += 1
            return _Item(line)
        if char and char in "<!":
            raise self._error("tokens are not supported: each source has its own")
        name = _NAME.match(self._text, self._at)
        if name is None:
            return None
        self._at = name.end()
        return _Item(line, name=name.group())

    def _group(self) -> list[_Sequence]:
        self._at += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"groups are nested more than {_DEEPEST} deep")
        self._skip(_SPACES)
        ways = self._ways(is_nested=True)
        self._depth -= 1
        self._expect(")")
        return ways

    def _characters(self, end: str) -> int:
        """Parse characters up to ``end``; returns their number."""
        self._at += 1
        count = 0
        while self._peek() != end:
            found = self._match(_CHAR, f"an escape is wrong, or {end} is missing").group()
            if found[:2] == "\\U" and int(found[2:], 16) > _LAST_POINT:
                raise self._error("the code point is above U+10FFFF")
            if found[:2] in ("\\x", "\\u", "\\U") and int(found[2:], 16) == 0 and end == '"':
                raise self._error("a NUL character can never be written")
            count += 1
        self._at += 1
        return count

    def _counted(self, item: _Item) -> _Item:
        if not item.n_symbols:
            raise self._error("an empty literal cannot be repeated")
        char, line = self._peek(), self._line()
        if char == "{":
            found = self._match(_COUNT, "a count is written {2}, {2,} or {2,5}")
            low = int(found[1])
            high = int(found[3]) if found[3] else None if found[2] else low
            if max(low, high or 0) > MOST_TURNS:
                raise self._error(f"a count above {MOST_TURNS} is too high for llama.cpp")
            if high is not None and high < low:
                raise self._error("the maximum of a count is below its minimum")
        else:
            self._at += 1
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        if (item.low, item.high) != (1, 1):
            item = _Item(line, ways=[[item]])
        item.low, item.high = low, high
        return item

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, what: re.Pattern[str]) -> None:
        found = what.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _match(self, what: re.Pattern[str], problem: str) -> re.Match[str]:
        found = what.match(self._text, self._at)
        if found is None:
            raise self._error(problem)
        self._at = found.end()
        return found

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            raise self._error(f"{text} is expected")
        self._at += len(text)

    def _line(self) -> int:
        return bisect_left(self._line_ends, self._at) + 1

    def _error(self, problem: str) -> InputError:
        return InputError(f"The grammar cannot be used, line {self._line()}: {problem}.")


def _items(ways: Iterable[_Sequence]) -> Iterator[_Item]:
    for sequence in ways:
        for item in sequence:
            yield item
            yield from _items(item.ways or ())


def _check_names(rules: dict[str, list[_Sequence]]) -> None:
    for item in _items(way for ways in rules.values() for way in ways):
        if item.name is not None and item.name not in rules:
            raise InputError(
                f"The grammar cannot be used, line {item.line}: no rule is named {item.name!r}."
            )


def _facts(rules: dict[str, list[_Sequence]]) -> _Facts:
    """Which rules may be empty, and which can end: the least fixed point."""
    used_by: dict[str, set[str]] = {name: set() for name in rules}
    for name, ways in rules.items():
        for item in _items(ways):
            if item.name is not None:
                used_by[item.name].add(name)
    facts = _Facts()
    for found, is_empty in ((facts.empty, True), (facts.ending, False)):
        waiting = list(rules)
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            if any(_all_of(way, found, is_empty=is_empty) for way in rules[name]):
                found.add(name)
                waiting += used_by[name]
    return facts


def _all_of(sequence: _Sequence, names: set[str], *, is_empty: bool) -> bool:
    """Whether all items may be empty (or can end), if the rules in ``names`` may (can)."""
    return all(_holds(item, names, is_empty=is_empty) for item in sequence)


def _holds(item: _Item, names: set[str], *, is_empty: bool) -> bool:
    if item.low == 0 or not item.n_symbols:
        return True
    if item.name is not None:
        return item.name in names
    if item.ways is not None:
        return any(_all_of(way, names, is_empty=is_empty) for way in item.ways)
    return not is_empty


def _leftmost(ways: Iterable[_Sequence], empty: set[str]) -> Iterator[str]:
    """The names that may come first in the ways."""
    for sequence in ways:
        for item in sequence:
            if item.name is not None:
                yield item.name
            yield from _leftmost(item.ways or (), empty)
            if not _holds(item, empty, is_empty=True):
                break


def _check_left_recursion(rules: dict[str, list[_Sequence]], empty: set[str]) -> None:
    first = {name: set(_leftmost(ways, empty)) for name, ways in rules.items()}
    done: set[str] = set()
    for start in rules:
        path, on_path = list[str](), set[str]()
        waiting = [(start, False)]
        while waiting:  # depth first, without recursion: a chain of rules may be long
            name, is_left = waiting.pop()
            if is_left:
                on_path.remove(path[-1])
                done.add(path.pop())
            elif name in on_path:
                raise InputError(
                    f"The grammar cannot be used: the rule {name!r} may start with itself "
                    "(left recursion)."
                )
            elif name not in done:
                path.append(name)
                on_path.add(name)
                waiting.append((name, True))
                waiting += [(other, False) for other in first[name]]


def _check_size(rules: dict[str, list[_Sequence]], empty: set[str]) -> None:
    for item in _items(way for ways in rules.values() for way in ways):
        _check_turns(item, empty)
    n_symbols = sum(_size(way) for ways in rules.values() for way in ways)
    if n_symbols > MOST_SYMBOLS:
        raise InputError(
            f"The grammar has {n_symbols} symbols when its counts are written out; "
            f"at most {MOST_SYMBOLS} are allowed."
        )


def _check_turns(item: _Item, empty: set[str]) -> None:
    """Raise InputError if an item is repeated more often than llama.cpp supports."""
    start = f"The grammar cannot be used, line {item.line}: "
    once = _Item(item.line, item.name, item.ways)
    n_turns = max(item.low, item.high or 0)
    if _holds(once, empty, is_empty=True):
        if item.high is None:
            raise InputError(f"{start}something that may be empty is repeated without limit.")
        if n_turns > _MOST_TURNS_OF_NOTHING:
            raise InputError(f"{start}something that may be empty is repeated {n_turns} times.")
    if item.ways is not None and n_turns > 1 and n_turns * _n_rules(item.ways) > MOST_TURNS:
        raise InputError(
            f"{start}a group is too large to be repeated {n_turns} times; "
            "make it a rule of its own."
        )


def _n_rules(ways: Iterable[_Sequence]) -> int:
    """The number of rules that llama.cpp makes of a group, at most."""
    total = 1
    for item in (item for way in ways for item in way):
        total += item.name is not None
        total += _n_rules(item.ways) if item.ways is not None else 0
        total += 1 if item.high is None else item.high - item.low
    return total


def _size(sequence: _Sequence) -> int:
    """The approximate number of symbols, with counts written out."""
    total = 0
    for item in sequence:
        once = item.n_symbols + sum(map(_size, item.ways or ()))
        total += once * max(1, item.low, item.high or 0)
    return total
