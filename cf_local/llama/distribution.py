"""What a model expects next: one row of logits, read as probabilities."""

import math
from collections.abc import Set

import numpy as np
import numpy.typing as npt

from cf_local.errors import BrokenModelError

Logits = npt.NDArray[np.float32]


_NEAR = 4.0  # nats: tokens that are 50 times less likely than the best are one bound together
_MOST_LIKELY = 16


class Rows:
    """Reuses memory for rows of logits: page faults of a new row of 0.6 MB cost more."""

    def __init__(self, n_vocab: int) -> None:
        self._free: list[Logits] = []
        self._scratch = np.empty(n_vocab, dtype=np.float32)

    def copy(self, logits: Logits) -> Logits:
        """A copy of a row; call ``give_back`` when it is no longer needed."""
        row = self._free.pop() if self._free else np.empty_like(self._scratch)
        np.copyto(row, logits)
        return row

    def give_back(self, row: Logits) -> None:
        """Free the memory of a copy for reuse."""
        self._free.append(row)

    def log_sum_exp(self, logits: Logits, top: float) -> float:
        """Logarithm of the sum of exponentials of a row; ``top`` is its maximum."""
        np.subtract(logits, np.float32(top), out=self._scratch)
        np.exp(self._scratch, out=self._scratch)
        return top + math.log(float(self._scratch.sum()))


class Distribution:
    """A row of logits, shape (n_vocab,). Argmax and normalizer are computed once, on demand.

    The row may be a view of llama.cpp's buffer, which the next pass overwrites, until ``keep``.
    """

    __slots__ = (
        "_best",
        "_best_logit",
        "_is_view",
        "_log_normalizer",
        "_logits",
        "_model",
        "_rows",
    )

    def __init__(self, logits: Logits | None, model: str, rows: Rows | None) -> None:
        """``logits`` is a view; ``rows`` holds copies and intermediate results."""
        self._logits = logits
        self._model = model
        self._rows = rows
        self._is_view = True
        self._best: int | None = None
        self._best_logit = 0.0
        self._log_normalizer: float | None = None

    def __del__(self) -> None:
        self.drop()

    @classmethod
    def unknown(cls) -> "Distribution":
        """The distribution after a token that was not read."""
        return cls(None, "", None)

    def keep(self) -> None:
        """Replace a view of the logits by a copy."""
        if self._is_view and self._logits is not None and self._rows is not None:
            self._logits, self._is_view = self._rows.copy(self._logits), False

    def summarize(self) -> None:
        """Store the most likely token and the normalizer, and drop the logits."""
        if self._logits is not None:
            _ = self.best, self._normalizer()
        self.drop()

    def drop(self) -> None:
        """Drop the logits; what was computed from them stays."""
        if not self._is_view and self._logits is not None and self._rows is not None:
            self._rows.give_back(self._logits)
        self._logits, self._is_view = None, True

    @property
    def logits(self) -> Logits:
        """The row, shape (n_vocab,); do not keep a reference to it."""
        assert self._logits is not None, "the logits were dropped"
        return self._logits

    def knows(self, token: int | None) -> bool:
        """Whether ``nll`` of a token is available; None asks for all tokens."""
        is_best = token is not None and token == self._best and self._log_normalizer is not None
        return self._logits is not None or is_best

    @property
    def knows_best(self) -> bool:
        """Whether ``best`` is available."""
        return self._logits is not None or self._best is not None

    @property
    def best(self) -> int:
        """The most likely token."""
        if self._best is None:
            self._best = int(np.argmax(self.logits))
            self._best_logit = float(self.logits[self._best])
            self._check(self._best_logit)  # numpy takes NaN for the largest
        return self._best

    def nll(self, token: int) -> float:
        """Negative log-likelihood of a token, in nats."""
        if self._logits is None and token == self._best:
            return self._normalizer() - self._best_logit
        return self._normalizer() - float(self.logits[token])

    def nll_of_any(self, tokens: npt.NDArray[np.intp]) -> float:
        """Minus the log of the summed probability of several tokens, in nats; infinite for none."""
        if not len(tokens):
            return math.inf
        return self._normalizer() - _log_sum_exp(self.logits[tokens])

    def likeliest(self, n_tokens: int) -> list[tuple[int, float]]:
        """The most likely tokens, the best one first, with their negative log-likelihoods."""
        if not n_tokens:
            return []
        logits = self.logits
        found = np.argpartition(-logits, min(n_tokens, len(logits)) - 1)[:n_tokens]
        found = found[np.argsort(-logits[found], kind="stable")]
        return [(token, self.nll(token)) for token in found.tolist()]

    def likely_but(self, tokens: Set[int]) -> tuple[list[tuple[int, float]], float]:
        """The likeliest tokens that are not among ``tokens``, and the most of any other token."""
        logits = self.logits
        _ = self.best
        near = np.flatnonzero(logits > self._best_logit - _NEAR)
        near = near[np.argsort(-logits[near], kind="stable")][: _MOST_LIKELY + len(tokens)]
        lowest = float(logits[near[-1]]) if len(near) >= _MOST_LIKELY else self._best_logit - _NEAR
        normalizer = self._normalizer()
        likely = [
            (token, math.exp(float(logits[token]) - normalizer))
            for token in near.tolist()
            if token not in tokens
        ]
        return likely, math.exp(lowest - normalizer)

    def _normalizer(self) -> float:
        if self._log_normalizer is None:
            _ = self.best
            assert self._rows is not None
            self._log_normalizer = self._rows.log_sum_exp(self.logits, self._best_logit)
            self._check(self._log_normalizer)
        return self._log_normalizer

    def _check(self, value: float) -> None:
        if not math.isfinite(value):
            raise BrokenModelError(
                f"{self._model} computed logits that are not numbers: the file is damaged, or its "
                "quantization does not work on this device. Try another file."
            )


def _log_sum_exp(logits: Logits) -> float:
    top = float(logits.max())
    return top + math.log(float(np.exp(logits - top).sum(dtype=np.float64)))
