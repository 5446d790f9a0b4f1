"""An answer and how it came about: which source won which words, and how the others scored them.

``record`` makes a Trace of what a fusion has just written, ``write`` and ``read`` save and load
traces (docs/trace.md), and ``page.render`` draws them. ``covering``, ``pieces`` and ``visible`` are
pure: the pieces of an answer, the words they cover, text made safe to show. Nothing here prints.
"""

from cf_local.trace.format import answer_line, check_place, lines, read, read_from, step_line, write
from cf_local.trace.recording import (
    Heading,
    Trace,
    TracedSource,
    TraceSummary,
    now,
    record,
    summarize,
    traced,
)
from cf_local.trace.words import (
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
    pieces,
    proposers,
    shown,
    visible,
    winners_of_dispute,
)

__all__ = [
    "ENDS",
    "FORCED",
    "AnswerPiece",
    "Covered",
    "Heading",
    "Trace",
    "TraceSummary",
    "TracedSource",
    "answer_line",
    "check_place",
    "covering",
    "in_one_line",
    "letter",
    "lines",
    "listeners",
    "not_asked",
    "now",
    "number",
    "pieces",
    "proposers",
    "read",
    "read_from",
    "record",
    "shown",
    "step_line",
    "summarize",
    "traced",
    "visible",
    "winners_of_dispute",
    "write",
]
