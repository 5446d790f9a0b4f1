"""Short names for what a trace shows: letters of sources, scores in few characters."""

import math
from collections.abc import Sequence

from cf_local.trace.visible import in_one_line
from cf_local.types import ScoredCandidate

ENDS = "∎"
"""Stands behind a candidate that ends the answer."""
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_OF_NAME = 24


def letter(index: int) -> str:
    """The letter of the source that is listed at ``index`` (from 0): A to Z, then A2, B2, ..."""
    round_ = index // len(_LETTERS)
    return _LETTERS[index % len(_LETTERS)] + (str(round_ + 1) if round_ else "")


def proposers(candidate: ScoredCandidate, names: Sequence[str]) -> str:
    """Letters of the sources; the fused answer among whole ones by its mark."""
    letters = "".join(letter(i) for i, name in enumerate(names) if name in candidate.sources)
    others = [in_one_line(n, _MOST_OF_NAME) for n in candidate.sources if n not in names]
    return "+".join([letters, *others] if letters else others)


def number(value: float | None) -> str:
    """A score or mean in few characters; a dash for one that was not needed."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "∞"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
