"""What one model has read: the committed tokens, and a tree of continuations on forks.

Sequences of the context: the committed text, the prompt (to return to), and a pool of forks. Forks
share the cells of their common prefix, so a continuation costs only its own tokens, and committing
one moves the root of the tree down without a forward pass. Nothing is read twice: drafts,
candidates and text that is only expected to come are paths in the same tree. This is all that
speculation is, so it cannot change what is drafted (see ``docs/speed.md``).

A recurrent cache keeps one state per sequence instead of a cell per token: there, only the tips of
forks can be continued, and everything else is read anew from the committed text. A sliding-window
cache has lost what lies more than a window behind a tip.

Several conversations have a cache and a context each, so that none reads, slows or rounds what
another one does; a prompt that begins as the text of another one does is copied from there instead
of being evaluated again.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from cf_local.errors import Cancelled
from cf_local.llama.context import MAX_PASS_LOGITS, MAX_PASS_TOKENS, Context, Row
from cf_local.llama.distribution import Distribution
from cf_local.llama.forks import COMMITTED, PROMPT, SPARE, Forks, Pending
from cf_local.llama.tree import Node
from cf_local.source import IsCancelled, Readable, never
from cf_local.tokenization import n_common
from cf_local.types import Score

# What is expected behind a token is a row of logits: 0.6 MB with a vocabulary of 150,000.
_ROW_BYTES = 32_000_000
_MIN_ROWS = 48


def n_row_bytes(n_vocab: int) -> int:
    """Bytes of the rows that one cache keeps at most."""
    return 4 * n_vocab * _n_rows(n_vocab)


def _n_rows(n_vocab: int) -> int:
    return max(_MIN_ROWS, _ROW_BYTES // (4 * n_vocab)) if n_vocab else 0


class Cache:
    """Committed tokens of one conversation, and the tree of what was read behind them."""

    def __init__(self, context: Context, n_forks: int, others: Sequence["Cache"] = ()) -> None:
        """``others`` are the caches of the same model; more may be added to it later."""
        self._context = context
        self._others = others
        self._tree = Forks(context, n_forks)
        self._asked: list[Node] = []  # the ends of paths last read
        self._fresh: list[Node] = []  # nodes whose rows are views of the last pass
        self._kept: deque[Node] = deque()  # nodes whose rows are copies
        self._max_rows = _n_rows(context.n_vocab)
        self._revisits = self._is_lazy = False
        self.keeps_entropy = False  # of the rows that it keeps or summarizes
        self._n_timed, self._timed_s = 0, 0.0  # tokens of prompts read so far, and how long it took
        self.prompt_score: Score | None = None
        self.is_cancelled: IsCancelled = never
        self.tokens: list[int] = []
        self.n_prompt = 0
        self.head = self._prompt_end = self._tree.root

    # ---- The committed text

    @property
    def root(self) -> Node:
        """The last committed token that was evaluated; ``head`` may be one further."""
        return self._tree.root

    @property
    def n_tokens(self) -> int:
        """Committed tokens."""
        return self.head.position + 1

    def settle(self) -> None:
        """Evaluate the last committed token if that was put off."""
        self.read([(self.head, ())])

    def reading(
        self,
        tokens: list[int],
        *,
        is_lazy: bool = False,
        revisits: bool = False,
        scores: bool = False,
    ) -> Iterator[float]:
        """Make ``tokens`` the committed text, keeping what the caches share with them.

        Goes pass by pass and yields the share that was read; others may read in between.
        ``is_lazy`` puts off a pass for the last committed token until more is to be read;
        ``revisits`` says that ``restart`` will be asked to keep the response within reach.
        ``scores`` sees to a ``prompt_score``: if there is none, the whole prompt is read again.
        """
        self.drop_all()
        self._tree.release()
        self._drop_rows()
        self._is_lazy = is_lazy
        self._revisits = revisits
        is_same = self.n_prompt and tokens == self.tokens[: self.n_prompt]
        if is_same and not (scores and self.prompt_score is None):
            self.restart()
            return
        self._context.drop(PROMPT)
        self.prompt_score, self.n_prompt = None, 0
        try:
            yield from self._evaluate_prompt(tokens, scores)
        except BaseException:  # an abort may leave some of it in the cache
            self._forget()
            raise

    def _end_prompt(self, tokens: list[int], expected: Distribution) -> None:
        """The committed sequence holds the whole prompt."""
        self._context.fork(COMMITTED, PROMPT)
        self.n_prompt, self.tokens = len(tokens), list(tokens)
        self._tree.restart(Node(tokens[-1], None, len(tokens) - 1))
        self.head = self._prompt_end = self._tree.root
        self._tree.root.expected = expected

    def n_continued(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens`` this text has, if they go on with its prompt; else 0."""
        n_same = n_common(self.tokens, tokens)
        return n_same if n_same >= self.n_prompt else 0

    def restart(self, *, keep_response: bool = False) -> None:
        """Return to the end of the prompt; the response stays readable behind it if asked for."""
        self.drop_all()
        self._tree.release()
        start, end = self._prompt_end, self._tree.root
        if keep_response and self._revisits and end is not start:
            self._tree.hold(start, end)
        else:
            start.children = {}
        self._context.fork(PROMPT, COMMITTED)
        self._tree.root = self.head = start
        del self.tokens[self.n_prompt :]

    def commit(self, end: Node) -> None:
        """Make ``end`` the last committed token, and keep of the tree what lies behind it."""
        self.head = end
        is_read = self._tree.stands(end) and end.expected.tells(None)
        if self._is_lazy and not is_read and end.parent and self._is_told(end):
            self._move_root(end.parent)
            self._tree.root.children = {end.token: end}
        else:
            self.settle()

    # ---- Kept in files

    def readable(self, text: Sequence[int]) -> Readable:
        """What of ``text`` was read and can be kept."""
        sequence, n_tokens = self._kept_part(text)
        n_whole = self.n_prompt if sequence == PROMPT else len(self.tokens)
        n_bytes = self._context.n_state_bytes(sequence) * n_tokens // n_whole if n_tokens else 0
        # Of what was restored and never read it is not known; once it was worth it.
        token_s = self._timed_s / self._n_timed if self._n_timed else math.inf
        return Readable(n_tokens, n_bytes, n_tokens * token_s if n_tokens else 0.0)

    def keep(self, path: Path, text: Sequence[int]) -> list[int]:
        """Write the state behind what was read of ``text``; its tokens, none on failure."""
        self.drop_all()
        self._tree.release()
        sequence, n_tokens = self._kept_part(text)
        tokens, is_whole = self.tokens[:n_tokens], sequence == PROMPT or n_tokens == self.n_read
        if not is_whole:
            self._context.share(COMMITTED, SPARE, 0, n_tokens)
            sequence = SPARE
        try:
            is_written = bool(tokens) and self._context.save(sequence, path, tokens)
        finally:
            if not is_whole:
                self._context.drop(SPARE)
        return tokens if is_written else []

    def restore(self, path: Path) -> int:
        """Make the state of a file the committed text; the number of its tokens, 0 on failure."""
        self.drop_all()
        self._tree.release()
        self._drop_rows()
        self._forget()
        self.tokens = self._context.load(COMMITTED, path)
        return self.n_read

    @property
    def n_read(self) -> int:
        """Committed tokens that were evaluated."""
        return len(self.tokens)

    def _kept_part(self, text: Sequence[int]) -> tuple[int, int]:
        """The sequence that has most of ``text``, and how many tokens of it can be kept.

        Where cells cannot be shared by the part, only a whole sequence can be kept.
        """
        n_same = n_common(self.tokens, text)
        if n_same == self.n_read or self._context.shares_all:
            return COMMITTED, n_same
        return PROMPT, self.n_prompt if n_same >= self.n_prompt else 0

    # ---- Continuations

    def fits(self, n_tokens: int) -> bool:
        """Whether the committed text can grow by ``n_tokens``."""
        return len(self.tokens) + n_tokens <= self._context.n_max

    def known(self, parent: Node, token: int, *, whole_row: bool = False) -> Node | None:
        """The node of ``token`` behind ``parent`` if what follows it is known without a pass."""
        child = parent.children.get(token)
        if child is None or not self._tree.stands(child):
            return None
        is_known = child.expected.tells(None) if whole_row else child.expected.knows_best
        return child if is_known else None

    def read(
        self, paths: Iterable[tuple[Node, Sequence[int]]], *, all_rows: bool = False
    ) -> list[Node]:
        """The last nodes of some paths (tokens behind a node), in as few passes as can be.

        The rows of these are there then, those in between only with ``all_rows``.
        """
        pending: list[Pending] = []
        ends = self._asked = []
        if (
            all_rows and self.head is not self._tree.root
        ):  # what lies behind it may be there already
            paths = [(self.head, ()), *paths]
        try:
            for start, tokens in paths:
                end = start.grow(tokens)
                missing = self._tree.missing(start, end, pending)
                while not self._tree.has_room(missing, pending):
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
        # As part of a longer candidate the head may stand, and have lost its row.
        has_row = self.head.expected.tells(None)
        if self.head is not self._tree.root and has_row and self._tree.stands(self.head):
            self._move_root(self.head)
        return ends

    def read_to_score(self, ends: Sequence[tuple[Node, bool]]) -> None:
        """As ``read`` for the paths to some nodes; of those without True no row is wanted.

        A last token whose likelihood the row in front of it tells is left for later: if no pass is
        needed at all, or if passes may be put off.
        """
        missing = [(end, ()) for end, wants_row in ends if wants_row or not self._is_told(end)]
        if missing and not self._is_lazy:
            missing = [(end, ()) for end, _ in ends]
        self.read(missing)

    def drop_all(self) -> None:
        """Forget all continuations."""
        self._tree.drop_all()
        self._tree.root.children = {}
        if self.head is not self._tree.root:
            self._tree.root.children = {self.head.token: self.head}
            self.head.children = {}

    def close(self) -> None:
        """Let go of all memory at once: nodes refer to each other, and so do caches."""
        for node in (*self._fresh, *self._kept, self._tree.root):
            node.expected.drop()
        self._fresh, self._asked, self._others = [], [], ()
        self._kept.clear()
        self._tree.restart(Node(-1, None, -1))
        self.head = self._prompt_end = self._tree.root

    def _is_told(self, end: Node) -> bool:
        """Whether the row in front of ``end`` is there and tells its likelihood."""
        parent = end.parent
        return (
            parent is not None
            and end is not self._tree.root
            and self._tree.stands(parent)
            and parent.expected.tells(end.token)
        )

    def _move_root(self, end: Node) -> None:
        """Make ``end``, which stands, the end of the committed sequence."""
        path = end.path_from(self._tree.root)
        self._tree.commit(path)
        for parent, node in pairwise([self._tree.root, *path]):
            if self._revisits:
                parent.children = {node.token: node}
                if parent is not self._prompt_end:
                    parent.summarize()
            else:
                parent.children, node.parent = {}, None
        self.tokens += [node.token for node in path]
        self._tree.root = end

    # ---- Forward passes

    def _evaluate(self, pending: Sequence[Pending], ends: Sequence[Node], all_rows: bool) -> None:
        """Passes over what is pending; ``ends`` are the nodes whose rows must stay."""
        wanted = {*ends, self.head}
        for start in range(0, len(pending), MAX_PASS_LOGITS):
            chunk = pending[start : start + MAX_PASS_LOGITS]
            self._pass([Row(w.node.token, w.node.position, tuple(w.forks), True) for w in chunk])
            for index, (node, *_) in enumerate(chunk):
                if node.expected.tells(None):
                    continue  # read again for another fork
                node.expected = self._context.expected(index)
                if all_rows or node in wanted:
                    self._fresh.append(node)
                    if self.keeps_entropy:
                        _ = node.expected.entropy_nats
                else:
                    node.summarize(best=False)

    def _evaluate_prompt(self, tokens: list[int], scores: bool) -> Iterator[float]:
        """Bring the committed sequence to ``tokens``, pass by pass.

        With ``scores`` from the start, so that the score never depends on what was cached.
        """
        if scores:
            self._context.clear()
        n_done, n_chunk = 0 if scores else self._keep_prefix(tokens), 0
        size, last, nll_nats = MAX_PASS_LOGITS if scores else MAX_PASS_TOKENS, len(tokens) - 1, 0.0
        while n_done < len(tokens):
            chunk, before_s = tokens[n_done : n_done + size], self._context.counters.decode_s
            self._pass(
                [Row(t, p, (COMMITTED,), scores or p == last) for p, t in enumerate(chunk, n_done)],
                abortable=True,
            )
            self._n_timed += len(chunk)
            self._timed_s += self._context.counters.decode_s - before_s
            if scores:
                following = enumerate(tokens[n_done + 1 : n_done + 1 + len(chunk)])
                nll_nats += sum(self._context.expected(i).nll(t) for i, t in following)
            n_done, n_chunk = n_done + len(chunk), len(chunk)
            if n_done < len(tokens):
                self.tokens = tokens[:n_done]
                yield n_done / len(tokens)
                n_done = n_done if scores else self._adopt_prefix(tokens, n_done)
        self.prompt_score = Score(nll_nats, last) if scores else None
        end = self._context.expected(n_chunk - 1)
        end.keep()
        self._end_prompt(tokens, end)
        yield 1.0

    def _keep_prefix(self, tokens: list[int]) -> int:
        """Make the committed text the longest start of ``tokens`` that is there; its length.

        At most all but the last: what is expected behind that one has to be computed.
        """
        n_own = n_common(self.tokens, tokens[:-1])
        if n_own != len(self.tokens) and not (n_own and self._context.cut(COMMITTED, n_own)):
            self._context.clear()  # nothing shared, or a recurrent cache, which cannot be cut
            n_own = 0
        self.tokens = tokens[:n_own]
        return self._adopt_prefix(tokens, n_own)

    def _adopt_prefix(self, tokens: list[int], n_done: int) -> int:
        """Copy more of ``tokens`` from another cache if that has read more; how many are there.

        Where cells cannot be shared by the part, a text is only taken over as a whole.
        """
        for other in self._others:
            if other is self:
                continue
            for sequence, n_read in ((COMMITTED, len(other.tokens)), (PROMPT, other.n_prompt)):
                n_same = n_common(other.tokens[:n_read], tokens[:-1])
                is_whole = n_same == n_read
                if n_same > n_done and (is_whole or self._context.shares_all):
                    n_tokens = None if is_whole else n_same
                    theirs = other._context
                    is_there = self._context.adopt(theirs, sequence, COMMITTED, n_tokens)
                    n_done = n_same if is_there else 0
        self.tokens = tokens[:n_done]
        return n_done

    def _pass(self, rows: Sequence[Row], *, abortable: bool = False) -> None:
        if self.is_cancelled():
            raise Cancelled("Cancelled.")
        self._keep_rows()  # the pass overwrites the logits of the last one
        abortable = abortable or self._context.has_long_passes
        with self._context.abortable(self.is_cancelled, when=abortable):
            self._context.evaluate(rows)

    def _keep_rows(self) -> None:
        """Copy the rows of the last pass that may still be asked for, within bounds."""
        for node in self._fresh:
            is_wanted = node is self._tree.root or node.holders or node in self._asked
            if node.expected.tells(None) and is_wanted:
                node.expected.keep()
                self._kept.append(node)
            else:
                node.expected.drop()
        self._fresh = []
        while len(self._kept) > self._max_rows:
            oldest = self._kept.popleft()
            if oldest is not self._tree.root and oldest not in self._asked:
                oldest.summarize()

    def _drop_rows(self) -> None:
        """Let go of the rows of the last answer: with several conversations they would add up."""
        kept = [node for node in self._kept if node in (self._tree.root, self._prompt_end)]
        for node in self._kept:
            if node not in kept:
                node.expected.drop()
        self._kept = deque(kept)

    def _forget(self) -> None:
        self._context.clear()
        self.tokens, self.n_prompt = [], 0
        self._tree.restart(Node(-1, None, -1))
        self.head = self._prompt_end = self._tree.root
