"""What the settings take from or add to the logits of a row, given the response so far.

All of it depends on the tokens of the response and of the draft alone: nothing is remembered, so
that a choice can be asked for twice, and in any order. The formulas are those of llama.cpp. Its own
samplers keep what they have seen, and look at every token of the vocabulary; here only the tokens
that occur are touched.
"""

import math
from collections.abc import Sequence

import numpy as np

from cf_local.llama.distribution import Logits
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.settings import Sampling

PENALTY_WINDOW = 64
"""Tokens of the response that penalties look back on."""
_BREAKERS = b'\n:"*'  # as in llama.cpp: what is repeated does not reach across these
_MOST = 1e4  # nats that DRY takes at most: a logit stays a number


class _Bias:
    """A number for a text: for the tokens that would write it, or write more of it."""

    def __init__(self, text: str, number: float, vocabulary: LlamaVocabulary) -> None:
        self._number = number
        texts = [text] if text[0].isspace() else [text, f" {text}"]
        spellings = [vocabulary.encode(each.encode(errors="replace")) for each in texts]
        # Tokens, and after which others they are meant: a negative number is for the last one only,
        # as the first may begin many other texts.
        self._meant: dict[tuple[int, ...], set[int]] = {}
        for tokens in filter(None, spellings):
            for n in range(len(tokens)) if number > 0 else [len(tokens) - 1]:
                self._meant.setdefault(tuple(tokens[:n]), set()).add(tokens[n])

    def apply(self, logits: Logits, response: Sequence[int]) -> None:
        """Change a row that follows the tokens ``response``; no token twice."""
        following = [
            tokens
            for before, tokens in self._meant.items()
            if len(before) <= len(response)
            and before == tuple(response[len(response) - len(before) :])
        ]
        logits[list(set().union(*following))] += self._number


class Adjustment:
    """Adjusts rows of logits as the settings of one answer say."""

    def __init__(self, sampling: Sampling, vocabulary: LlamaVocabulary) -> None:
        self._sampling, self._vocabulary = sampling, vocabulary
        given = (sampling.logit_bias or {}).items()
        self._biases = [_Bias(text, number, vocabulary) for text, number in given if number]
        self._has_penalties = (
            sampling.repeat_penalty != 1
            or sampling.frequency_penalty != 0
            or sampling.presence_penalty != 0
        )

    @property
    def is_neutral(self) -> bool:
        """Whether rows stay as they are."""
        return not (self._biases or self._has_penalties or self._sampling.dry_multiplier)

    def apply(self, logits: Logits, response: Sequence[int]) -> Logits:
        """A copy of a row, shape (n_vocab,), adjusted; it follows the tokens ``response``."""
        adjusted = logits.copy()
        for bias in self._biases:
            bias.apply(adjusted, response)
        if self._has_penalties:
            self._penalize(adjusted, response[-PENALTY_WINDOW:])
        if self._sampling.dry_multiplier and response:
            self._stop_loops(adjusted, response)
        return adjusted

    def _penalize(self, logits: Logits, recent: Sequence[int]) -> None:
        """Take from the logits of tokens that occurred."""
        tokens, counts = np.unique(np.asarray(recent, dtype=np.intp), return_counts=True)
        asked, found = self._sampling, logits[tokens]
        found = np.where(found > 0, found / asked.repeat_penalty, found * asked.repeat_penalty)
        logits[tokens] = found - counts * asked.frequency_penalty - asked.presence_penalty

    def _stop_loops(self, logits: Logits, response: Sequence[int]) -> None:
        """DRY ("don't repeat yourself"): take from tokens that would go on with a repetition.

        The longer the end of the response has occurred before, the more what followed there loses.
        """
        asked, tokens = self._sampling, np.asarray(response, dtype=np.intp)
        ends = np.flatnonzero(tokens[:-1] == tokens[-1])  # of what may be a repeated sequence
        following: dict[int, int] = {}  # the length of the longest sequence before a token
        for length in range(1, self._most_repeated() + 1):
            ends = ends[ends >= length - 1]
            ends = ends[tokens[ends - length + 1] == tokens[-length]]
            if not len(ends) or self._breaks(response[-length]):
                break
            if length >= asked.dry_allowed_length:
                following.update(dict.fromkeys(tokens[ends + 1].tolist(), length))
        for token, length in following.items():
            if not self._breaks(token):
                growth = asked.dry_base ** (length - asked.dry_allowed_length)
                logits[token] -= min(asked.dry_multiplier * growth, _MOST)

    def _most_repeated(self) -> int:
        """The length of a repetition from which on DRY takes the most."""
        asked = self._sampling
        if asked.dry_base == 1 or asked.dry_multiplier >= _MOST:
            return asked.dry_allowed_length
        return asked.dry_allowed_length + math.ceil(
            math.log(_MOST / asked.dry_multiplier) / math.log(asked.dry_base)
        )

    def _breaks(self, token: int) -> bool:
        """Whether a token ends what may count as one repetition."""
        return any(byte in _BREAKERS for byte in self._vocabulary.piece(token))
