"""The tree of continuations that one model has read behind its committed text."""

from collections.abc import Iterable

from cf_local.llama.distribution import Distribution


class Node:
    """One token that was read at one place, and what the model expects behind it.

    ``holders`` are the sequences of the cache that its cell belongs to: without any, the token has
    to be evaluated again before something can follow it. What was computed of it stays true.
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
        """Negative log-likelihood of the token at its place; asked for while the row is there."""
        if self._nll_nats is None:
            assert self.parent is not None
            self._nll_nats = self.parent.expected.nll(self.token)
        return self._nll_nats

    def grow(self, tokens: Iterable[int]) -> "Node":
        """The last node of ``tokens`` behind this one; those that are not there yet are added."""
        node: Node = self
        for token in tokens:
            child = node.children.get(token)
            if child is None:
                child = node.children[token] = Node(token, node, node.position + 1)
            node = child
        return node

    def summarize(self, *, best: bool = True) -> None:
        """Let go of the row, when the children have what they need of it.

        With ``best`` the most likely token stays known.
        """
        for child in self.children.values():
            _ = child.nll_nats
        if best:
            self.expected.summarize()
        else:
            self.expected.drop()

    def path_from(self, ancestor: "Node") -> list["Node"]:
        """The nodes behind ``ancestor`` down to this one."""
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
