"""What a forward pass costs, by its size: measured at load, and learnt while running."""

import math
from bisect import bisect_left

from cf_local.types import Counters

_FORGETS = 0.2  # weight of a new observation


class PassCosts:
    """Seconds of one source's forward passes by their number of tokens.

    Sizes are grouped (1, 2, 3-4, 5-8, ...) and a group remembers its mean size, so that one
    disturbed pass spoils little.
    """

    def __init__(self) -> None:
        self._groups: dict[int, tuple[float, float]] = {}  # mean tokens and seconds

    def note(self, n_tokens: float, elapsed_s: float) -> None:
        """Learn from a pass."""
        group = math.ceil(math.log2(n_tokens))
        mean, seconds = self._groups.get(group, (n_tokens, elapsed_s))
        self._groups[group] = (
            mean + _FORGETS * (n_tokens - mean),
            seconds + _FORGETS * (min(elapsed_s, 2 * seconds) - seconds),
        )

    def note_between(self, before: Counters, after: Counters) -> None:
        """Learn from the work between two readings of a source's counters."""
        n_passes = after.n_passes - before.n_passes
        if n_passes:
            n_tokens = max(1.0, (after.n_tokens - before.n_tokens) / n_passes)
            self.note(n_tokens, (after.decode_s - before.decode_s) / n_passes)

    def copy(self) -> "PassCosts":
        """Costs that go their own way from here."""
        other = PassCosts()
        other._groups = dict(self._groups)
        return other

    def of(self, n_tokens: float) -> float:
        """Seconds of a pass, interpolated; beyond what was seen it grows with a power of 0.6."""
        if not self._groups:
            return 1.0
        seen = sorted(self._groups.values())
        place = bisect_left(seen, (n_tokens, 0.0))
        if place == 0 or place == len(seen):
            mean, seconds = seen[min(place, len(seen) - 1)]
            return seconds * math.pow(n_tokens / mean, 0.6)
        (low, low_s), (high, high_s) = seen[place - 1], seen[place]
        share = (n_tokens - low) / (high - low)
        return (1 - share) * low_s + share * high_s
