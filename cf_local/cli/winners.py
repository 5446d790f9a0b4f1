"""Which source won which words, why, and the figures of an answer, as text for a terminal.

The colours are from the 256 that terminals share, after the palette of Okabe and Ito, which people
with any kind of colour vision can distinguish. They are dark enough for a white background and
light enough for a black one (a contrast of at least 3 to 1 on both). Letters carry the same
information without colours.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import click

from cf_local.trace import (
    ENDS,
    FORCED,
    AnswerPiece,
    Covered,
    covering,
    in_one_line,
    letter,
    listeners,
    not_asked,
    number,
    proposers,
    visible,
    winners_of_dispute,
)
from cf_local.types import Answer, ScoredCandidate, Step

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

COLOURS = (32, 166, 29, 169, 136, 244)  # blue, vermilion, green, purple, ochre, grey
_RAISED = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ"
_RAISED_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_MOST_PLACES = 3
_TEXT_WIDTH = 40  # characters of a candidate, or of a word asked about


def colour(index: int) -> int:
    """The colour of a source, as a number of the 256-colour palette."""
    return COLOURS[index % len(COLOURS)]


class Winners:
    """Shows which source won which words: coloured and with raised letters, or in brackets."""

    def __init__(self, names: Sequence[str], *, in_colour: bool) -> None:
        self._names = tuple(names)
        self._in_colour = in_colour

    def legend(self) -> str:
        """One line that explains the colours and letters."""
        marks = [
            click.style(f"{_raised([i])} {name}", fg=colour(i))
            if self._in_colour
            else f"{letter(i)} = {name}"
            for i, name in enumerate(map(visible, self._names))
        ]
        return f"{', '.join(marks)}; unmarked: no dispute"

    def piece(self, text: str, winners: Sequence[str]) -> str:
        """A piece of the answer, marked with the winners of a dispute; else plain."""
        text, indices = visible(text), self._indices(winners)
        body = text.strip()
        if not indices or not body:
            return text
        before, _, after = text.partition(body)
        if self._in_colour:
            return before + click.style(body + _raised(indices), fg=colour(indices[0])) + after
        return f"{before}[{''.join(map(letter, indices))}:{body}]{after}"

    def text(self, steps: Sequence[Step], *, dims: bool = False) -> str:
        """The text of steps; adjacent pieces with the same winners share one mark.

        Pass the steps that make up the answer: ``trace.shown(steps)``. ``dims`` shows what is not
        marked as thinking is shown.
        """
        pieces = [(self.piece(text, winners), text) for text, winners in _runs(steps)]
        return "".join(
            click.style(shown, dim=True) if dims and shown == visible(text) else shown
            for shown, text in pieces
        )

    def rich(self, steps: Sequence[Step]) -> "Text":
        """The same as ``text`` for a rich console, always coloured."""
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
        """The indices of the winners; none if all sources won."""
        if set(self._names) <= set(winners):
            return []
        return [index for index, name in enumerate(self._names) if name in winners]


def _runs(steps: Sequence[Step]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for winners, run in groupby(steps, key=winners_of_dispute):
        yield "".join(step.text for step in run), winners


def _raised(indices: Sequence[int]) -> str:
    """Superscript letters, or superscript numbers beyond the 16th source."""
    if any(index >= len(_RAISED) for index in indices):  # Unicode has no superscript q
        numbers = (str(index + 1).translate(_RAISED_DIGITS) for index in indices)
        return "⁺".join(numbers)
    return "".join(_RAISED[index] for index in indices)


def why(
    steps: Sequence[Step],
    names: Sequence[str],
    what: str | int,
    *,
    in_colour: bool,
    width: int = 80,
) -> str:
    """What the sources proposed for the words that ``what`` selects (see ``trace.covering``).

    ``names`` are the sources in order, ``width`` is in columns of the terminal. Raises InputError
    if the answer has no such words.
    """
    from rich.console import Console  # imported here: `--help` need not wait for it

    places = covering(steps, what)
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=in_colour,
        color_system="256" if in_colour else None,
        no_color=not in_colour,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    shown: set[int] = set()
    for place in places[:_MOST_PLACES]:
        console.print(_heading(place), style="bold", soft_wrap=True)
        for piece in place.pieces:
            if piece.number not in shown or not piece.step.whole:
                _print(console, piece, names, place.start)
            shown.add(piece.number)
    if more := places[_MOST_PLACES:]:
        numbers = ", ".join(f"word {place.word}" for place in more[:10])
        console.print(f"Also at {numbers}{' ...' if len(more) > 10 else '.'}")
    # Rich pads lines with spaces, which would be copied too.
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _heading(place: Covered) -> str:
    n_steps = len(place.pieces)
    steps = f"step {place.pieces[0].number}" if place.pieces else "no step"
    if n_steps > 1:
        steps = f"steps {place.pieces[0].number} to {place.pieces[-1].number}"
    return f"{in_one_line(place.text, _TEXT_WIDTH)!s}, word {place.word}: {steps}"


def _print(console: "Console", piece: AnswerPiece, names: Sequence[str], at: int) -> None:
    """Print what was proposed; for a whole answer, the part around character ``at``."""
    step = piece.step
    start = max(0, at - _TEXT_WIDTH // 2) if step.whole else 0
    if len(step.candidates) == 1:
        console.print(
            f"  {_text(step.candidates[0], start)}  {_agreement(step, names)}", soft_wrap=True
        )
    else:
        console.print(_table(step, names, start))


def _agreement(step: Step, names: Sequence[str]) -> str:
    """Why there was only one candidate."""
    if set(names) <= set(step.winners):
        return "all agreed" if len(names) > 1 else "no other source took part"
    if not step.winners:
        return FORCED
    others = listeners(step)
    parts = [f"{', '.join(step.winners)} wrote this"]
    parts += [f"{', '.join(others)} proposed nothing else"] if others else []
    parts += ["no other source was asked"] if not_asked(step, names) else []
    return "; ".join(parts)


def _table(step: Step, names: Sequence[str], start: int) -> "Table":
    """Candidates in rows, sources in columns, an arrow at the winner."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="")
    for title in ("", "candidate", "by"):
        table.add_column(title, overflow="fold", no_wrap=not title)
    for index, name in enumerate(names):
        heading = Text(f"{letter(index)} {in_one_line(name, 12)}", f"color({colour(index)})")
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    for index, candidate in enumerate(step.candidates):
        wins = index == step.winner
        scores = [number(candidate.scores.get(name)) for name in names]
        cells = [
            _text(candidate, start),
            proposers(candidate, names),
            *scores,
            number(candidate.mean),
        ]
        style = "bold" if wins else ""
        table.add_row("→" if wins else "", *(Text(cell) for cell in cells), style=style)
    return table


def _text(candidate: ScoredCandidate, start: int) -> str:
    """The candidate from character ``start`` on, cut to the width of a cell."""
    rest = f"…{candidate.text[start:]}" if start else candidate.text
    text = in_one_line(rest, _TEXT_WIDTH) or ("" if candidate.ends else "(nothing)")
    return f"{text}{ENDS}" if candidate.ends else text


def statistics(steps: Sequence[Step], answer: Answer, first_word_s: float) -> str:
    """Speed, agreement and wins of one answer, on one line."""
    n_bytes = len(answer.text.encode())
    segments = [step for step in steps if not step.whole] or steps
    n_undisputed = sum(len(step.candidates) == 1 for step in segments)
    wins = Counter(name for step in segments if len(step.candidates) > 1 for name in step.winners)
    parts = [
        f"{n_bytes / answer.elapsed_s:.0f} bytes/s" if answer.elapsed_s else "",
        f"first word after {first_word_s:.2f} s",
        f"no dispute on {n_undisputed} of {len(segments)} segments",
        "wins: " + ", ".join(f"{name} {n}" for name, n in wins.most_common()) if wins else "",
        "passes: " + ", ".join(f"{name} {n}" for name, n in answer.passes.items()),
        f"chosen: {answer.chosen}",
        f"ended by: {answer.finish_reason}",
    ]
    return "; ".join(part for part in parts if part)
