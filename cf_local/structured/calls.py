"""Separates talk from the calls of tools in an answer, while its text streams.

Text arrives in any pieces: what may become the opening of a call is held back until that is known.
An answer that was cut within a call has that call as far as it came.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from cf_local.structured.tools import ARGUMENTS, OPENING, ToolCall, ToolForm

THOUGHT = "</think>"
"""After it, a call in the form "json" may begin, as at the start of an answer."""

SPACE = " \t\n\r"  # as JSON defines it


def _begun(parts: Sequence[str]) -> str:
    """A pattern for every beginning of what ``parts`` match in a row."""
    pattern = ""
    for part in reversed(parts):
        pattern = f"(?:{part}{pattern})?"
    return pattern


_ANY_SPACE = r"[ \t\n\r]*"
_HEAD = (r"\{", _ANY_SPACE, *'"name"', _ANY_SPACE, ":", _ANY_SPACE, '"')
_FENCE = r"(?:```(?:json)?[ \t\n\r]+)?"
_BARE = re.compile(_ANY_SPACE + _FENCE + "".join(_HEAD) + r'([^"\\]+)"')
"""The start of a call up to the name of its tool."""
_NAME_BEGUN = r'([^"\\]*)'
_BARE_BEGUN = re.compile(
    f"{_ANY_SPACE}(?:{_begun('```json')}|{_FENCE}{_begun((*_HEAD, _NAME_BEGUN))})"
)


@dataclass(frozen=True, slots=True)
class Text:
    """A stretch of text that is not a call."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call of the tool ``name`` begins; ``index`` counts the calls of the answer from 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next part of the JSON text of a call's arguments."""

    index: int
    text: str


CallPiece = Text | CallStart | CallArguments


class TalkEnd:
    """Finds where talk ends and calls begin: ``feed`` text, then ``flush``."""

    def __init__(
        self, form: ToolForm, names: Collection[str] = (), *, has_form: bool = False
    ) -> None:
        """``names`` of tools also make a call of a bare one in the form "tags".

        ``has_form``: an answer has a required form, or calls in tags from its start.
        """
        self._form, self._names, self._has_form = form, names, has_form
        self._held = ""
        self._is_start = True  # of the answer, or after thinking: calls may begin without a tag
        self.is_over = False
        self.is_bare = form == "json"
        """Whether calls have no tags."""

    @property
    def is_talk(self) -> bool:
        """Whether the text so far is talk, and may not be the beginning of a call."""
        return not (self._is_start or self.is_over or self._held)

    def feed(self, text: str) -> tuple[str, str]:
        """Add text; returns the talk that is certain now, and the text from the first call on."""
        if self.is_over:
            return "", text
        self._held += text
        if self._has_form:
            self.is_over = self._is_start and self._held.startswith(OPENING)
            self._is_start = self._is_start and OPENING.startswith(self._held)
            is_known = self.is_over or not self._is_start
            whole = self._take(len(self._held)) if is_known else ""
            return ("", whole) if self.is_over else (whole, "")
        talk = ""
        while not self.is_over:
            if self._is_start and self._may_be_bare():
                break
            self._is_start = False
            found = {self._held.find(tag): tag for tag in self._tags() if tag in self._held}
            if not found:
                keep = max(overlap(self._held, tag) for tag in self._tags())
                talk += self._take(len(self._held) - keep)
                break
            at = min(found)
            if found[at] == OPENING:
                talk += self._take(at)
                self.is_over = True
            else:
                talk += self._take(at + len(THOUGHT))
                self._is_start = True
        return talk, self._take(len(self._held)) if self.is_over else ""

    def flush(self) -> str:
        """At the end of the text: talk that was held back."""
        return self._take(len(self._held))

    def _tags(self) -> tuple[str, ...]:
        return (THOUGHT,) if self._form == "json" else (OPENING, THOUGHT)

    def _may_be_bare(self) -> bool:
        """Whether the text so far may become a call without a tag, or is one: then it is over."""
        if self._form == "json":
            start = self._held.lstrip(SPACE)
            self.is_over = start.startswith("{")
            return self.is_over or not start
        found = _BARE.match(self._held)
        if found and found[1] in self._names:
            self.is_over = self.is_bare = True
            return True
        begun = _BARE_BEGUN.fullmatch(self._held)
        return begun is not None and any(name.startswith(begun[1] or "") for name in self._names)

    def _take(self, n: int) -> str:
        text, self._held = self._held[:n], self._held[n:]
        return text


class CallSplitter:
    """Splits one answer: ``feed`` its text as it arrives, then ``flush``.

    Whitespace between talk and calls belongs to neither. Text is read as ``tools_format`` lets it
    be written; anything else where calls are expected is dropped.
    """

    def __init__(
        self, form: ToolForm, names: Collection[str] = (), *, has_form: bool = False
    ) -> None:
        """``names`` are those of the tools that may be called; ``has_form`` as in TalkEnd."""
        self._talk = TalkEnd(form, names, has_form=has_form)
        self._gap = ""  # whitespace at the end of the talk so far
        self._index = -1
        self._held = ""
        self._arguments: _Value | None = None
        self._key = rf'\s*,\s*"{ARGUMENTS[form]}"\s*:\s*'

    def feed(self, text: str) -> Iterator[CallPiece]:
        """Add text; yields the pieces that are certain now."""
        talk, calls = self._talk.feed(text)
        yield from self._said(talk)
        if self._talk.is_over:
            self._gap = ""
            self._held += calls
            yield from self._called()

    def flush(self) -> Iterator[CallPiece]:
        """At the end of the text: what was held back."""
        if not self._talk.is_over:
            yield from self._said(self._talk.flush())
            if self._gap:
                yield Text(self._gap)
        elif self._arguments is None and (found := _BARE.match(self._begun())):
            yield self._start(found[1])

    def _said(self, text: str) -> Iterator[Text]:
        text = self._gap + text
        said = text.rstrip(SPACE)
        self._gap = text[len(said) :]
        if said:
            yield Text(said)

    def _called(self) -> Iterator[CallPiece]:
        while True:
            if self._arguments is None:
                begun = self._begun()
                found = re.match(_BARE.pattern + self._key, begun)
                # Only with what follows it is known where the whitespace ends.
                if found is None or found.end() == len(begun):
                    return
                self._held = begun[found.end() :]
                yield self._start(found[1])
                self._arguments = _Value()
            text = self._arguments.take(self._held)
            self._held = self._held[len(text) :]
            if text:
                yield CallArguments(self._index, text)
            if not self._arguments.is_whole:
                return
            self._arguments = None

    def _begun(self) -> str:
        """The text from the start of the next call's object."""
        if self._talk.is_bare:
            return self._held if self._index < 0 else ""
        at = self._held.find(OPENING)
        return self._held[at + len(OPENING) :] if at >= 0 else ""

    def _start(self, name: str) -> CallStart:
        self._index += 1
        return CallStart(self._index, name)


class _Value:
    """Finds the end of an object in JSON text that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._is_escaped = False
        self.is_whole = False

    def take(self, text: str) -> str:
        """As much of ``text`` as belongs to the object."""
        for index, char in enumerate(text):
            if self._is_escaped:
                self._is_escaped = False
            elif self._in_string:
                self._is_escaped, self._in_string = char == "\\", char != '"'
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
            self.is_whole = self._depth <= 0 and not self._in_string
            if self.is_whole:
                return text[: index + 1]
        return text


def calls_of(
    text: str, form: ToolForm, names: Collection[str] = (), *, has_form: bool = False
) -> tuple[str, list[ToolCall]]:
    """Talk and calls of a whole text; the calls have no ids. The rest is as in CallSplitter."""
    splitter = CallSplitter(form, names, has_form=has_form)
    talk, names, arguments = "", list[str](), list[str]()
    for piece in (*splitter.feed(text), *splitter.flush()):
        match piece:
            case Text(said):
                talk += said
            case CallStart(_, name):
                names.append(name)
                arguments.append("")
            case CallArguments(index, more):
                arguments[index] += more
    return talk, [ToolCall(name, given) for name, given in zip(names, arguments, strict=True)]


def overlap(text: str, tag: str) -> int:
    """Characters at the end of ``text`` that may be the start of ``tag``."""
    return max((n for n in range(1, len(tag)) if text.endswith(tag[:n])), default=0)
