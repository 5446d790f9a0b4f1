"""Text that is longer than a context, divided into windows that every source can read.

Each source has its own tokens, so a window begins and ends where both a word of the text and a
token of every source do: all of them read the same windows. Finding them takes no forward pass.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from cf_local.method.boundary import is_boundary_between
from cf_local.method.session import Session

# Tokens left free for BOS, a space prefix, and words at a cut that take more tokens on their own.
_SPARE = 8
# Tokens of a later window that are left for the text before it, so that there is some.
_LEFT_TO_CONTEXT = 24


class Window(NamedTuple):
    """A ``text`` to score, and the ``context`` before it that is read with it."""

    context: str
    text: str


def windows(
    text: str, start: int, sessions: Sequence[Session], n_tokens: Sequence[int]
) -> list[Window]:
    """Windows that together hold ``text`` from character ``start`` to its end, each part once.

    Each is as long as the smallest context allows (``n_tokens``, one entry per source), and has as
    much of the text before it as still fits; if the whole text fits, all of it.
    """
    if _fits_surely(text, n_tokens):
        return [Window(text[:start], text[start:])] if start < len(text) else []
    raw, first, found = text.encode(), len(text[:start].encode()), list[Window]()
    ruler = _Ruler(text, first, sessions, n_tokens)
    while first < len(raw):
        end = ruler.furthest_end(first)
        begin = ruler.earliest_begin(first, end)
        found.append(Window(raw[begin:first].decode(), raw[first:end].decode()))
        first = end
    return found


def ending(text: str, sessions: Sequence[Session], n_tokens: Sequence[int], n_reserved: int) -> str:
    """The longest end of ``text`` that leaves ``n_reserved`` tokens of each context free."""
    left = [n - n_reserved for n in n_tokens]
    if _fits_surely(text, left):
        return text
    raw = text.encode()
    ruler = _Ruler(text, len(raw), sessions, left)
    return raw[ruler.earliest_begin(len(raw), len(raw)) :].decode()


def _fits_surely(text: str, n_tokens: Sequence[int]) -> bool:
    """Whether the text fits however it is tokenized: no token is shorter than a byte."""
    return len(text.encode()) + _SPARE <= min(n_tokens)


class _Ruler:
    """Counts the tokens between byte offsets of a text, in the vocabularies of all sources.

    What comes before byte ``first`` is tokenized separately from the rest, since it is read so.
    """

    def __init__(
        self, text: str, first: int, sessions: Sequence[Session], n_tokens: Sequence[int]
    ) -> None:
        self._sizes = n_tokens
        front, rest = text.encode()[:first], text.encode()[first:]
        token_ends = [
            session.token_ends(front) | {first + end for end in session.token_ends(rest)}
            for session in sessions
        ]
        self._ends = [sorted(ends) for ends in token_ends]
        self._characters = [*_character_ends(text)]
        self._cuts = shared_ends(text, token_ends)

    def furthest_end(self, start: int) -> int:
        """The last place where a window that begins at ``start`` may end."""
        for places in (self._cuts, self._characters):
            later = places[bisect_right(places, start) :]
            n_fitting = bisect_left(
                later, True, key=lambda end: not self._fits(start, end, _LEFT_TO_CONTEXT)
            )
            if n_fitting:
                return later[n_fitting - 1]
        return later[0]  # at least a character, or this would never end

    def earliest_begin(self, start: int, end: int) -> int:
        """Where the text that can be read before the window ``start`` to ``end`` begins."""
        places = [0, *(cut for cut in self._cuts if cut < start)]
        index = bisect_left(places, True, key=lambda begin: self._fits(begin, end, 0))
        return places[index] if index < len(places) else start

    def _fits(self, start: int, end: int, n_left: int) -> bool:
        """Whether ``n_left`` tokens stay free in each source that reads from start to end."""
        return all(
            bisect_right(ends, end) - bisect_right(ends, start) + min(n_left + _SPARE, size // 2)
            <= size
            for ends, size in zip(self._ends, self._sizes, strict=True)
        )


def shared_ends(text: str, token_ends: Sequence[frozenset[int]]) -> list[int]:
    """Byte offsets at which both a word of ``text`` and a token of every source end."""
    common = frozenset.intersection(*token_ends)
    return [end for end in _word_ends(text) if end in common]


def _character_ends(text: str) -> Iterator[int]:
    """Byte offsets after each character."""
    offset = 0
    for char in text:
        offset += len(char.encode())
        yield offset


def _word_ends(text: str) -> Iterator[int]:
    """Byte offsets after each word, including the last one."""
    for (prev, next_), end in zip(pairwise(text), _character_ends(text), strict=False):
        if is_boundary_between(prev, next_):
            yield end
    yield len(text.encode())
