"""Thinking of a reasoning model: separated from its answer, and ended after a while.

Thinking is enclosed by a pair of tags at the very start of an answer. Some templates write the
opening tag themselves (DeepSeek-R1, Qwen3), so that the text starts inside. A tag may arrive in
pieces: text that may become a tag is held back until that is known.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cf_local.structured.calls import TalkEnd, overlap
from cf_local.types import Chat, Prompt, SourceInfo

_TAGS = {
    **{f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "reasoning")},
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
}
OPENING = tuple(_TAGS)
"""Tags that open thinking."""
_BREAK = "\n"


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

    @property
    def is_thinking(self) -> bool:
        """Whether the text so far ends inside thinking, and not within what may be a tag."""
        return self._state == "thinking" and not self._held

    @property
    def closing(self) -> str:
        """The tag that closes the thinking."""
        return self._closing[0]

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


class AnswerSplitter:
    """Separates the thinking of the answer to one prompt: ``feed``, ``flush``, ``after_all``.

    Only an answer to a chat has thinking, and none that ``has_form``. One that continues a turn
    goes on where that turn ended, maybe within thinking.
    """

    def __init__(
        self, prompt: Prompt, sources: Iterable[SourceInfo], *, has_form: bool = False
    ) -> None:
        """``sources`` are those that take part."""
        self._is_split = isinstance(prompt, Chat) and not has_form
        self.opened = self._is_split and bool(opening_of(prompt, sources))
        """Whether the prompt ends inside thinking."""
        turns = prompt.messages if isinstance(prompt, Chat) else ()
        self._before = turns[-1].content if turns and turns[-1].role == "assistant" else ""
        self._fed = ""
        self._splitter = self._begun(self._before)

    def feed(self, text: str) -> Iterable[Piece]:
        """The pieces that are certain, now that ``text`` was written."""
        self._fed += text
        return self._splitter.feed(text) if self._is_split else [Piece("answer", text)]

    def flush(self) -> Iterable[Piece]:
        """At the end of the text: what was held back."""
        return self._splitter.flush()

    def after_all(self, *, ended: bool) -> str:
        """The answer, where it was taken for thinking that the model does not close; mostly "".

        ``ended``: by itself, not cut.
        """
        return self._fed if self._is_mistaken(self._before + self._fed, ended) else ""

    def split(self, text: str, *, ended: bool, is_whole: bool = False) -> tuple[str, str]:
        """Thinking and answer of a text, whatever was fed.

        ``ended`` as in ``after_all``; ``is_whole``: ``text`` has what the answer continues, too.
        """
        before = "" if is_whole else self._before
        if not self._is_split or self._is_mistaken(before + text, ended):
            return "", text
        splitter = self._begun(before)
        return _joined([*splitter.feed(text), *splitter.flush()])

    def _begun(self, before: str) -> ThinkingSplitter:
        splitter = ThinkingSplitter(opened=self.opened)
        list(splitter.feed(before))
        return splitter

    def _is_mistaken(self, text: str, ended: bool) -> bool:
        return self.opened and ended and not any(tag in text for tag in _TAGS.values())


class Budget:
    """Ends the thinking of one answer once it is ``most`` tokens long in every source.

    None stands for no limit. ``opening`` is the tag with which the prompt ended, if any. ``talk``
    finds calls of tools, where the answer may make some: the thinking does not end within a call.
    """

    def __init__(self, most: int | None, opening: str = "", talk: TalkEnd | None = None) -> None:
        self._most, self._talk = most, talk
        self._splitter = ThinkingSplitter(opened=bool(opening))
        self._opening = opening
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._before: Sequence[int] | None = None  # tokens before the thinking
        self._ends_line = False

    def closing(self, text: bytes, n_tokens: Sequence[int]) -> bytes:
        """What the answer must go on with, now that ``text`` was added to it; mostly nothing.

        ``n_tokens`` is the length of the answer in the tokens of each source. The end of thinking
        is due between two characters, and not within what may become a tag.
        """
        if self._most is None:
            return b""
        decoded = self._decoder.decode(text)
        for piece in self._splitter.feed(decoded):
            self._ends_line = piece.text.endswith("\n")
        if self._talk is not None:
            if decoded:
                self._talk.feed(decoded)
            if not self._talk.is_talk:
                return b""
        if not self._splitter.is_thinking or self._decoder.getstate()[0]:
            return b""
        self._before = self._before or n_tokens
        n_thought = min(n - b for n, b in zip(n_tokens, self._before, strict=True))
        if n_thought < self._most:
            return b""
        tag = _TAGS[self._opening] if self._opening else self._splitter.closing
        return f"{'' if self._ends_line else _BREAK}{tag}{2 * _BREAK}".encode()


def opening_of(prompt: Prompt, sources: Iterable[SourceInfo]) -> str:
    """The tag with which the first source whose prompt ends inside thinking opens it, or ""."""
    if not isinstance(prompt, Chat):
        return ""
    tags = (source.opens_thinking.get(prompt.thinks) for source in sources)
    return next(filter(None, tags), "")


def closing_of(opening: str) -> str:
    """The tag that closes the thinking which ``opening`` opens; "" for none."""
    return _TAGS[opening] if opening else ""


def split(text: str) -> tuple[str, str]:
    """Thinking and answer of a whole text, which opens its thinking itself."""
    splitter = ThinkingSplitter()
    return _joined([*splitter.feed(text), *splitter.flush()])


def _joined(pieces: Sequence[Piece]) -> tuple[str, str]:
    thinking, answer = (
        "".join(piece.text for piece in pieces if piece.kind == kind)
        for kind in ("thinking", "answer")
    )
    return thinking, answer
