"""What one model has read: the committed tokens, and a tree of continuations on forks.

A context has these sequences: the committed text, the prompt (to return to), and a pool of forks.
Forks share the cells of their common prefix, so a continuation costs only its own tokens, and
committing one moves the root of the tree down without a forward pass. Nothing is read twice:
drafts, candidates and lookahead are paths in the same tree. Speculation is nothing more than that,
so it cannot change what is drafted (see ``docs/speed.md``).

A recurrent cache has one state per sequence instead of a cell per token: there, only the tips of
forks can be continued, and everything else is read again from the committed text. A sliding-window
cache has lost what lies more than a window before a tip.

It leaves out how the committed text is read (``committed``), and which sequence holds which node
and which rows of logits are cached (``tree``).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from cf_local.llama.committed import CommittedText
from cf_local.llama.context import MAX_PASS_LOGITS, Context, Passes, TokenRow
from cf_local.llama.tree import CachedRows, Forks, Node, Pending

_MOST_DEFERRED = 32
"""Tokens: one more costs a quarter of a pass over one, and half as much as among four."""


class Cache:
    """The committed tokens of one conversation, and the tree of what was read after them."""

    def __init__(self, context: Context, passes: Passes, text: CommittedText, n_forks: int) -> None:
        """``text`` is that in ``context``, which it changes together with the tree.

        ``n_forks`` is how many candidates of other sources can be read at once.
        """
        self._context, self._passes = context, passes
        self._committed = text
        self._tree = Forks(context.sequences, n_forks)
        self._rows = CachedRows(context.n_vocab)
        self._asked: list[Node] = []  # the ends of the last paths read
        self._revisits = self._is_lazy = False
        self.head = self._prompt_end = self._tree.root

    # ---- The committed text

    @property
    def root(self) -> Node:
        """The last committed token that was evaluated; ``head`` may be further."""
        return self._tree.root

    @property
    def n_tokens(self) -> int:
        """Committed tokens."""
        return self.head.position + 1

    def response_to(self, node: Node) -> list[int]:
        """The tokens of the response, and of what follows it down to a node."""
        after = (each.token for each in node.path_from(self._tree.root))
        return [*self._committed.response, *after]

    def settle(self) -> None:
        """Evaluate the committed tokens that were deferred."""
        self.read([(self.head, ())])

    def prefill(
        self,
        tokens: list[int],
        *,
        is_lazy: bool = False,
        revisits: bool = False,
    ) -> Iterator[float]:
        """Make ``tokens`` the committed text, reusing what was already read of them.

        Works pass by pass and yields the share that was read; others may read in between.
        ``is_lazy`` defers the pass for the last committed token until more has to be read;
        ``revisits`` announces a ``restart`` that keeps the response resident.
        """
        self.drop_all()
        self._tree.release()
        self._rows.drop_copies(but=(self._tree.root, self._prompt_end))
        self._is_lazy = is_lazy
        self._revisits = revisits
        if self._committed.has_prompt(tokens):
            self.restart()
            return
        self._keep_rows()
        try:
            expected = yield from self._committed.prefill(tokens)
            self._start(Node(tokens[-1], None, len(tokens) - 1))
            self._tree.root.expected = expected
            yield 1.0
        except BaseException:  # an abort may leave part of it in the cache
            self._committed.forget()
            self._start(Node(-1, None, -1))
            raise

    def _start(self, root: Node) -> None:
        """Start at ``root``, the end of the prompt; nothing was read after it."""
        self._tree.restart(root)
        self.head = self._prompt_end = root

    def restart(self, *, keep_response: bool = False) -> None:
        """Return to the end of the prompt; with ``keep_response`` the response stays resident."""
        self.drop_all()
        self._tree.release()
        start, end = self._prompt_end, self._tree.root
        if keep_response and self._revisits and end is not start:
            self._tree.hold(start, end)
        else:
            start.children = {}
        self._committed.restart()
        self._tree.root = self.head = start

    def commit(self, end: Node) -> None:
        """Make ``end`` the last committed token; what follows it in the tree stays.

        Where passes may be deferred, text that was not read is read later, many tokens at a time:
        when something follows it, or when ``_MOST_DEFERRED`` tokens wait.
        """
        is_read = self._tree.is_resident(end) and end.expected.knows(None)
        n_waiting = end.position - self.root.position
        if not is_read and (not self._is_lazy or n_waiting >= _MOST_DEFERRED):
            self.read([(end, ())])  # before it is committed: the pass may be cancelled
            is_read = True
        self.head = end
        if is_read:
            self._move_root(end)
        else:
            self._defer(end)

    def _defer(self, end: Node) -> None:
        """Leave what was not read of the committed text for later; nothing else follows it."""
        path = end.path_from(self.root)
        there = [node for node in path[:-1] if self._tree.is_resident(node)]
        if there:
            self._move_root(there[-1])
        self.drop_all()

    # ---- Saved states

    def save(self, path: Path, tokens: Sequence[int]) -> list[int]:
        """Save the state after what was read of ``tokens`` (CommittedText.save); drops forks."""
        self.drop_all()
        self._tree.release()
        return self._committed.save(path, tokens)

    def restore(self, path: Path) -> int:
        """Make the state of a file the committed text; returns its tokens, 0 on failure."""
        self.drop_all()
        self._tree.release()
        self._rows.drop_copies(but=(self._tree.root, self._prompt_end))
        self._start(Node(-1, None, -1))
        return self._committed.restore(path)

    # ---- Continuations

    def fits(self, n_tokens: int) -> bool:
        """Whether the committed text can grow by ``n_tokens``."""
        return self.n_tokens + n_tokens <= self._context.n_max

    def known(self, parent: Node, token: int, *, whole_row: bool = False) -> Node | None:
        """The node of ``token`` after ``parent``, if what follows it is known without a pass."""
        child = parent.children.get(token)
        if child is None or not self._tree.is_resident(child):
            return None
        is_known = child.expected.knows(None) if whole_row else child.expected.knows_best
        return child if is_known else None

    def read(
        self, paths: Iterable[tuple[Node, Sequence[int]]], *, all_rows: bool = False
    ) -> list[Node]:
        """Read some paths (tokens after a node) in as few passes as possible; returns their ends.

        The rows of the ends are there afterwards, those in between only with ``all_rows``.
        """
        pending: list[Pending] = []
        ends = self._asked = []
        if all_rows and self.head is not self._tree.root:
            paths = [(self.head, ()), *paths]  # what follows it may already be there
        try:
            for start, tokens in paths:
                end = start.grow(tokens)
                missing = self._tree.missing(start, end, pending)
                while not self._tree.has_room(missing):
                    if pending:
                        self._evaluate(pending, ends, all_rows)
                        pending = []
                    elif not self._tree.give_up_one(missing):
                        break
                    missing = self._tree.missing(start, end, pending)
                if missing:
                    self._tree.plan(missing, pending)
                ends.append(end)
            self._evaluate(pending, ends, all_rows)
        except BaseException:
            self.drop_all()
            raise
        # As part of a longer candidate the head may be resident and have lost its row.
        has_row = self.head.expected.knows(None)
        if self.head is not self._tree.root and has_row and self._tree.is_resident(self.head):
            self._move_root(self.head)
        return ends

    def read_to_score(self, ends: Sequence[tuple[Node, bool]]) -> None:
        """Like ``read``, for the paths to some nodes; True marks those whose row is wanted.

        A last token whose likelihood follows from the row before it is left for later, if no pass
        is needed at all or if passes may be deferred.
        """
        paths = [end.path_from(self.head) for end, _ in ends]
        if any(not node.knows_nll and node.holders for path in paths for node in path):
            self._tree.drop_all()  # the row before it was not computed, or is gone: read all again
        missing = [(end, ()) for end, wants_row in ends if wants_row or not self._knows_nll(end)]
        if missing and not self._is_lazy:
            missing = [(end, ()) for end, _ in ends]
        self.read(missing)

    def time_pass(self, n_tokens: int) -> float:
        """Seconds of a pass whose result is not used; call it while no answer is written."""
        self._keep_rows()
        return self._context.time_pass(n_tokens)

    def drop_all(self) -> None:
        """Forget all continuations."""
        self._tree.drop_all()
        self.root.children = {}
        for node in self.head.path_from(self.root):  # committed, and not read yet
            assert node.parent is not None
            node.parent.children = {node.token: node}
        self.head.children = {}

    def close(self) -> None:
        """Free all memory at once: nodes refer to each other, and so do texts."""
        self._rows.drop_all()
        self._tree.root.expected.drop()
        self._asked = []
        self._committed.close()
        self._start(Node(-1, None, -1))

    def _knows_nll(self, end: Node) -> bool:
        """Whether the row before ``end`` is there and gives its likelihood."""
        parent = end.parent
        return (
            parent is not None
            and end is not self._tree.root
            and self._tree.is_resident(parent)
            and parent.expected.knows(end.token)
        )

    def _move_root(self, end: Node) -> None:
        """Make ``end``, which is resident, the end of the committed sequence."""
        path = end.path_from(self._tree.root)
        self._tree.commit(path)
        for parent, node in pairwise([self._tree.root, *path]):
            if self._revisits:
                parent.children = {node.token: node}
                if parent is not self._prompt_end:
                    parent.summarize()
            else:
                parent.children, node.parent = {}, None
        self._committed.append([node.token for node in path])
        self._tree.root = end

    # ---- Forward passes

    def _evaluate(self, pending: Sequence[Pending], ends: Sequence[Node], all_rows: bool) -> None:
        """Run passes over what is pending; the rows of ``ends`` must stay."""
        wanted = {*ends, self.head}
        for start in range(0, len(pending), MAX_PASS_LOGITS):
            chunk = pending[start : start + MAX_PASS_LOGITS]
            self._keep_rows()
            # What follows a committed token that was deferred is known: its row is not needed.
            starts = self.head.position
            self._passes.run(
                [
                    TokenRow(
                        w.node.token, w.node.position, tuple(w.forks), w.node.position >= starts
                    )
                    for w in chunk
                ]
            )
            for index, (node, *_) in enumerate(chunk):
                if node.position < starts or node.expected.knows(None):
                    continue  # read again for another fork
                node.expected = self._context.expected(index)
                if all_rows or node in wanted:
                    self._rows.add(node)
                else:
                    node.summarize(best=False)

    def _keep_rows(self) -> None:
        """Copy rows of the last pass that are still needed: the next pass overwrites them."""
        self._rows.keep(always=(self._tree.root, *self._asked))
