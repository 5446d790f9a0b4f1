"""Plain tables: cells in columns, as wide as the widest."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], *, indent: int = 0) -> str:
    """One line per row, cells left-aligned with two spaces between them; all rows of one length."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(" " * indent + line for line in lines)


def size_text(n_bytes: int | None) -> str:
    """Bytes as people say them: 1.5 MB, 2.02 GB."""
    if n_bytes is None:
        return "size unknown"
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
