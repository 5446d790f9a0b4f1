"""The sequences of a KV cache: forked, so that they share a prefix, and dropped.

Sequences are forked and dropped whole, not cut: that works for attention, sliding-window, recurrent
and hybrid caches alike. The one exception, ``cut``, says whether it worked.
"""

from typing import Any

from cf_local.llama.library import lib


class Sequences:
    """The sequences of one context, by number."""

    def __init__(self, memory: Any, *, n_cells: int, window: int, can_share: bool) -> None:
        """``memory`` has ``n_cells`` cells; ``window`` is that of sliding attention, or 0.

        ``can_share``: false for a recurrent cache, which keeps one state, not a cell per position.
        """
        self._memory = memory
        self.n_cells = n_cells
        self.can_share = can_share
        # How far back a part of a sequence can be shared: all of it, or a sliding window.
        self.reach = (window or n_cells) if can_share else -1

    @property
    def shares_all(self) -> bool:
        """Whether any part of a sequence can be shared: not with windows or recurrent states."""
        return self.reach >= self.n_cells

    def n_tokens(self, sequence: int) -> int:
        """Tokens up to the last one of a sequence."""
        return int(lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def fork(self, parent: int, child: int) -> None:
        """Make ``child`` a sequence that shares all cells of ``parent``."""
        self.drop(child)
        lib.llama_memory_seq_cp(self._memory, parent, child, -1, -1)

    def share(self, parent: int, child: int, first: int, end: int) -> None:
        """Add the cells of ``parent`` at positions ``first`` to ``end`` to ``child``.

        Only where ``can_share``.
        """
        if first < end:  # a recurrent cache would take nothing for everything
            lib.llama_memory_seq_cp(self._memory, parent, child, first, end)

    def drop(self, sequence: int) -> None:
        """Forget a sequence; cells that no other sequence shares become free."""
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def cut(self, sequence: int, n_kept: int) -> bool:
        """Forget a sequence's tokens from position ``n_kept`` on; False where this cache cannot.

        A sliding-window cache that was read from a file lacks what lies before its window.
        """
        if self.can_share and self.reach < self.n_cells:
            first = lib.llama_memory_seq_pos_min(self._memory, sequence)
            if first > max(0, n_kept + 1 - self.reach):
                return False
        return bool(lib.llama_memory_seq_rm(self._memory, sequence, n_kept, -1))

    def clear(self) -> None:
        """Forget all sequences."""
        lib.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """The memory is gone: from now on nothing happens here."""
        self._memory = None
