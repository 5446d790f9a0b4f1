"""Who won over the course of an answer: a strip of columns, each a few neighbouring segments."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cf_local.trace.words import Piece

_WIDTH, _HEIGHT, _MOST_COLUMNS = 720, 44, 90


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of the strip, in its units (720 by 44)."""

    css: str
    x: float
    y: float
    width: float
    height: float


def strip(
    parts: Sequence[Piece],
    names: Sequence[str],
    css_of: Callable[[Sequence[str], Sequence[str]], str],
) -> tuple[Rect, ...]:
    """Columns from left to right; in each the shares of agreement (on top) and of the winners."""
    n_columns = min(len(parts), _MOST_COLUMNS)
    if not n_columns:
        return ()
    width = _WIDTH / n_columns
    rects = []
    for column in range(n_columns):
        start, end = (len(parts) * i // n_columns for i in (column, column + 1))
        counts = Counter(css_of(part.step.winners, names) for part in parts[start:end])
        y = 0.0
        for css in sorted(counts):
            height = _HEIGHT * counts[css] / (end - start)
            kind = f"w {css}" if css else "agreed"
            shown = max(width - 1, 0.8 * width)
            rects.append(Rect(kind, round(column * width, 1), round(y, 1), round(shown, 1),
                              round(height, 1)))  # fmt: skip
            y += height
    return tuple(rects)
