"""The rules of a GBNF grammar under construction, and the literals and classes in them."""

import json
import re
from typing import Any

from cf_local.errors import InputError

MOST_REPEATS = 100_000
_BLOCK = 100  # llama.cpp expands a repetition into one rule per turn
_WORDS = re.compile(r"[^a-zA-Z0-9]+")


class Rules:
    """The named rules of one grammar. A name hints at the rule's place in the schema."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._by_body: dict[str, str] = {}

    def reserve(self, hint: str) -> str:
        """A new name, whose body ``define`` sets later."""
        name = base = _WORDS.sub("-", hint).strip("-")[:40] or "rule"
        count = 1
        while name in self._bodies:
            count += 1
            name = f"{base}-{count}"
        self._bodies[name] = ""
        return name

    def define(self, name: str, body: str) -> None:
        """Set the body of a reserved name."""
        self._bodies[name] = body

    def add(self, hint: str, body: str) -> str:
        """The name of the rule with this body, which is added if it is new."""
        name = self._by_body.get(body)
        if name is None:
            name = self._by_body[body] = self.reserve(hint)
            self.define(name, body)
        return name

    def counted(self, item: str, low: int, high: int | None) -> str:
        """``item`` (a rule's name or one symbol) from ``low`` to ``high`` times.

        ``high`` None is unlimited. Blocks of repetitions keep the grammar small. Raises InputError
        above MOST_REPEATS.
        """
        if low > MOST_REPEATS or (high is not None and high > MOST_REPEATS):
            raise InputError(f"counts above {MOST_REPEATS} are not supported")
        if high is None:
            return f"{self._exactly(item, low)} {item}*".strip()
        if high <= _BLOCK:
            return f"{item}{{{low},{high}}}" if high else ""
        return f"{self._exactly(item, low)} {self._up_to(item, high - low)}".strip()

    def text(self) -> str:
        """The whole grammar in GBNF."""
        return "".join(f"{name} ::= {body}\n" for name, body in self._bodies.items())

    def _exactly(self, item: str, n: int) -> str:
        blocks, rest = divmod(n, _BLOCK)
        parts = [f"{self._block(item)}{{{blocks}}}"] if blocks else []
        return " ".join([*parts, f"{item}{{{rest}}}"] if rest else parts)

    def _up_to(self, item: str, n: int) -> str:
        blocks, rest = divmod(n, _BLOCK)
        if not blocks:
            return f"{item}{{0,{rest}}}" if rest else ""
        block = self._block(item)
        full = f"{block}{{{blocks}}}" + (f" {item}{{0,{rest}}}" if rest else "")
        return f"( {block}{{0,{blocks - 1}}} {item}{{0,{_BLOCK - 1}}} | {full} )"

    def _block(self, item: str) -> str:
        return self.add("block", f"{item}{{{_BLOCK}}}")


def literal(text: str) -> str:
    """A GBNF literal of exactly this text."""
    return '"' + "".join(map(_escaped, text)) + '"'


def json_literal(value: Any) -> str:
    """A GBNF literal of a JSON value, without spaces. Raises ValueError for infinity and NaN."""
    written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        written.encode()
    except UnicodeEncodeError:  # a lone surrogate is not UTF-8
        written = json.dumps(value, separators=(",", ":"))
    return literal(written)


def char_class(ranges: list[tuple[int, int]], *, negated: bool = False) -> str:
    """A GBNF character class of ranges of code points, both ends included."""
    parts = (_code(a) if a == b else f"{_code(a)}-{_code(b)}" for a, b in ranges)
    return f"[{'^' if negated else ''}{''.join(parts)}]"


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if " " <= char <= "~" else _code(ord(char))


def _code(point: int) -> str:
    char = chr(point)
    if point < 128 and char.isalnum():
        return char
    return f"\\x{point:02X}" if point < 256 else f"\\U{point:08X}"
