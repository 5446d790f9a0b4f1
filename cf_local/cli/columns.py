"""Plain tables with aligned columns, and numbers as people read them."""

import time
from collections.abc import Sequence


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line per row, with aligned columns. All rows have the same number of cells."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def size(n_bytes: int | None) -> str:
    """A number of bytes, in the hub's units: 1 GB is 10⁹ bytes. "?" for None."""
    if n_bytes is None:
        return "?"
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:.2f} GB"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def count(number: int) -> str:
    """A large number in words, with three digits: 1.54 billion."""
    for unit, one in (("billion", 1e9), ("million", 1e6)):
        if number >= 0.9995 * one:
            return f"{number / one:.3g} {unit}"
    return str(number)


def duration(seconds: float) -> str:
    """A rounded duration: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def day(seconds: float) -> str:
    """A Unix time as a date in the local time zone."""
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
