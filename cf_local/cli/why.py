"""Why the answer says what it says: who proposed what for a word, and how everybody scored it."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cf_local.cli.winners import colour
from cf_local.trace import (
    ENDS,
    AnswerPiece,
    Covered,
    covering,
    in_one_line,
    letter,
    number,
    proposers,
)
from cf_local.types import ScoredCandidate, Step

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MOST_PLACES = 3
_TEXT_WIDTH = 40  # characters of a candidate, or of a word asked about


def why(
    steps: Sequence[Step],
    names: Sequence[str],
    what: str | int,
    *,
    in_colour: bool,
    width: int = 80,
) -> str:
    """What was proposed for the words that ``what`` names (see ``trace.covering``), as text.

    ``names`` are the sources in their order, ``width`` the columns of the terminal. Raises
    InputError when the answer has no such words.
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
    told: set[int] = set()
    for place in places[:_MOST_PLACES]:
        console.print(_heading(place), style="bold", soft_wrap=True)
        for piece in place.pieces:
            if piece.number not in told or not piece.step.whole:
                _print(console, piece, names, place.start)
            told.add(piece.number)
    if more := places[_MOST_PLACES:]:
        numbers = ", ".join(f"word {place.word}" for place in more[:10])
        console.print(f"Also at {numbers}{' ...' if len(more) > 10 else '.'}")
    # Rich fills lines with spaces, which would be copied along.
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _heading(place: Covered) -> str:
    n_steps = len(place.pieces)
    steps = f"step {place.pieces[0].number}" if place.pieces else "no step"
    if n_steps > 1:
        steps = f"steps {place.pieces[0].number} to {place.pieces[-1].number}"
    return f"{in_one_line(place.text, _TEXT_WIDTH)!s}, word {place.word}: {steps}"


def _print(console: "Console", piece: AnswerPiece, names: Sequence[str], at: int) -> None:
    """What was proposed; of a whole answer the part around character ``at``."""
    step = piece.step
    start = max(0, at - _TEXT_WIDTH // 2) if step.whole else 0
    if len(step.candidates) == 1:
        console.print(
            f"  {_text(step.candidates[0], start)}  {_agreement(step, names)}", soft_wrap=True
        )
    else:
        console.print(_table(step, names, start))


def _agreement(step: Step, names: Sequence[str]) -> str:
    """Why there was nothing to choose."""
    if set(names) <= set(step.winners):
        return "all agreed" if len(names) > 1 else "nobody else took part"
    return f"{', '.join(step.winners)} wrote this; nobody else was asked"


def _table(step: Step, names: Sequence[str], start: int) -> "Table":
    """Candidates in rows, sources in columns; the winner has an arrow."""
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
    """The candidate from character ``start`` on, in a cell's width."""
    rest = f"…{candidate.text[start:]}" if start else candidate.text
    text = in_one_line(rest, _TEXT_WIDTH) or ("" if candidate.ends else "(nothing)")
    return f"{text}{ENDS}" if candidate.ends else text
