"""What one model has read: the committed tokens, and continuations of them on forks.

Sequences of the context: the committed text, the prompt (to return to), a guess of what will come,
the draft, and one fork for each candidate of others. Forks share the committed prefix, so a
continuation costs only its own tokens, and committing one makes its fork the committed sequence
without a forward pass. A draft or candidate that runs along the guess costs no pass either: this is
all that speculation is, so it cannot change what is drafted (see ``docs/speed.md``).
"""

from collections.abc import Sequence
from itertools import takewhile

from cf_local.errors import Cancelled
from cf_local.llama.branch import Branch, Guess
from cf_local.llama.context import MAX_PASS_LOGITS, MAX_PASS_TOKENS, Context, Row
from cf_local.llama.distribution import Distribution
from cf_local.source import IsCancelled, Progress, never

_COMMITTED, _PROMPT, _GUESS, _DRAFT, _FIRST_FORK = range(5)
_FORK_RESERVE = 64  # cells per fork, so that drafts and candidates fit behind a full context


def n_sequences(n_forks: int) -> int:
    """Sequences a context needs for ``n_forks`` candidates of others."""
    return _FIRST_FORK + n_forks


def n_cells(n_ctx: int, n_forks: int) -> int:
    """Cells a context needs so that a text of ``n_ctx`` tokens can still be drafted and scored."""
    return n_ctx + (n_forks + 2) * _FORK_RESERVE


class Cache:
    """Committed tokens and branches of one context.

    ``end`` is what the model expects behind the committed text; ``next_token`` was already chosen
    to follow it, or None.
    """

    def __init__(self, context: Context, n_forks: int) -> None:
        self._context = context
        self._n_forks = n_forks
        self._branches: list[Branch] = []
        self._guess: Guess | None = None
        self.is_cancelled: IsCancelled = never
        self.tokens: list[int] = []
        self.n_prompt = 0
        self.end = self._prompt_end = Distribution.unknown()
        self.next_token: int | None = None

    # ---- The committed text

    def read_prompt(self, tokens: list[int], on_progress: Progress | None) -> None:
        """Make ``tokens`` the committed text, keeping what the cache shares with them."""
        self.drop_branches()
        self.drop_guess()
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
        self.drop_guess()
        self._context.fork(_PROMPT, _COMMITTED)
        self._begin_response(self.tokens[: self.n_prompt])

    def commit(self, branch: Branch) -> None:
        """Make a branch the committed text; all others are dropped."""
        if not branch.cached:
            self._make_room()
            self.reread([branch])
        n_before, n_new = len(self.tokens), len(branch.tokens)
        if branch.on_guess:
            self._context.share(_GUESS, _COMMITTED, n_before, n_before + n_new)
        else:
            self._context.fork(branch.sequence, _COMMITTED)
        self.tokens = self.tokens + branch.tokens
        self.end, self.next_token = branch.end, branch.next_token
        if self._guess is not None:
            if self._guess.begins(branch.tokens):
                self._guess.n_used += n_new
            else:
                self.drop_guess()
        self.drop_branches()

    # ---- The draft

    def new_draft(self) -> Branch:
        """An empty branch to be written by ``advance``."""
        self._branches = [b for b in self._branches if b.sequence != _DRAFT]
        draft = Branch([], [self.end], _DRAFT, next_token=self.next_token, on_guess=True)
        self._branches.append(draft)
        return draft

    def advance(self, draft: Branch) -> None:
        """Add the ``next_token`` of a draft, by a forward pass unless the guess has it."""
        token, n_drafted = draft.next_token, len(draft.tokens)
        assert token is not None
        guess = self._guess
        if draft.on_guess and guess is not None and guess.begins([*draft.tokens, token]):
            row = guess.rows_along(n_drafted + 1)[-1]
        else:
            self._settle(draft)
            position = len(self.tokens) + n_drafted
            self._evaluate([Row(token, position, draft.sequence, True)])
            row = self._context.expected(0)
        draft.tokens.append(token)
        draft.rows.append(row)
        draft.next_token = None

    def trim(self, draft: Branch, n_kept: int) -> None:
        """Cut a draft to its first ``n_kept`` tokens."""
        draft.next_token = draft.tokens[n_kept]
        del draft.tokens[n_kept:], draft.rows[n_kept + 1 :], draft.nlls[n_kept:]
        end = len(self.tokens) + n_kept
        if not draft.on_guess and not self._context.cut(draft.sequence, end):
            self.reread([draft])  # recurrent caches cannot be cut

    # ---- Candidates of others

    def fits(self, n_tokens: int) -> bool:
        """Whether the committed text can grow by ``n_tokens``."""
        return len(self.tokens) + n_tokens <= self._context.n_max

    def read(self, texts: Sequence[Sequence[int]]) -> list[Branch]:
        """Branches of several continuations: one pass for all where forks and cells suffice."""
        branches: list[Branch] = []
        group: list[Branch] = []
        for tokens in texts:
            branch = self._along_guess(tokens)
            if branch is None:
                if not self._has_room(len(tokens)):
                    self.reread(group)
                    self._make_room()
                    group = []
                branch = Branch(list(tokens), [self.end], self._free_fork())
                group.append(branch)
            self._branches.append(branch)
            branches.append(branch)
        self.reread(group)
        return branches

    def reread(self, branches: Sequence[Branch]) -> None:
        """Evaluate branches from their start, on fresh forks of the committed text."""
        for branch in branches:
            self._context.fork(_COMMITTED, branch.sequence)
            branch.cached, branch.on_guess, branch.rows = True, False, [self.end]
            branch.nlls = [self.end.nll(token) for token in branch.tokens[:1]]
        rows = [(branch, index) for branch in branches for index in range(len(branch.tokens))]
        for start in range(0, len(rows), MAX_PASS_LOGITS):
            chunk = rows[start : start + MAX_PASS_LOGITS]
            self._evaluate(
                [Row(b.tokens[i], len(self.tokens) + i, b.sequence, True) for b, i in chunk]
            )
            for row, (branch, index) in enumerate(chunk):
                expected = self._context.expected(row)
                if index + 1 < len(branch.tokens):
                    branch.nlls.append(expected.nll(branch.tokens[index + 1]))
                else:
                    branch.rows = [expected]

    def drop_branches(self) -> None:
        """Forget the draft and all candidates."""
        self._branches = []
        for sequence in range(_DRAFT, _FIRST_FORK + self._n_forks):
            self._context.drop(sequence)

    # ---- The guess

    @property
    def guessed(self) -> list[int]:
        """Tokens of the guess that are not committed yet."""
        return self._guess.left if self._guess else []

    def guess(self, tokens: Sequence[int]) -> None:
        """Evaluate ``tokens`` as a guess in one pass, keeping what the present one has of them."""
        guess = self._guess
        if guess is None or list(tokens[: len(guess.left)]) != guess.left:
            if not tokens:
                return self.drop_guess()
            self.drop_guess()
            self._context.fork(_COMMITTED, _GUESS)
            self._guess = guess = Guess([], [self.end])
        try:
            self._extend_guess(guess, tokens[len(guess.left) :])
        except BaseException:
            self.drop_guess()
            raise

    def guess_rows(self) -> list[Distribution]:
        """What the model expects behind 0, 1, ... all tokens of ``guessed``."""
        return self._guess.rows[self._guess.n_used :] if self._guess else [self.end]

    def drop_guess(self) -> None:
        """Forget the guess."""
        self._guess = None
        self._context.drop(_GUESS)
        for branch in self._branches:
            branch.cached = branch.cached and not branch.on_guess

    def _extend_guess(self, guess: Guess, tokens: Sequence[int]) -> None:
        first = len(self.tokens) + len(guess.left)
        for start in range(0, len(tokens), MAX_PASS_LOGITS):
            chunk = tokens[start : start + MAX_PASS_LOGITS]
            rows = [Row(t, p, _GUESS, True) for p, t in enumerate(chunk, first + start)]
            self._evaluate(rows)
            guess.tokens += chunk
            guess.rows += [self._context.expected(row) for row in range(len(chunk))]

    def _along_guess(self, tokens: Sequence[int]) -> Branch | None:
        """The branch of ``tokens`` if the guess has evaluated them."""
        guess = self._guess
        if guess is None or not guess.begins(tokens):
            return None
        return Branch(list(tokens), guess.rows_along(len(tokens)), _GUESS, on_guess=True)

    def _settle(self, draft: Branch) -> None:
        """Give a draft that leaves the guess a fork of its own."""
        if not draft.on_guess:
            return
        draft.on_guess = False
        self._context.fork(_COMMITTED, draft.sequence)
        n_before = len(self.tokens)
        self._context.share(_GUESS, draft.sequence, n_before, n_before + len(draft.tokens))

    # ---- Forward passes

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
        end = self._context.expected(n_chunk - 1)
        end.keep()
        return end

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
        for row in self._rows_needed():
            row.keep()  # the pass overwrites the logits of the last one
        self._context.evaluate(rows)

    def _rows_needed(self) -> list[Distribution]:
        """Rows that may be asked for after another pass."""
        guessed = self._guess.rows[self._guess.n_used :] if self._guess else []
        return [self.end, *guessed, *(row for branch in self._branches for row in branch.rows)]

    # ---- Room

    def _cached_branches(self) -> list[Branch]:
        return [b for b in self._branches if b.cached and not b.on_guess]

    def _has_room(self, n_tokens: int) -> bool:
        """Whether a fork and cells are left for one more branch."""
        cached = self._cached_branches()
        n_used = len(self.tokens) + len(self.guessed) + sum(len(b.tokens) for b in cached)
        n_forks = sum(branch.sequence >= _FIRST_FORK for branch in cached)
        return n_forks < self._n_forks and n_used + n_tokens <= self._context.n_cells

    def _free_fork(self) -> int:
        used = {branch.sequence for branch in self._cached_branches()}
        return next(s for s in range(_FIRST_FORK, _FIRST_FORK + self._n_forks) if s not in used)

    def _make_room(self) -> None:
        """Give up all forks; their branches keep their scores."""
        for branch in self._branches:
            _ = branch.nll_nats  # while the rows are there
            branch.cached = False
            self._context.drop(branch.sequence)
        self.drop_guess()

    def _forget(self) -> None:
        self._context.clear()
        self._guess = None
        self.tokens, self.n_prompt = [], 0
