"""The tree of continuations that a model has read after its committed text."""

from collections import deque
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from cf_local.llama.context import Sequences
from cf_local.llama.distribution import Distribution


class Node:
    """A token that was read at one position, and what the model expects after it.

    ``holders`` are the sequences that its cell in the cache belongs to: without any, the token must
    be evaluated again before another can follow it. What was computed from it stays valid.
    """

    __slots__ = ("_nll_nats", "children", "expected", "holders", "parent", "position", "token")

    def __init__(self, token: int, parent: "Node | None", position: int) -> None:
        self.token = token
        self.parent = parent
        self.position = position
        self.expected = Distribution.unknown()
        self.holders: set[int] = set()
        self.children: dict[int, Node] = {}
        self._nll_nats: float | None = None

    @property
    def nll_nats(self) -> float:
        """Negative log-likelihood of the token; first read while the row before it is there."""
        if self._nll_nats is None:
            assert self.parent is not None
            self._nll_nats = self.parent.expected.nll(self.token)
        return self._nll_nats

    @property
    def knows_nll(self) -> bool:
        """Whether ``nll_nats`` is available."""
        known = self.parent is not None and self.parent.expected.knows(self.token)
        return self._nll_nats is not None or known

    def grow(self, tokens: Iterable[int]) -> "Node":
        """The last node of ``tokens`` after this one; adds those that are missing."""
        node: Node = self
        for token in tokens:
            child = node.children.get(token)
            if child is None:
                child = node.children[token] = Node(token, node, node.position + 1)
            node = child
        return node

    def summarize(self, *, best: bool = True) -> None:
        """Drop the row, after the children have what they need from it.

        With ``best`` the most likely token stays known.
        """
        for child in self.children.values():
            if self.expected.knows(child.token):
                _ = child.nll_nats
        if best and self.expected.knows_best:
            self.expected.summarize()
        else:
            self.expected.drop()

    def path_from(self, ancestor: "Node") -> list["Node"]:
        """The nodes after ``ancestor`` down to this one."""
        path, node = [], self
        while node is not ancestor:
            path.append(node)
            assert node.parent is not None, "not an ancestor"
            node = node.parent
        return path[::-1]

    def is_below(self, ancestor: "Node") -> bool:
        """Whether this node continues ``ancestor``, or is it."""
        node: Node | None = self
        while node is not None and node.position > ancestor.position:
            node = node.parent
        return node is ancestor


# What is expected after a token is a row of logits: 0.6 MB with a vocabulary of 150,000.
_ROW_BYTES = 32_000_000
_MIN_ROWS = 48


def n_row_bytes(n_vocab: int) -> int:
    """The most bytes of rows that one cache holds."""
    return 4 * n_vocab * _n_rows(n_vocab)


def _n_rows(n_vocab: int) -> int:
    return max(_MIN_ROWS, _ROW_BYTES // (4 * n_vocab)) if n_vocab else 0


class CachedRows:
    """The nodes of one tree that have a row: a view of the last pass, or an older copy."""

    def __init__(self, n_vocab: int) -> None:
        self.max_rows = _n_rows(n_vocab)
        self._fresh: list[Node] = []  # nodes whose rows are views of the last pass
        self._copies: deque[Node] = deque()  # nodes whose rows are copies

    def add(self, node: Node) -> None:
        """The last pass computed what is expected after ``node``."""
        self._fresh.append(node)

    def keep(self, always: Container[Node]) -> None:
        """Copy the rows of the last pass that may still be needed, within bounds.

        These are the rows of ``always``, and of nodes that the cache can continue. Call it before
        the next pass.
        """
        for node in self._fresh:
            if node.expected.knows(None) and (node.holders or node in always):
                node.expected.keep()
                self._copies.append(node)
            elif node.expected.knows(None):
                # Its fork was dropped. A candidate may end one token further: that token is not
                # read while this row gives its likelihood (Cache.read_to_score).
                node.summarize(best=False)
        self._fresh = []
        while len(self._copies) > self.max_rows:
            oldest = self._copies.popleft()
            if oldest not in always:
                oldest.summarize()

    def drop_copies(self, but: Container[Node]) -> None:
        """Drop the rows of the last answer: with several conversations they would add up."""
        copies = [node for node in self._copies if node in but]
        for node in self._copies:
            if node not in copies:
                node.expected.drop()
        self._copies = deque(copies)

    def drop_all(self) -> None:
        """Drop all rows."""
        for node in (*self._fresh, *self._copies):
            node.expected.drop()
        self._fresh = []
        self._copies.clear()


COMMITTED, PROMPT, _FIRST_FORK = range(3)
SPARE = _FIRST_FORK
"""A sequence for other purposes while no fork is in use."""
_FORK_RESERVE = 64  # cells per fork, so that drafts and candidates fit beyond a full context
_OWN_FORKS = 2  # the draft and the lookahead


class Pending(NamedTuple):
    """A token to evaluate; ``depth`` counts pending tokens on its path, itself included."""

    node: Node
    forks: set[int]
    depth: int


def n_sequences(n_forks: int) -> int:
    """Sequences that a context needs for ``n_forks`` candidates of other sources."""
    return _FIRST_FORK + _OWN_FORKS + n_forks


def n_cells(n_ctx: int, n_forks: int) -> int:
    """Cells a context needs so that texts of ``n_ctx`` tokens can still be drafted and scored."""
    return n_ctx + (n_forks + 2) * _FORK_RESERVE


class Forks:
    """The forks of one context after its committed sequence, which ends at ``root``."""

    def __init__(self, sequences: Sequences, n_forks: int) -> None:
        self._sequences = sequences
        self._forks = range(_FIRST_FORK, n_sequences(n_forks))
        self._tips: dict[int, Node] = {}  # the last node of each fork in use, oldest use first
        # How many committed tokens each fork shares, used or not. Sharing them again for every
        # candidate takes llama.cpp longer the longer the text is: 0.5 ms at 4,000 tokens. Not
        # with a sliding window, whose cells cannot be reused while others share them.
        self._n_shared: dict[int, int] = {}
        self._keeps_shared = sequences.shares_all
        self.root = Node(-1, None, -1)

    def restart(self, root: Node) -> None:
        """Forget all forks; the committed sequence ends at ``root``."""
        self._tips, self._n_shared = {}, {}
        self.root = root

    def release(self) -> None:
        """Release all cells, before the committed sequence gets shorter."""
        self.drop_all()
        for fork in self._n_shared:
            self._sequences.drop(fork)
        self._n_shared = {}

    def hold(self, start: Node, end: Node) -> None:
        """Hold what was committed after ``start`` on a fork, before it is dropped."""
        fork = self._forks[0]
        self._sequences.fork(COMMITTED, fork)
        self._tips[fork] = end
        for node in end.path_from(start):
            node.holders = {fork}

    def commit(self, path: Sequence[Node]) -> None:
        """Move a path after the root to the committed sequence; keep only forks that follow it."""
        end = path[-1] if path else self.root
        if path:
            self._append(path)
        for fork, tip in list(self._tips.items()):
            if tip is end or not tip.is_below(end):
                self._drop(fork)

    def drop_all(self) -> None:
        """Drop all forks."""
        for fork in list(self._tips):
            self._drop(fork)

    def is_resident(self, node: Node) -> bool:
        """Whether the cache can continue after this node."""
        return node is self.root or self._donor(node) is not None

    def _donor(self, node: Node, but_not: Container[int] = ()) -> int | None:
        """A fork whose cells down to ``node`` can be shared; None if there is none."""
        for fork in node.holders:
            tip = self._tips[fork]
            is_near = tip.position - self.root.position <= self._sequences.reach
            if fork not in but_not and (tip is node or is_near):
                return fork
        return None

    def missing(self, start: Node, end: Node, pending: Sequence[Pending]) -> list[Node]:
        """The nodes down to ``end`` after the last one that has both its cells and its row.

        Continuing the tip of a recurrent fork loses it, so only paths that start there do.
        """
        planned = {waiting.node for waiting in pending}
        missing: list[Node] = []
        node, next_token = end, None
        while node is not self.root:
            can_go_on = self.is_resident(node) and (self._sequences.can_share or node is start)
            if can_go_on and (node in planned or node.expected.knows(next_token)):
                break
            missing.append(node)
            next_token = node.token
            assert node.parent is not None, "a node of another text"
            node = node.parent
        return missing[::-1]

    def plan(self, missing: Sequence[Node], pending: list[Pending]) -> None:
        """Find a fork for ``missing`` nodes, and add them to ``pending``."""
        anchor = missing[0].parent
        assert anchor is not None
        fork = next((f for f, tip in self._tips.items() if tip is anchor), None)
        if fork is None:
            fork = self._new_fork(anchor, pending)
        self._tips.pop(fork, None)
        self._tips[fork] = missing[-1]
        n_before = next((w.depth for w in pending if w.node is anchor), 0)
        for depth, node in enumerate(missing, n_before + 1):
            node.holders.add(fork)
            pending.append(Pending(node, {fork}, depth))

    def _new_fork(self, anchor: Node, pending: Sequence[Pending]) -> int:
        """A fork that holds everything down to ``anchor``."""
        fork = next(fork for fork in self._forks if fork not in self._tips)
        self._share_committed(fork)
        path = anchor.path_from(self.root)
        planned = {waiting.node: waiting for waiting in pending} if path else {}
        # Sequences that get the same tokens in one pass must share all tokens before it.
        n_new = planned[anchor].depth if anchor in planned else 0
        there, coming = path[: len(path) - n_new], path[len(path) - n_new :]
        if there:
            last = there[-1]
            donor = self._donor(last, but_not=planned[last].forks if last in planned else ())
            assert donor is not None
            self._sequences.share(donor, fork, there[0].position, last.position + 1)
        for node in coming:
            planned[node].forks.add(fork)
        for node in path:
            node.holders.add(fork)
        return fork

    def has_room(self, missing: Sequence[Node]) -> bool:
        """Whether a fork and enough cells are free for ``missing`` nodes as well."""
        if not missing:
            return True
        n_free = self._sequences.n_cells - (self.root.position + 1) - len(missing)
        n_held = sum(tip.position - self.root.position for tip in self._tips.values())
        if n_held > n_free:  # forks share cells: count exactly
            n_held = len({n for tip in self._tips.values() for n in tip.path_from(self.root)})
        is_tip = missing[0].parent in self._tips.values()
        return n_held <= n_free and (is_tip or len(self._tips) < len(self._forks))

    def give_up_one(self, missing: Sequence[Node]) -> bool:
        """Drop the fork that alone holds the fewest tokens; False if none can be dropped."""
        anchor = missing[0].parent
        forks = [f for f in self._tips if anchor is None or anchor.holders != {f}]
        if forks:
            self._drop(min(forks, key=self._n_alone))
        return bool(forks)

    def _n_alone(self, fork: int) -> int:
        """Tokens that only this fork holds."""
        n_tokens, node = 0, self._tips[fork]
        while node.holders == {fork} and node.parent is not None:
            n_tokens, node = n_tokens + 1, node.parent
        return n_tokens

    def _append(self, path: Sequence[Node]) -> None:
        """Add the cells of a path after the committed text to the committed sequence."""
        end = path[-1]
        donor = self._donor(end)
        assert donor is not None
        if self._tips[donor] is end and not self._keeps_shared:
            self._sequences.fork(donor, COMMITTED)
        else:
            self._sequences.share(donor, COMMITTED, path[0].position, end.position + 1)

    def _drop(self, fork: int) -> None:
        node: Node | None = self._tips.pop(fork)
        while node is not None and node is not self.root:
            node.holders.discard(fork)
            node = node.parent
        if not (self._keeps_shared and self._sequences.cut(fork, self._n_shared.get(fork, 0))):
            self._sequences.drop(fork)
            self._n_shared.pop(fork, None)

    def _share_committed(self, fork: int) -> None:
        """Make an unused fork end where the committed sequence does."""
        if not self._keeps_shared:
            self._sequences.fork(COMMITTED, fork)
            return
        n_committed = self.root.position + 1
        self._sequences.share(COMMITTED, fork, self._n_shared.get(fork, 0), n_committed)
        self._n_shared[fork] = n_committed
