"""Turns the bytes of the response into text to show, as they arrive.

Where the models write valid UTF-8, segments end at whole characters. After a forced cut, or with a
random model, they may not: an incomplete character is held back until the rest arrives. So is text
that may be the start of a stop string.
"""

import codecs
import re
from collections.abc import Sequence

from cf_local.structured.calls import TalkEnd, overlap


def text_of_bytes(raw: bytes) -> str:
    """Bytes of a response as text to show, without an incomplete character at the end."""
    return codecs.getincrementaldecoder("utf-8")(errors="replace").decode(raw)


class TextStream:
    """Incremental bytes -> text; after a stop string it is ``stopped`` and returns nothing.

    ``stopped_by`` is that stop string. With ``talk`` stop strings are looked for in talk only: they
    would cut a call of a tool.
    """

    def __init__(self, stop: Sequence[str] = (), talk: TalkEnd | None = None) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._talk = talk
        self._held = ""
        self.stopped_by = ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come."""
        return bool(self.stopped_by)

    def feed(self, segment: bytes) -> str:
        """Add ``segment``; returns the text that can be shown now."""
        text = self._decoder.decode(segment)
        if self._talk is None:
            return self._release(text)
        talk, calls = self._talk.feed(text)
        text = self._release(talk)
        if calls and not self.stopped:
            text, self._held = f"{text}{self._held}{calls}", ""
        return text

    def flush(self) -> str:
        """At the end of the answer: the text that was held back.

        An answer that a limit cuts within a character ends before that character.
        """
        text = self._release(self._talk.flush()) if self._talk is not None else ""
        held, self._held = self._held, ""
        self._decoder.reset()
        return text + held

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [(index, s) for s in self._stop if (index := text.find(s)) >= 0]
        if found:
            index, self.stopped_by = min(found)
            self._held = ""
            return text[:index]
        n_held = max((overlap(text, s) for s in self._stop), default=0)
        cut = len(text) - n_held
        self._held = text[cut:]
        return text[:cut]


MIN_REPEATS, MIN_BYTES = 8, 240  # the rule of a table or a row of dashes is shorter
PROSE_REPEATS, PROSE_BYTES = 6, 120
PROSE_UNIT_BYTES, PROSE_WORDS = 16, 3
LONG_REPEATS, LONG_UNIT_BYTES = 3, 120  # several sentences, which nobody says often
MAX_PERIOD_BYTES = 1024
_END_BYTES = 16  # less than what a loop has beyond one period
_LOOKED_AT = (MIN_REPEATS + 1) * MAX_PERIOD_BYTES
_NUMBER_OF_ITEM = re.compile(rb"^([ \t>]*)[0-9]{1,3}(?=[.)][ \t])", re.MULTILINE)
_LEAST_LETTERS = 4 / 5
# A space for each byte that is not a letter; beyond ASCII, all count as letters.
_WITHOUT_SIGNS = bytes(b if b > 127 or chr(b).isalpha() else ord(" ") for b in range(256))


def is_looping(response: bytes) -> bool:
    """Whether ``response`` ends with a loop: one unit, repeated.

    At least 8 times and over 240 bytes; 6 times and over 120 bytes if the unit is prose (a line, a
    sentence, an item of a list), and 3 times if it is 120 bytes of it; tables, matrices and markup
    repeat with good reason. Items of a numbered list are the same if only their numbers differ.
    """
    response = _NUMBER_OF_ITEM.sub(rb"\g<1>1", response[-_LOOKED_AT:])
    if len(response) < PROSE_BYTES:
        return False
    end, first = response[-_END_BYTES:], max(0, len(response) - _END_BYTES - MAX_PERIOD_BYTES)
    at = len(response) - len(end)
    while (at := response.rfind(end, first, at + len(end) - 1)) >= 0:  # where it last ended so
        period = len(response) - len(end) - at
        if _ends_with(response, period, LONG_REPEATS * period):
            repeats, least = _limits(response[-period:])
            if _ends_with(response, period, max(repeats * period, least)):
                return True
    return False


def _limits(unit: bytes) -> tuple[int, int]:
    """How often, and over how many bytes, a unit is repeated in a loop."""
    if not _is_prose(unit):
        return MIN_REPEATS, MIN_BYTES
    return PROSE_REPEATS if len(unit) < LONG_UNIT_BYTES else LONG_REPEATS, PROSE_BYTES


def _ends_with(response: bytes, period: int, n_bytes: int) -> bool:
    """Whether the last ``n_bytes`` are one unit of ``period`` bytes, repeated."""
    tail = response[-n_bytes:]
    return len(tail) == n_bytes and tail[period:] == tail[:-period]


def _is_prose(unit: bytes) -> bool:
    """Whether it has several words, and few digits and signs."""
    words = unit.translate(_WITHOUT_SIGNS).split()
    n_letters, n_shown = sum(map(len, words)), len(b"".join(unit.split()))
    is_text = len(unit) >= PROSE_UNIT_BYTES and n_letters >= _LEAST_LETTERS * n_shown
    return is_text and len(set(words)) >= PROSE_WORDS
