"""Plain tables: columns as wide as they must be, and numbers that people read."""

import time
from collections.abc import Sequence


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line per row, the cells of a column under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def size(n_bytes: int | None) -> str:
    """Bytes as the hub counts them: 1 GB is 10⁹."""
    if n_bytes is None:
        return "?"
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:.2f} GB"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def day(seconds: float) -> str:
    """A time since 1970 as a date of this place."""
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
