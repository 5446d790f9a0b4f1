"""The committed text of one conversation: how a prompt enters the cache, and how it is saved.

Each conversation has its own text and context, so that none reads, slows or rounds another. A
prefix that a prompt shares with the text of another conversation is copied from there instead of
being evaluated again. What is read after the text is left to ``cache``.

The result of a pass depends slightly on which tokens are computed together. So a prompt is read in
blocks of a fixed size from its start, and only whole blocks of another prompt are reused: the same
prompt leads to the same numbers, whatever was read before. A conversation that continues reuses
everything it has read, as it was written.
"""

import math
from collections.abc import Generator, Sequence
from pathlib import Path

from cf_local.llama.context import MAX_PASS_TOKENS, Context, Passes, TokenRow
from cf_local.llama.distribution import Distribution
from cf_local.llama.tree import COMMITTED, PROMPT, SPARE
from cf_local.method.session import Readable
from cf_local.method.tokenization import n_common


class CommittedText:
    """The tokens of the committed sequence; the first ``n_prompt`` are the prompt.

    Callers release the forks after it before they shorten or replace it.
    """

    def __init__(
        self, context: Context, passes: Passes, others: Sequence["CommittedText"] = ()
    ) -> None:
        """``others`` are texts of the same model; it may contain this one, and grow later."""
        self._context, self._sequences = context, context.sequences
        self.states = context.states  # other texts copy from here
        self._passes = passes
        self._others = others
        self._is_restored = False  # from a file, with no prompt read since
        self._n_in_blocks = 0  # tokens read in whole blocks from the start
        self._n_timed, self._timed_s = 0, 0.0  # tokens of prompts read so far, and their seconds
        self.tokens: list[int] = []
        self.n_prompt = 0

    def has_prompt(self, tokens: list[int]) -> bool:
        """Whether ``tokens`` are the prompt."""
        return self.n_prompt > 0 and tokens == self.tokens[: self.n_prompt]

    @property
    def response(self) -> list[int]:
        """The tokens after the prompt."""
        return self.tokens[self.n_prompt :]

    def n_continued(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens`` it has, if they continue its prompt; else 0."""
        n_same = n_common(self.tokens, tokens)
        return n_same if n_same >= self.n_prompt else 0

    def n_shared(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens`` can be reused from this text.

        All of a conversation that continues (with its response, or from a file), otherwise only
        whole blocks.
        """
        n_same = n_common(self.tokens, tokens)
        if self._is_restored or 0 < self.n_prompt < n_same:
            return n_same
        return min(n_same, self._n_in_blocks) // self._n_block * self._n_block

    @property
    def _n_block(self) -> int:
        """Tokens that are computed together when a prompt is read."""
        return self._context.n_block

    def append(self, tokens: Sequence[int]) -> None:
        """Add ``tokens``, which the committed sequence already holds."""
        self.tokens += tokens

    def restart(self) -> None:
        """Return to the end of the prompt."""
        self._sequences.fork(PROMPT, COMMITTED)
        del self.tokens[self.n_prompt :]

    def forget(self) -> None:
        """Drop everything: text, prompt and forks."""
        self._sequences.clear()
        self.tokens, self.n_prompt, self._n_in_blocks = [], 0, 0
        self._is_restored = False

    def close(self) -> None:
        """Drop the references to other texts, which refer to this one."""
        self._others = ()

    # ---- Reading a prompt

    def prefill(self, tokens: list[int]) -> Generator[float, None, Distribution]:
        """Read the prompt ``tokens``, pass by pass; returns what is expected after it.

        Yields the share that was read, below 1. After an error or an early close, part of the
        prompt may be in the cache: call ``forget``.
        """
        n_kept, n_chunk, last = self.n_shared(tokens[:-1]), 0, len(tokens) - 1
        self._sequences.drop(PROMPT)
        self.n_prompt, self._is_restored = 0, False
        n_done = self._adopt_prefix(tokens, self._keep_prefix(tokens, n_kept))
        while n_done < len(tokens):
            chunk = tokens[n_done : n_done + MAX_PASS_TOKENS]
            self._evaluate(
                [TokenRow(t, p, (COMMITTED,), p == last) for p, t in enumerate(chunk, n_done)]
            )
            n_done, n_chunk = n_done + len(chunk), len(chunk)
            if n_done - n_chunk == self._n_in_blocks:
                self._n_in_blocks = n_done // self._n_block * self._n_block
            if n_done < len(tokens):
                self.tokens = tokens[:n_done]
                yield n_done / len(tokens)
                n_done = self._adopt_prefix(tokens, n_done)
        expected = self._context.expected(n_chunk - 1)
        expected.keep()
        self._sequences.fork(COMMITTED, PROMPT)
        self.n_prompt, self.tokens = len(tokens), list(tokens)
        return expected

    def _evaluate(self, rows: Sequence[TokenRow]) -> None:
        before_s = self._context.counters.decode_s
        self._passes.run(rows, abortable=True)
        self._n_timed += len(rows)
        self._timed_s += self._context.counters.decode_s - before_s

    def _keep_prefix(self, tokens: list[int], n_kept: int) -> int:
        """Keep ``n_kept`` committed tokens if the cache can be cut there; returns how many stay."""
        if n_kept != len(self.tokens) and not (n_kept and self._sequences.cut(COMMITTED, n_kept)):
            self._sequences.clear()  # nothing shared, or a recurrent cache, which cannot be cut
            n_kept = 0
        self.tokens = tokens[:n_kept]
        self._n_in_blocks = min(self._n_in_blocks, n_kept)
        return n_kept

    def _adopt_prefix(self, tokens: list[int], n_done: int) -> int:
        """Copy more of ``tokens`` from another text that has more; returns how many are cached.

        Where parts of a sequence cannot be shared, a text is only copied as a whole.
        """
        for other in self._others:
            n_same = 0 if other is self else other.n_shared(tokens[:-1])
            if n_same <= n_done or n_done > self._n_in_blocks:
                continue
            n_blocks = min(n_same, other._n_in_blocks)
            if self._sequences.shares_all:
                n_done = self.states.extend(other.states, COMMITTED, COMMITTED, n_done, n_same)
                self._n_in_blocks = min(n_blocks, n_done) // self._n_block * self._n_block
            elif n_same == len(other.tokens):
                is_there = self.states.copy(other.states, COMMITTED, COMMITTED)
                n_done = n_same if is_there else 0
                self._n_in_blocks = n_blocks if is_there else 0
        self.tokens = tokens[:n_done]
        return n_done

    # ---- Saved states

    def readable(self, text: Sequence[int]) -> Readable:
        """What was read of ``text`` and can be saved."""
        sequence, n_tokens = self._saved_part(text)
        n_whole = self.n_prompt if sequence == PROMPT else len(self.tokens)
        n_bytes = self.states.n_bytes(sequence) * n_tokens // n_whole if n_tokens else 0
        # Unknown for a text that was restored and never read; it was once worth saving.
        token_s = self._timed_s / self._n_timed if self._n_timed else math.inf
        return Readable(n_tokens, n_bytes, n_tokens * token_s if n_tokens else 0.0)

    def save(self, path: Path, text: Sequence[int]) -> list[int]:
        """Write the state after what was read of ``text``; returns its tokens, none on failure.

        Needs a spare sequence, so no fork may be in use.
        """
        sequence, n_tokens = self._saved_part(text)
        tokens = self.tokens[:n_tokens]
        is_whole = sequence == PROMPT or n_tokens == len(self.tokens)
        if not is_whole:
            self._sequences.share(COMMITTED, SPARE, 0, n_tokens)
            sequence = SPARE
        try:
            is_written = bool(tokens) and self.states.save(sequence, path, tokens)
        finally:
            if not is_whole:
                self._sequences.drop(SPARE)
        return tokens if is_written else []

    def restore(self, path: Path) -> int:
        """Load the state of a file; returns its number of tokens, 0 on failure."""
        self.forget()
        self.tokens, self._is_restored = self.states.load(COMMITTED, path), True
        return len(self.tokens)

    def _saved_part(self, text: Sequence[int]) -> tuple[int, int]:
        """The sequence that has most of ``text``, and how many of its tokens can be saved.

        Where parts of a sequence cannot be shared, only a whole sequence can be saved.
        """
        n_same = n_common(self.tokens, text)
        if n_same == len(self.tokens) or self._sequences.shares_all:
            return COMMITTED, n_same
        return PROMPT, self.n_prompt if n_same >= self.n_prompt else 0
