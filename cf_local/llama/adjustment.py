"""What the settings take from or add to the logits of a row, given the response so far.

All of it depends on the tokens of the response and of the draft alone: nothing is remembered, so
that a choice can be asked for twice, and in any order. The formulas are those of llama.cpp. Its own
samplers keep what they have seen, and look at every token of the vocabulary; here only the tokens
that occur are touched.
"""

from collections.abc import Sequence

import numpy as np

from cf_local.llama.distribution import Logits
from cf_local.settings import Sampling

PENALTY_WINDOW = 64
"""Tokens of the response that penalties look back on."""


class Adjustment:
    """Adjusts rows of logits as the settings of one answer say."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._has_penalties = (
            sampling.repeat_penalty != 1
            or sampling.frequency_penalty != 0
            or sampling.presence_penalty != 0
        )

    @property
    def is_neutral(self) -> bool:
        """Whether rows stay as they are."""
        return not self._has_penalties

    def apply(self, logits: Logits, response: Sequence[int]) -> Logits:
        """A copy of a row, shape (n_vocab,), adjusted; it follows the tokens ``response``."""
        adjusted = logits.copy()
        if self._has_penalties:
            self._penalize(adjusted, response[-PENALTY_WINDOW:])
        return adjusted

    def _penalize(self, logits: Logits, recent: Sequence[int]) -> None:
        """Take from the logits of tokens that occurred."""
        tokens, counts = np.unique(np.asarray(recent, dtype=np.intp), return_counts=True)
        asked, found = self._sampling, logits[tokens]
        found = np.where(found > 0, found / asked.repeat_penalty, found * asked.repeat_penalty)
        logits[tokens] = found - counts * asked.frequency_penalty - asked.presence_penalty
