"""Where the engine and the reference part."""

import codecs
from itertools import zip_longest

import reference as ref

from cf_local.types import Step


def show(text: bytes) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return decoder.decode(text)  # not final: an incomplete character at the end is left out


def candidates_of(step: Step | None) -> list[tuple[str, bool]] | None:
    return step and [(c.text, c.ends) for c in step.candidates]


def first_difference(steps: list[Step], expected: list[ref.RefStep]) -> ref.RefStep | None:
    """The reference's step at which the engine first has other candidates or another winner."""
    for step, known in zip_longest(steps, expected):
        if known is None or step is None:
            return known
        texts = [(show(c.text), c.ends) for c in known.candidates]
        mine = candidates_of(step) or []
        # A step that was decided early has fewer candidates.
        is_part = set(mine) <= set(texts) if len(step.asked) < len(step.passes) else mine == texts
        if not is_part or mine[step.winner] != texts[known.winner]:
            return known
    return None
