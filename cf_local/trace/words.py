"""The pieces of an answer, and which of them a word of it lies in."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cf_local.errors import InputError
from cf_local.method.boundary import is_boundary_between, is_unspaced
from cf_local.types import FUSED, Step

_TOLD = 40  # characters of a fragment that an error repeats


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step added to the answer: characters ``start`` to ``end`` of its text.

    ``number`` counts the steps from 1, those of other answers in mode "cool+r" included.
    """

    number: int
    step: Step
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Covered:
    """A place in the answer: its text, where it starts (characters; words from 1), its pieces."""

    text: str
    start: int
    word: int
    pieces: tuple[Piece, ...]


def shown(steps: Sequence[Step]) -> Sequence[Step]:
    """The steps whose texts make up the answer: those of its segments, or the choice of a whole."""
    if not steps or not steps[-1].whole:
        return steps
    *segments, last = steps
    return segments if FUSED in last.winners and segments else [last]


def pieces(steps: Sequence[Step]) -> tuple[Piece, ...]:
    """The steps shown, each with its place in the answer's text."""
    found: list[Piece] = []
    end = 0
    kept = shown(steps)
    first = len(steps) if kept and kept[0].whole else 1
    for number, step in enumerate(kept, start=first):
        start, end = end, end + len(step.text)
        found.append(Piece(number, step, start, end))
    return tuple(found)


def covering(steps: Sequence[Step], what: str | int) -> tuple[Covered, ...]:
    """Each place of the answer that ``what`` names, with the pieces it covers.

    ``what`` is the number of a word (from 1; from the end when negative) or a fragment of the
    answer: where it stands as a word of its own if it does so anywhere, else within words, in
    other letter case only if it is not found as given. Raises InputError when there is none.
    """
    parts = pieces(steps)
    text = "".join(part.step.text for part in parts)
    words = list(_words(text))
    spans = [_nth(words, what)] if isinstance(what, int) else _found(text, what)
    return tuple(_covered(text, words, parts, start, end) for start, end in spans)


def _covered(
    text: str, words: Sequence[tuple[int, int]], parts: Sequence[Piece], start: int, end: int
) -> Covered:
    word = 1 + sum(until <= start for _, until in words)
    touched = (part for part in parts if part.start < end and start < part.end)
    return Covered(text[start:end], start, min(word, len(words)), tuple(touched))


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each word: what stands between spaces, in scripts without them one each."""
    for match in re.finditer(r"\S+", text):
        chunk, start = match.group(), match.start()
        if not any(map(is_unspaced, chunk)):
            yield start, match.end()
            continue
        cuts = [i + 1 for i, (a, b) in enumerate(pairwise(chunk)) if is_boundary_between(a, b)]
        for begin, end in pairwise([0, *cuts, len(chunk)]):
            if any(map(str.isalnum, chunk[begin:end])):  # marks between them are no words
                yield start + begin, start + end


def _nth(words: Sequence[tuple[int, int]], number: int) -> tuple[int, int]:
    if not 1 <= abs(number) <= len(words):
        raise InputError(f"There is no word {number}: the answer has {len(words)}.")
    return words[number - 1 if number > 0 else number]


def _found(text: str, fragment: str) -> list[tuple[int, int]]:
    """Where the fragment stands; any white space matches any other."""
    wanted = r"\s+".join(map(re.escape, fragment.split()))
    if not wanted:
        raise InputError("Name a word of the answer, or its number.")
    for flags in (re.NOFLAG, re.IGNORECASE):
        for pattern in (rf"(?<!\w){wanted}(?!\w)", wanted):
            if spans := [match.span() for match in re.finditer(pattern, text, flags)]:
                return spans
    told = fragment if len(fragment) <= _TOLD else fragment[: _TOLD - 1] + "…"
    raise InputError(f"{told!r} does not stand in the answer.")
