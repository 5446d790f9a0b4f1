"""Who won which words, in a terminal: in colours where they are allowed, and always by letter.

The colours are of the 256 that terminals share, chosen from those of Okabe and Ito that can be told
apart with any kind of colour vision, dark enough for a white ground and light enough for a black
one (contrast at least 3 to 1 on both). Letters say the same without them.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import click

from cf_local.trace import letter, visible
from cf_local.types import Step

if TYPE_CHECKING:
    from rich.text import Text

COLOURS = (32, 166, 29, 169, 136, 244)  # blue, vermilion, green, purple, ochre, grey
_RAISED = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ"
_RAISED_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def colour(index: int) -> int:
    """The colour of that source, one of the terminal's 256."""
    return COLOURS[index % len(COLOURS)]


class Winners:
    """Shows which source won which words: coloured and with raised letters, or in brackets."""

    def __init__(self, names: Sequence[str], *, in_colour: bool) -> None:
        self._names = tuple(names)
        self._in_colour = in_colour

    def legend(self) -> str:
        """What colours and letters mean."""
        marks = [
            click.style(f"{_raised([i])} {name}", fg=colour(i))
            if self._in_colour
            else f"{letter(i)} = {name}"
            for i, name in enumerate(map(visible, self._names))
        ]
        return f"{', '.join(marks)}; unmarked: all agreed"

    def piece(self, text: str, winners: Sequence[str]) -> str:
        """A piece of the answer marked with its winners; what all sources proposed stays plain."""
        text, indices = visible(text), self._indices(winners)
        body = text.strip()
        if not indices or not body:
            return text
        before, _, after = text.partition(body)
        if self._in_colour:
            return before + click.style(body + _raised(indices), fg=colour(indices[0])) + after
        return f"{before}[{''.join(map(letter, indices))}:{body}]{after}"

    def text(self, steps: Sequence[Step]) -> str:
        """The text of steps; neighbouring pieces of the same winners are marked together.

        Give it the steps that make up the answer: ``trace.shown(steps)``.
        """
        return "".join(self.piece(text, winners) for text, winners in _runs(steps))

    def rich(self, steps: Sequence[Step]) -> "Text":
        """The same as ``text`` for a rich console (coloured, whatever ``in_colour`` says)."""
        from rich.text import Text  # imported here: `--help` need not wait for it

        marked = Text()
        for text, winners in _runs(steps):
            text, indices = visible(text), self._indices(winners)
            body = text.strip()
            before, _, after = text.partition(body) if body else (text, "", "")
            style = f"color({colour(indices[0])})" if indices else ""
            marked.append(before)
            marked.append(body + (_raised(indices) if body else ""), style)
            marked.append(after)
        return marked

    def _indices(self, winners: Sequence[str]) -> list[int]:
        """Which of the sources won; none where all did."""
        if set(self._names) <= set(winners):
            return []
        return [index for index, name in enumerate(self._names) if name in winners]


def _runs(steps: Sequence[Step]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for winners, run in groupby(steps, key=lambda step: step.winners):
        yield "".join(step.text for step in run), winners


def _raised(indices: Sequence[int]) -> str:
    """Small letters above the line."""
    if any(index >= len(_RAISED) for index in indices):  # Unicode has no q, nor has anybody so many
        numbers = (str(index + 1).translate(_RAISED_DIGITS) for index in indices)
        return "⁺".join(numbers)
    return "".join(_RAISED[index] for index in indices)
