"""The committed text of one conversation: how a prompt comes into the cache, and out into a file.

Several conversations have a text and a context each, so that none reads, slows or rounds what
another one does; a prompt that begins as the text of another one does is copied from there instead
of being evaluated again. Left out: what is read after the text (``cache``).

What a pass computes depends a little on which tokens are computed together. So a prompt is read in
blocks of a fixed size from its start, and of another prompt only whole blocks are taken over: the
same prompt leads to the same numbers, whatever was read before. A conversation that goes on keeps
all that it has read, as it was written.
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
    """The tokens of the committed sequence, and those of the prompt that they begin with.

    Who makes it shorter or another one has let go of the forks after it before.
    """

    def __init__(
        self, context: Context, passes: Passes, others: Sequence["CommittedText"] = ()
    ) -> None:
        """``others`` are texts of the same model, this one may be among them; it may grow later."""
        self._context, self._sequences = context, context.sequences
        self.states = context.states  # from which other texts copy
        self._passes = passes
        self._others = others
        self._is_restored = False  # from a file, and no prompt was read since
        self._n_in_blocks = 0  # tokens read as every prompt is: in whole blocks from the start
        self._n_timed, self._timed_s = 0, 0.0  # tokens of prompts read so far, and how long it took
        self.tokens: list[int] = []
        self.n_prompt = 0

    def has_prompt(self, tokens: list[int]) -> bool:
        """Whether ``tokens`` are its prompt."""
        return self.n_prompt > 0 and tokens == self.tokens[: self.n_prompt]

    def n_continued(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens`` it has, if they go on with its prompt; else 0."""
        n_same = n_common(self.tokens, tokens)
        return n_same if n_same >= self.n_prompt else 0

    def n_shared(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens`` need not be read again where it has been read.

        All of a conversation that goes on (with its response, or from a file), otherwise whole
        blocks.
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
        """It has grown by ``tokens``, which the committed sequence holds."""
        self.tokens += tokens

    def restart(self) -> None:
        """Return to the end of the prompt."""
        self._sequences.fork(PROMPT, COMMITTED)
        del self.tokens[self.n_prompt :]

    def forget(self) -> None:
        """Nothing is read: no text, no prompt, no forks."""
        self._sequences.clear()
        self.tokens, self.n_prompt, self._n_in_blocks = [], 0, 0
        self._is_restored = False

    def close(self) -> None:
        """Let go of the other texts, which refer to this one."""
        self._others = ()

    # ---- Reading a prompt

    def prefill(self, tokens: list[int]) -> Generator[float, None, Distribution]:
        """Become the prompt ``tokens``, pass by pass; returns what is expected after it.

        Yields the share that was read, all but the whole. After an error or when it is closed,
        part of it may be in the cache: ``forget`` it.
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
        """Keep ``n_kept`` tokens of the committed text if the cache can be cut there; how many."""
        if n_kept != len(self.tokens) and not (n_kept and self._sequences.cut(COMMITTED, n_kept)):
            self._sequences.clear()  # nothing shared, or a recurrent cache, which cannot be cut
            n_kept = 0
        self.tokens = tokens[:n_kept]
        self._n_in_blocks = min(self._n_in_blocks, n_kept)
        return n_kept

    def _adopt_prefix(self, tokens: list[int], n_done: int) -> int:
        """Copy more of ``tokens`` from another text if that has more of them; how many are there.

        Where cells cannot be shared by the part, a text is only taken over as a whole.
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

    # ---- Kept in files

    def readable(self, text: Sequence[int]) -> Readable:
        """What of ``text`` was read and can be kept."""
        sequence, n_tokens = self._saved_part(text)
        n_whole = self.n_prompt if sequence == PROMPT else len(self.tokens)
        n_bytes = self.states.n_bytes(sequence) * n_tokens // n_whole if n_tokens else 0
        # Of what was restored and never read it is not known; once it was worth it.
        token_s = self._timed_s / self._n_timed if self._n_timed else math.inf
        return Readable(n_tokens, n_bytes, n_tokens * token_s if n_tokens else 0.0)

    def save(self, path: Path, text: Sequence[int]) -> list[int]:
        """Write the state after what was read of ``text``; its tokens, none on failure.

        Needs a sequence for itself, so no fork may be in use.
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
        """Become what a file holds the state of; the number of its tokens, 0 on failure."""
        self.forget()
        self.tokens, self._is_restored = self.states.load(COMMITTED, path), True
        return len(self.tokens)

    def _saved_part(self, text: Sequence[int]) -> tuple[int, int]:
        """The sequence that has most of ``text``, and how many tokens of it can be kept.

        Where cells cannot be shared by the part, only a whole sequence can be kept.
        """
        n_same = n_common(self.tokens, text)
        if n_same == len(self.tokens) or self._sequences.shares_all:
            return COMMITTED, n_same
        return PROMPT, self.n_prompt if n_same >= self.n_prompt else 0
