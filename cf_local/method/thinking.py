"""Separates the thinking of a reasoning model from its answer, while the text streams.

Thinking is enclosed by a pair of tags at the very start of an answer. Some templates write the
opening tag themselves (DeepSeek-R1, Qwen3), so that the text starts inside. A tag may arrive in
pieces: text that may become a tag is held back until that is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cf_local.structured.calls import overlap

_TAGS = {
    **{f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "reasoning")},
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
}
OPENING = tuple(_TAGS)
"""Tags that open thinking."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text of one kind."""

    kind: Literal["thinking", "answer"]
    text: str


class ThinkingSplitter:
    """Splits one answer: ``feed`` its text as it arrives, then ``flush``.

    Together the pieces are the text that was fed, without the tags and the line breaks between
    thinking and answer. ``opened``: the prompt ended inside thinking.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self._state: Literal["start", "thinking", "gap", "answer"]
        self._state = "thinking" if opened else "start"
        self._closing = tuple(_TAGS.values())
        self._held = ""

    def feed(self, text: str) -> Iterator[Piece]:
        """Add text; yields the pieces that are certain now."""
        self._held += text
        if self._state == "start":
            self._start()
        if self._state == "thinking":
            yield from self._think()
        if self._state == "gap":  # line breaks between thinking and answer
            self._held = self._held.lstrip("\n")
            self._state = "answer" if self._held else "gap"
        if self._state == "answer" and self._held:
            text, self._held = self._held, ""
            yield Piece("answer", text)

    def flush(self) -> Iterator[Piece]:
        """At the end of the text: what was held back."""
        text, self._held = self._held, ""
        if text:
            yield Piece("thinking" if self._state == "thinking" else "answer", text)

    def _start(self) -> None:
        """Check whether the answer starts with an opening tag, after any whitespace."""
        start = self._held.lstrip()
        for tag, closing in _TAGS.items():
            if start.startswith(tag):
                self._state, self._closing = "thinking", (closing,)
                self._held = start.removeprefix(tag)
                return
        if not any(tag.startswith(start) for tag in _TAGS):
            self._state = "answer"

    def _think(self) -> Iterator[Piece]:
        found = [(self._held.find(tag), tag) for tag in self._closing if tag in self._held]
        if found:
            at, tag = min(found)
            thought, self._held = self._held[:at], self._held[at + len(tag) :]
            self._state = "gap"
        else:
            keep = max(overlap(self._held, tag) for tag in self._closing)
            thought = self._held[: len(self._held) - keep]
            self._held = self._held[len(thought) :]
        if thought:
            yield Piece("thinking", thought)


def split(text: str, *, opened: bool = False, ended: bool = True) -> tuple[str, str]:
    """Thinking and answer of a whole text.

    A text that was expected to start inside thinking, and has ``ended`` by itself without a closing
    tag, is an answer.
    """
    splitter = ThinkingSplitter(opened=opened)
    pieces = [*splitter.feed(text), *splitter.flush()]
    thinking, answer = (
        "".join(piece.text for piece in pieces if piece.kind == kind)
        for kind in ("thinking", "answer")
    )
    if opened and ended and not any(tag in text for tag in _TAGS.values()):
        return "", thinking + answer
    return thinking, answer
