"""Separates talk from the calls of tools in an answer, while its text streams.

Text arrives in any pieces: what may become the opening of a call is held back until that is known.
An answer that was cut within a call has that call as far as it came.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cf_local.structured.tools import ARGUMENTS, OPENING, ToolCall, ToolForm

THOUGHT = "</think>"
"""After it, a call in the form "json" may begin, as at the start of an answer."""

SPACE = " \t\n\r"  # as JSON defines it


@dataclass(frozen=True, slots=True)
class Talk:
    """A stretch of text that is no call."""

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


CallPiece = Talk | CallStart | CallArguments


class TalkEnd:
    """Finds where talk ends and calls begin: ``feed`` text, then ``flush``."""

    def __init__(self, form: ToolForm) -> None:
        self._form = form
        self._held = ""
        self._may_call = form == "json"  # form "json": nothing but whitespace so far
        self.is_over = self._has_begun = False

    @property
    def is_talk(self) -> bool:
        """Whether the text so far is talk, and may not be the beginning of a call."""
        return self._has_begun and not self.is_over and not self._held

    def feed(self, text: str) -> tuple[str, str]:
        """Add text; returns the talk that is certain now, and the text from the first call on."""
        if self.is_over:
            return "", text
        self._held += text
        self._has_begun |= bool(text)
        return self._tags() if self._form == "tags" else self._json()

    def flush(self) -> str:
        """At the end of the text: talk that was held back."""
        text, self._held = self._held, ""
        return text

    def _tags(self) -> tuple[str, str]:
        at = self._held.find(OPENING)
        self.is_over = at >= 0
        return self._cut(at if self.is_over else len(self._held) - overlap(self._held, OPENING))

    def _json(self) -> tuple[str, str]:
        talk = ""
        while True:
            if self._may_call:
                start = self._held.lstrip(SPACE)
                self.is_over = start.startswith("{")
                if self.is_over or not start:
                    more, call = self._cut(len(self._held) - len(start) if start else 0)
                    return talk + more, call
                self._may_call = False
            at = self._held.find(THOUGHT)
            if at < 0:
                more, _ = self._cut(len(self._held) - overlap(self._held, THOUGHT))
                return talk + more, ""
            self._may_call = True
            talk += self._held[: at + len(THOUGHT)]
            self._held = self._held[at + len(THOUGHT) :]

    def _cut(self, at: int) -> tuple[str, str]:
        talk, rest = self._held[:at], self._held[at:]
        self._held = "" if self.is_over else rest
        return talk, rest if self.is_over else ""


class CallSplitter:
    """Splits one answer: ``feed`` its text as it arrives, then ``flush``.

    Whitespace between talk and calls belongs to neither. Text is read as ``tools_format`` lets it
    be written; anything else where calls are expected is dropped.
    """

    def __init__(self, form: ToolForm) -> None:
        self._form = form
        self._talk = TalkEnd(form)
        self._gap = ""  # whitespace at the end of the talk so far
        self._has_talk = False
        self._index = -1
        self._held = ""
        self._arguments: _Value | None = None
        key = ARGUMENTS[form]
        self._head = re.compile(r'\s*\{\s*"name":\s*"([^"\\]+)"(?:,\s*"' + key + r'":\s*)?')
        self._full_head = re.compile(self._head.pattern.removesuffix("?"))

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
                yield Talk(self._gap)
        elif self._arguments is None and (found := self._head.match(self._begun())):
            yield self._start(found[1])

    def _said(self, text: str) -> Iterator[Talk]:
        text = self._gap + text
        said = text.rstrip(SPACE)
        self._gap = text[len(said) :]
        if said:
            yield Talk(said)

    def _called(self) -> Iterator[CallPiece]:
        while True:
            if self._arguments is None:
                found = self._full_head.match(self._begun())
                # Only with what follows it is known where the whitespace ends.
                if found is None or found.end() == len(self._begun()):
                    return
                self._held = self._begun()[found.end() :]
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
        if self._form == "json":
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


def calls_of(text: str, form: ToolForm) -> tuple[str, list[ToolCall]]:
    """Talk and calls of a whole text; the calls have no ids."""
    splitter = CallSplitter(form)
    talk, names, arguments = "", list[str](), list[str]()
    for piece in (*splitter.feed(text), *splitter.flush()):
        match piece:
            case Talk(said):
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
