"""An answer and how it came about: which source won which words, and what the others thought.

``words`` and ``visible`` are pure: pieces of an answer, the words they cover, text made safe to
show. Nothing here prints; terminals are the business of ``cli``.
"""

from cf_local.trace.visible import in_one_line, visible
from cf_local.trace.words import Covered, Piece, covering, pieces, shown

__all__ = ["Covered", "Piece", "covering", "in_one_line", "pieces", "shown", "visible"]
