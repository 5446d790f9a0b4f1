"""The pieces of an answer, the words they cover, and how to show them.

A model may write any character. A terminal obeys control characters, a bidirectional override
reverses the text next to it, and a lone surrogate cannot be encoded at all. ``visible`` replaces
them with printable characters, so that nothing moves a cursor, reorders or hides other text.
Letters, combining marks, joiners and the direction marks of Arabic and Hebrew stay as they are.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cf_local.errors import InputError
from cf_local.method.boundary import is_boundary_between, is_unspaced
from cf_local.types import FUSED, ScoredCandidate, Step

ENDS = "∎"
"""Follows a candidate that ends the answer."""
FORCED = "written by no source: the limit for thinking was reached"
"""Why no source proposed the text of a step."""
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_OF_NAME = 24
_MOST_SHOWN = 40  # characters of a fragment that an error quotes
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BIDI_NAMES = dict(zip((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), (
    "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI",
), strict=True))  # fmt: skip
_TABLE: dict[int, str] = (
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    | {0x7F: "\N{SYMBOL FOR DELETE}"}
    | dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT)
    | dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT)
    | {code: f"⟨{name}⟩" for code, name in _BIDI_NAMES.items()}
)


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """What one step added to the answer: characters ``start`` to ``end`` of its text.

    ``number`` counts the steps from 1, including those of other answers in mode "cool+r".
    """

    number: int
    step: Step
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Covered:
    """A place in the answer: its text, first character (from 0), first word (from 1), pieces."""

    text: str
    start: int
    word: int
    pieces: tuple[AnswerPiece, ...]


def winners_of_dispute(step: Step) -> tuple[str, ...]:
    """The winners, if anyone who was asked proposed something else; otherwise empty."""
    return step.winners if len(step.candidates) > 1 else ()


def listeners(step: Step) -> list[str]:
    """The sources that were asked and did not propose the winner."""
    return [name for name in step.asked if name not in step.winners]


def not_asked(step: Step, names: Sequence[str]) -> list[str]:
    """The sources that a step did without; older traces do not say who was asked."""
    asked = step.asked or (step.winners if len(step.candidates) == 1 else names)
    return [name for name in names if name not in asked]


def shown(steps: Sequence[Step]) -> Sequence[Step]:
    """The steps whose texts make up the answer: its segments, or the choice of a whole answer."""
    if not steps or not steps[-1].whole:
        return steps
    *segments, last = steps
    return segments if FUSED in last.winners and segments else [last]


def pieces(steps: Sequence[Step]) -> tuple[AnswerPiece, ...]:
    """The ``shown`` steps, each with its place in the answer's text."""
    found: list[AnswerPiece] = []
    end = 0
    visible_steps = shown(steps)
    first = len(steps) if visible_steps and visible_steps[0].whole else 1
    for number, step in enumerate(visible_steps, start=first):
        start, end = end, end + len(step.text)
        found.append(AnswerPiece(number, step, start, end))
    return tuple(found)


def covering(steps: Sequence[Step], what: str | int) -> tuple[Covered, ...]:
    """Each place of the answer that ``what`` names, with the pieces it covers.

    ``what`` is the number of a word (from 1; negative: from the end) or a fragment of the answer.
    A fragment matches whole words if it can, otherwise parts of words, and ignores case only if it
    has no exact match. Raises InputError if there is no such place.
    """
    parts = pieces(steps)
    text = "".join(part.step.text for part in parts)
    words = list(_words(text))
    spans = [_nth(words, what)] if isinstance(what, int) else _found(text, what)
    return tuple(_covered(text, words, parts, start, end) for start, end in spans)


def _covered(
    text: str, words: Sequence[tuple[int, int]], parts: Sequence[AnswerPiece], start: int, end: int
) -> Covered:
    word = 1 + sum(until <= start for _, until in words)
    touched = (part for part in parts if part.start < end and start < part.end)
    return Covered(text[start:end], start, min(word, len(words)), tuple(touched))


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each word: between spaces, or boundaries in scripts without spaces."""
    for match in re.finditer(r"\S+", text):
        chunk, start = match.group(), match.start()
        if not any(map(is_unspaced, chunk)):
            yield start, match.end()
            continue
        cuts = [i + 1 for i, (a, b) in enumerate(pairwise(chunk)) if is_boundary_between(a, b)]
        for begin, end in pairwise([0, *cuts, len(chunk)]):
            if any(map(str.isalnum, chunk[begin:end])):  # punctuation is not a word
                yield start + begin, start + end


def _nth(words: Sequence[tuple[int, int]], number: int) -> tuple[int, int]:
    if not 1 <= abs(number) <= len(words):
        raise InputError(f"The answer has no word {number}, only {len(words)}.")
    return words[number - 1 if number > 0 else number]


def _found(text: str, fragment: str) -> list[tuple[int, int]]:
    """Where the fragment occurs; any white space matches any other."""
    wanted = r"\s+".join(map(re.escape, fragment.split()))
    if not wanted:
        raise InputError("Give a word of the answer, or its number.")
    for flags in (re.NOFLAG, re.IGNORECASE):
        for pattern in (rf"(?<!\w){wanted}(?!\w)", wanted):
            if spans := [match.span() for match in re.finditer(pattern, text, flags)]:
                return spans
    quoted = fragment if len(fragment) <= _MOST_SHOWN else fragment[: _MOST_SHOWN - 1] + "…"
    raise InputError(f"The answer does not contain {quoted!r}.")


def letter(index: int) -> str:
    """The letter of the source at ``index`` (from 0): A to Z, then A2, B2, ..."""
    round_ = index // len(_LETTERS)
    return _LETTERS[index % len(_LETTERS)] + (str(round_ + 1) if round_ else "")


def proposers(candidate: ScoredCandidate, names: Sequence[str]) -> str:
    """The letters of a candidate's sources; FUSED marks the fused answer among whole answers."""
    letters = "".join(letter(i) for i, name in enumerate(names) if name in candidate.sources)
    others = [in_one_line(n, _MOST_OF_NAME) for n in candidate.sources if n not in names]
    return "+".join([letters, *others] if letters else others)


def number(value: float | None) -> str:
    """A score or mean (nats) in few characters; a dash for one that was not needed."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "∞"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def visible(text: str) -> str:
    """The text with printable stand-ins for control characters; line breaks and tabs stay."""
    return text.translate(_TABLE)


def in_one_line(text: str, most: int | None = None) -> str:
    """Like ``visible``, for a table cell: line breaks, tabs and outer spaces become visible, too.

    A text longer than ``most`` characters is cut to that length.
    """
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    line = re.sub("[\n\u2028\u2029]", "↵", visible(text)).replace("\t", "⇥")
    stripped = line.strip(" ")
    if not stripped:
        return "␣" * len(line)
    before = len(line) - len(line.lstrip(" "))
    after = len(line) - len(line.rstrip(" "))
    return "␣" * before + stripped + "␣" * after
