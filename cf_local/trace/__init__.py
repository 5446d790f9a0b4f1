"""An answer and how it came about: which source won which words, and what the others thought.

``record`` makes a Trace of what a fusion has just written, ``write`` and ``read`` keep traces in a
file (docs/trace.md), ``page.render`` draws them. ``covering``, ``pieces`` and ``visible`` are pure:
pieces of an answer, the words they cover, text made safe to show. Nothing here prints.
"""

from cf_local.trace.file import check_place, write
from cf_local.trace.labels import ENDS, letter, number, proposers
from cf_local.trace.lines import answer_line, lines, step_line
from cf_local.trace.model import Heading, Trace, TracedSource
from cf_local.trace.read import read, read_from
from cf_local.trace.record import now, record, traced
from cf_local.trace.summary import Summary, summarize
from cf_local.trace.visible import in_one_line, visible
from cf_local.trace.words import Covered, Piece, covering, pieces, shown

__all__ = [
    "ENDS",
    "Covered",
    "Heading",
    "Piece",
    "Summary",
    "Trace",
    "TracedSource",
    "answer_line",
    "check_place",
    "covering",
    "in_one_line",
    "letter",
    "lines",
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
    "write",
]
