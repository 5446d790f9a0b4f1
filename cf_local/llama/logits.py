"""Which rows of logits are kept when the next forward pass overwrites them, and how many."""

from collections import deque
from collections.abc import Container

from cf_local.llama.tree import Node

# What is expected behind a token is a row of logits: 0.6 MB with a vocabulary of 150,000.
_ROW_BYTES = 32_000_000
_MIN_ROWS = 48


def n_row_bytes(n_vocab: int) -> int:
    """Bytes of the rows that one cache keeps at most."""
    return 4 * n_vocab * _n_rows(n_vocab)


def _n_rows(n_vocab: int) -> int:
    return max(_MIN_ROWS, _ROW_BYTES // (4 * n_vocab)) if n_vocab else 0


class KeptRows:
    """The nodes of one tree that have a row: a view of the last pass, or a copy from before."""

    def __init__(self, n_vocab: int) -> None:
        self.max_rows = _n_rows(n_vocab)
        self._fresh: list[Node] = []  # nodes whose rows are views of the last pass
        self._kept: deque[Node] = deque()  # nodes whose rows are copies

    def add(self, node: Node) -> None:
        """The last pass computed what is expected behind ``node``."""
        self._fresh.append(node)

    def keep(self, always: Container[Node]) -> None:
        """Copy the rows of the last pass that may still be asked for, within bounds.

        They are those of ``always``, and of nodes that the cache can go on behind. To be called
        before the next pass.
        """
        for node in self._fresh:
            if node.expected.tells(None) and (node.holders or node in always):
                node.expected.keep()
                self._kept.append(node)
            elif node.expected.tells(None):
                # Its fork was given up. A candidate may end one token further: nobody reads that
                # one while this row tells its likelihood (Cache.read_to_score).
                node.summarize(best=False)
        self._fresh = []
        while len(self._kept) > self.max_rows:
            oldest = self._kept.popleft()
            if oldest not in always:
                oldest.summarize()

    def drop_copies(self, but: Container[Node]) -> None:
        """Let go of the rows of the last answer: with several conversations they would add up."""
        kept = [node for node in self._kept if node in but]
        for node in self._kept:
            if node not in kept:
                node.expected.drop()
        self._kept = deque(kept)

    def drop_all(self) -> None:
        """Let go of all rows."""
        for node in (*self._fresh, *self._kept):
            node.expected.drop()
        self._fresh = []
        self._kept.clear()
