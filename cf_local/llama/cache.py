"""What one model has read: the committed tokens, and continuations of them on forks.

Sequences of the context: the committed text, the prompt (to return to), the draft, and one fork for
each candidate of others. Forks share the committed prefix, so a continuation costs only its own
tokens, and committing one makes its fork the committed sequence without a forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from cf_local.errors import Cancelled
from cf_local.llama.context import MAX_PASS_LOGITS, MAX_PASS_TOKENS, Context, Row
from cf_local.llama.distribution import Distribution
from cf_local.source import IsCancelled, Progress, never

_COMMITTED, _PROMPT, _DRAFT, _FIRST_FORK = range(4)
_FORK_RESERVE = 64  # cells per fork, so that drafts and candidates fit behind a full context


@dataclass(slots=True)
class Branch:
    """A continuation of the committed text on a fork of its own.

    ``end`` is what the model expects behind it; ``nlls`` has the negative log-likelihood of each
    token in nats; ``next_token`` was chosen to follow, but is not evaluated. A branch that is not
    ``cached`` has lost its fork to make room: it keeps its score and is evaluated again if it wins.
    """

    tokens: list[int]
    end: Distribution
    sequence: int
    nlls: list[float] = field(default_factory=list)
    next_token: int | None = None
    cached: bool = True


def n_sequences(n_forks: int) -> int:
    """Sequences a context needs for ``n_forks`` candidates of others."""
    return _FIRST_FORK + n_forks


def n_cells(n_ctx: int, n_forks: int) -> int:
    """Cells a context needs so that a text of ``n_ctx`` tokens can still be drafted and scored."""
    return n_ctx + (n_forks + 1) * _FORK_RESERVE


class Cache:
    """Committed tokens and branches of one context; ``end`` is what the model expects next."""

    def __init__(self, context: Context, n_forks: int) -> None:
        self._context = context
        self._n_forks = n_forks
        self._branches: list[Branch] = []
        self.is_cancelled: IsCancelled = never
        self.tokens: list[int] = []
        self.n_prompt = 0
        self.end = self._prompt_end = Distribution.unknown()
        self.next_token: int | None = None

    def read_prompt(self, tokens: list[int], on_progress: Progress | None) -> None:
        """Make ``tokens`` the committed text, keeping what the cache shares with them."""
        self.drop_branches()
        if self.n_prompt and tokens == self.tokens[: self.n_prompt]:
            self.restart()
            return
        self._context.drop(_PROMPT)
        try:
            self._prompt_end = self._evaluate_prompt(tokens, on_progress)
        except BaseException:  # an abort may leave some of it in the cache
            self._forget()
            raise
        self._context.fork(_COMMITTED, _PROMPT)
        self.n_prompt = len(tokens)
        self._begin_response(tokens)

    def restart(self) -> None:
        """Return to the end of the prompt."""
        self.drop_branches()
        self._context.fork(_PROMPT, _COMMITTED)
        self._begin_response(self.tokens[: self.n_prompt])

    def new_draft(self) -> Branch:
        """An empty branch to be written by ``append``."""
        self._context.fork(_COMMITTED, _DRAFT)
        self._branches = [b for b in self._branches if b.sequence != _DRAFT]
        draft = Branch([], self.end, _DRAFT, next_token=self.next_token)
        self._branches.append(draft)
        return draft

    def advance(self, draft: Branch) -> None:
        """Evaluate a draft's ``next_token``; its new ``end`` is a view the next pass overwrites."""
        token = draft.next_token
        assert token is not None
        nll_nats = draft.end.nll(token)
        position = len(self.tokens) + len(draft.tokens)
        self._evaluate([Row(token, position, draft.sequence, True)])
        draft.tokens.append(token)
        draft.nlls.append(nll_nats)
        draft.end, draft.next_token = Distribution(self._context.logits(0)), None

    def read(self, texts: Sequence[Sequence[int]]) -> list[Branch]:
        """Branches of several continuations: one pass for all where forks and cells suffice."""
        branches: list[Branch] = []
        group: list[Branch] = []
        for tokens in texts:
            if not self._has_room(len(tokens)):
                self.reread(group)
                self._make_room()
                group = []
            branch = Branch(list(tokens), self.end, self._free_fork())
            self._branches.append(branch)
            branches.append(branch)
            group.append(branch)
        self.reread(group)
        return branches

    def reread(self, branches: Sequence[Branch]) -> None:
        """Evaluate branches from their start, on fresh forks of the committed text."""
        for branch in branches:
            self._context.fork(_COMMITTED, branch.sequence)
            branch.cached, branch.end = True, self.end
            branch.nlls = [self.end.nll(token) for token in branch.tokens[:1]]
        rows = [(branch, index) for branch in branches for index in range(len(branch.tokens))]
        for start in range(0, len(rows), MAX_PASS_LOGITS):
            chunk = rows[start : start + MAX_PASS_LOGITS]
            self._evaluate(
                [Row(b.tokens[i], len(self.tokens) + i, b.sequence, True) for b, i in chunk]
            )
            for row, (branch, index) in enumerate(chunk):
                expected = Distribution(self._context.logits(row))
                if index + 1 < len(branch.tokens):
                    branch.nlls.append(expected.nll(branch.tokens[index + 1]))
                else:
                    branch.end = expected.kept()

    def commit(self, branch: Branch) -> None:
        """Make a branch the committed text; all others are dropped."""
        if not branch.cached:
            self._make_room()
            self.reread([branch])
        self._context.fork(branch.sequence, _COMMITTED)
        self.tokens = self.tokens + branch.tokens
        self.end, self.next_token = branch.end, branch.next_token
        self.drop_branches()

    def drop_branches(self) -> None:
        """Forget the draft and all candidates."""
        self._branches = []
        for sequence in range(_DRAFT, _FIRST_FORK + self._n_forks):
            self._context.drop(sequence)

    def _evaluate_prompt(self, tokens: list[int], on_progress: Progress | None) -> Distribution:
        """Bring the committed sequence to ``tokens``; returns what is expected behind them."""
        n_done, n_chunk = self._keep_prefix(tokens), 0
        with self._context.abortable(self.is_cancelled):
            while n_done < len(tokens):
                chunk = tokens[n_done : n_done + MAX_PASS_TOKENS]
                last = len(tokens) - 1
                rows = [Row(t, p, _COMMITTED, p == last) for p, t in enumerate(chunk, n_done)]
                self._evaluate(rows)
                n_done, n_chunk = n_done + len(chunk), len(chunk)
                if on_progress is not None:
                    on_progress(n_done / len(tokens))
        return Distribution(self._context.logits(n_chunk - 1)).kept()

    def _keep_prefix(self, tokens: list[int]) -> int:
        """Cut the committed text to what it shares with ``tokens``, at most all but the last."""
        pairs = zip(self.tokens, tokens[:-1], strict=False)
        n_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if n_shared == len(self.tokens) or (n_shared and self._context.cut(_COMMITTED, n_shared)):
            return n_shared
        self._context.clear()  # nothing shared, or a recurrent cache, which cannot be cut
        return 0

    def _begin_response(self, prompt: list[int]) -> None:
        self.tokens, self.end, self.next_token = prompt, self._prompt_end, None

    def _evaluate(self, rows: Sequence[Row]) -> None:
        if self.is_cancelled():
            raise Cancelled("Cancelled.")
        self._context.evaluate(rows)

    def _cached_branches(self) -> list[Branch]:
        return [branch for branch in self._branches if branch.cached]

    def _has_room(self, n_tokens: int) -> bool:
        """Whether a fork and cells are left for one more branch."""
        cached = self._cached_branches()
        n_used = len(self.tokens) + sum(len(branch.tokens) for branch in cached)
        n_forks = sum(branch.sequence >= _FIRST_FORK for branch in cached)
        return n_forks < self._n_forks and n_used + n_tokens <= self._context.n_cells

    def _free_fork(self) -> int:
        used = {branch.sequence for branch in self._cached_branches()}
        return next(s for s in range(_FIRST_FORK, _FIRST_FORK + self._n_forks) if s not in used)

    def _make_room(self) -> None:
        """Give up all forks; their branches keep their scores."""
        for branch in self._branches:
            branch.cached = False
            self._context.drop(branch.sequence)

    def _forget(self) -> None:
        self._context.clear()
        self.tokens, self.n_prompt = [], 0
