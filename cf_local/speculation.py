"""Mutual speculation: one source writes ahead, the others read it in one pass each.

Strong sources agree on most words. While they do, a block of several words costs the leader a pass
per token and every other source one pass in all. Nothing here decides what is written: sources keep
what they evaluated ahead, and drafting, scoring and committing along it costs no pass. Where they
differ, drafts leave the block and the step is decided as always. ``docs/speed.md`` has the cost
model.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from cf_local.boundary import is_boundary_between, whole_characters
from cf_local.source import Source
from cf_local.types import Counters

BLOCKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Tokens a leader may write ahead at once."""
_FORGETS = 0.2  # weight of a new observation
_DISPUTE_PASSES = 3.0  # what a disagreement costs each source, about
_DISPUTE_TOKENS = 1.5  # what it brings the answer, about


class PassCosts:
    """Seconds of one source's forward passes by their number of tokens, learnt while running."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def note(self, before: Counters, after: Counters) -> None:
        """Learn from the work between two readings of a source's counters."""
        n_passes = after.n_passes - before.n_passes
        if n_passes:
            n_tokens = max(1, round((after.n_tokens - before.n_tokens) / n_passes))
            elapsed_s = (after.decode_s - before.decode_s) / n_passes
            former = self._seconds.get(n_tokens, elapsed_s)
            self._seconds[n_tokens] = former + _FORGETS * (elapsed_s - former)

    def of(self, n_tokens: float) -> float:
        """Seconds of a pass, interpolated; beyond what was seen it grows with a power of 0.6."""
        if not self._seconds:
            return 1.0
        seen = sorted(self._seconds)
        place = bisect_left(seen, n_tokens)
        if place == 0 or place == len(seen):
            nearest = seen[min(place, len(seen) - 1)]
            return self._seconds[nearest] * math.pow(n_tokens / nearest, 0.6)
        low, high = seen[place - 1], seen[place]
        share = (n_tokens - low) / (high - low)
        return (1 - share) * self._seconds[low] + share * self._seconds[high]


class Speculator:
    """Keeps a block of foreseen text ahead of the response; what it learns outlives an answer."""

    def __init__(self) -> None:
        self._costs: dict[str, PassCosts] = {}
        self._sources: list[Source] = []
        self._ahead = b""
        self._run_bytes = 0  # of agreement since the last dispute
        self._mean_run_bytes = 40.0
        self._bytes_per_token = 3.0

    def begin(self, sources: Sequence[Source]) -> None:
        """Start an answer; fewer than two sources that can foresee have nobody to agree with."""
        able = [source for source in sources if source.can_foresee]
        self._sources = able if len(able) > 1 else []
        self._ahead = b""

    def prepare(self) -> None:
        """See to it that all sources have foreseen the next word."""
        if not self._sources:
            return
        if not _holds_word(self._ahead) and not self._extend():
            self._ahead = b""  # where they hardly ever agree, looking ahead is wasted
        for source in self._sources:
            before = source.counters
            source.preview(self._ahead)
            self._costs_of(source).note(before, source.counters)

    def advance(self, winner: bytes, n_candidates: int) -> None:
        """The response has grown by ``winner``: keep what of the block lies behind it."""
        if self._ahead.startswith(winner):
            self._ahead = self._ahead[len(winner) :]
        else:
            self._ahead = b""
        self._run_bytes += len(winner)
        if n_candidates > 1:
            self._mean_run_bytes += _FORGETS * (self._run_bytes - self._mean_run_bytes)
            self._run_bytes = 0

    def _extend(self) -> bool:
        """Let the best leader write ahead; False when plain steps are expected to be faster."""
        choices = [(leader, n) for leader in self._sources for n in BLOCKS]
        leader, n_tokens = max(choices, key=lambda choice: self._rate(*choice))
        if self._rate(leader, n_tokens) <= self._plain_rate():
            return False
        self._write_ahead(leader, n_tokens)
        return True

    def _write_ahead(self, leader: Source, n_tokens: int) -> None:
        before = leader.counters
        text = leader.foresee(n_tokens)
        after = leader.counters
        self._costs_of(leader).note(before, after)
        if n_new := after.n_tokens - before.n_tokens:
            n_bytes = max(1, len(text) - len(self._ahead))
            self._bytes_per_token += _FORGETS * (n_bytes / n_new - self._bytes_per_token)
        self._ahead = whole_characters(text)

    def _rate(self, leader: Source, n_tokens: int) -> float:
        """Tokens per second with a block of ``n_tokens`` of that leader.

        Each further token comes true with the same probability.
        """
        probability = self._probability()
        all_true = probability**n_tokens
        n_true = probability * (1 - all_true) / (1 - probability)
        block_s = n_tokens * self._costs_of(leader).of(1)
        block_s += sum(
            self._costs_of(source).of(n_tokens) for source in self._sources if source is not leader
        )
        dispute_s = (1 - all_true) * _DISPUTE_PASSES * self._token_s()
        return (n_true + (1 - all_true) * _DISPUTE_TOKENS) / (block_s + dispute_s)

    def _plain_rate(self) -> float:
        """Tokens per second without looking ahead: each costs all a pass, a dispute one more."""
        return 1 / (self._token_s() * (2 - self._probability()))

    def _probability(self) -> float:
        """That the sources agree on one more token."""
        run = max(self._mean_run_bytes, self._run_bytes / 2, 1.0)
        return math.exp(-self._bytes_per_token / run)

    def _token_s(self) -> float:
        """Seconds of a single-token pass of all sources."""
        return sum(self._costs_of(source).of(1) for source in self._sources)

    def _costs_of(self, source: Source) -> PassCosts:
        return self._costs.setdefault(source.info.name, PassCosts())


def _holds_word(text: bytes) -> bool:
    """Whether a word ends within ``text``, so that the next segment may be foreseen whole."""
    chars = text.decode("utf-8", errors="replace")
    return any(is_boundary_between(prev, next_) for prev, next_ in pairwise(chars))
