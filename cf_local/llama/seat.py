"""A seat: the part of a context that one conversation has, with sequences and cells of its own.

Several seats share the weights, the cells of what their texts have in common, and the buffer of
logits, so one has a pass at a time, and those that were there before are told before theirs are
overwritten. Sequences are counted from 0 in every seat.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from cf_local.errors import InputError
from cf_local.llama.context import Context, Row
from cf_local.llama.distribution import Distribution
from cf_local.source import IsCancelled
from cf_local.types import Counters

MAX_SEQUENCES = 256
"""Sequences that llama.cpp can tell apart in one cache (its LLAMA_MAX_SEQ)."""
_LONG_PASS_S = 0.05  # a pass of this length may be worth interrupting from within


def check_seats(n_seats: int, n_sequences: int) -> None:
    """Raise InputError for more conversations than one cache can hold."""
    most = MAX_SEQUENCES // n_sequences
    if not 1 <= n_seats <= most:
        raise InputError(
            f"{n_seats} conversations at once with {n_sequences} sequences each: llama.cpp has "
            f"{MAX_SEQUENCES}, so at least 1 and at most {most} fit with these sources."
        )


class LogitsBuffer:
    """Who has had the last pass of a context: its rows of logits are views until the next one."""

    def __init__(self) -> None:
        self.owner: Seat | None = None


class Seat:
    """What a conversation may do with the context."""

    def __init__(
        self, context: Context, buffer: LogitsBuffer, index: int, n_seats: int, n_sequences: int
    ) -> None:
        """One of ``n_seats`` equal ones, each with ``n_sequences`` sequences."""
        self._context, self._buffer = context, buffer
        self._is_alone = n_seats == 1
        self._sequences = range(index * n_sequences, (index + 1) * n_sequences)
        self._first = self._sequences[0]
        self.n_cells = context.n_cells // n_seats
        # Tokens a sequence can have: the cells, or the positions the model has learned.
        self.n_max = min(self.n_cells, context.n_max)
        self.n_vocab = context.n_vocab
        self.can_share = context.can_share
        self.reach = context.reach
        self.before_overwriting: Callable[[], None] = lambda: None
        """Called when another seat is about to have a pass."""
        self._n_passes = self._n_tokens = 0
        self._decode_s = 0.0

    @property
    def counters(self) -> Counters:
        """Forward passes, tokens and seconds of this seat so far."""
        return Counters(self._n_passes, self._n_tokens, self._decode_s)

    @property
    def shares_all(self) -> bool:
        """Whether any part of a sequence can be shared: not with windows or recurrent states."""
        return self.reach >= self._context.n_cells

    @property
    def has_long_passes(self) -> bool:
        """Whether the last pass took so long that the next one should be ``abortable``."""
        return self._context.last_pass_s > _LONG_PASS_S

    def evaluate(self, rows: Sequence[Row]) -> None:
        """One forward pass (see Context.evaluate)."""
        if self._buffer.owner is not self:
            if self._buffer.owner is not None:
                self._buffer.owner.before_overwriting()
            self._buffer.owner = self
        before = self._context.counters
        try:
            self._context.evaluate(rows, self._first)
        finally:
            after = self._context.counters
            self._n_passes += after.n_passes - before.n_passes
            self._n_tokens += after.n_tokens - before.n_tokens
            self._decode_s += after.decode_s - before.decode_s

    def expected(self, index: int) -> Distribution:
        """What the model expects behind a row of the last pass; a view until it is kept."""
        return self._context.expected(index)

    def abortable(
        self, is_cancelled: IsCancelled, *, when: bool = True
    ) -> AbstractContextManager[None]:
        """Let ``is_cancelled`` interrupt a pass from within, if ``when`` says so."""
        return self._context.abortable(is_cancelled) if when else nullcontext()

    def fork(self, parent: int, child: int) -> None:
        """Make ``child`` a sequence that shares all cells of ``parent``."""
        self._context.fork(self._first + parent, self._first + child)

    def share(self, parent: int, child: int, first: int, end: int) -> None:
        """Add cells of ``parent`` to ``child`` (see Context.share)."""
        self._context.share(self._first + parent, self._first + child, first, end)

    def adopt(self, other: "Seat", parent: int, child: int, n_tokens: int | None) -> None:
        """Make ``child`` the first ``n_tokens`` of another seat's sequence; None for all of it."""
        theirs, ours = other._first + parent, self._first + child
        if n_tokens is None:
            self._context.fork(theirs, ours)
        else:
            self._context.drop(ours)
            self._context.share(theirs, ours, 0, n_tokens)

    def drop(self, sequence: int) -> None:
        """Forget a sequence; cells that no other sequence shares become free."""
        self._context.drop(self._first + sequence)

    def cut(self, sequence: int, n_kept: int) -> bool:
        """Forget a sequence's tokens from position ``n_kept`` on; False where this cache cannot."""
        return self._context.cut(self._first + sequence, n_kept)

    def n_state_bytes(self, sequence: int) -> int:
        """Bytes of the file that ``save`` would write, about."""
        return self._context.n_state_bytes(self._first + sequence)

    def save(self, sequence: int, path: Path, tokens: Sequence[int]) -> bool:
        """Write the state of a sequence (see Context.save)."""
        return self._context.save(self._first + sequence, path, tokens)

    def load(self, sequence: int, path: Path) -> list[int]:
        """Read the state of a sequence (see Context.load)."""
        return self._context.load(self._first + sequence, path)

    def clear(self) -> None:
        """Forget all sequences of this seat."""
        if self._is_alone:
            self._context.clear()
            return
        for sequence in self._sequences:
            self._context.drop(sequence)
