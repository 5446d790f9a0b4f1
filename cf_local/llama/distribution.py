"""What a model expects next: one row of logits, read as probabilities."""

import math

import numpy as np
import numpy.typing as npt

from cf_local.errors import BrokenModelError
from cf_local.source import N_LIKELIEST

Logits = npt.NDArray[np.float32]


class Distribution:
    """A row of logits, shape (n_vocab,). Argmax and normalizer are computed once, if asked for.

    The row may be a view of llama.cpp's buffer, which the next pass overwrites, until ``keep``.
    """

    __slots__ = (
        "_best",
        "_best_logit",
        "_entropy_nats",
        "_is_view",
        "_log_normalizer",
        "_logits",
        "_model",
    )

    def __init__(self, logits: Logits | None, model: str, *, is_view: bool = True) -> None:
        self._logits = logits
        self._model = model
        self._is_view = is_view
        self._best: int | None = None
        self._best_logit = 0.0
        self._log_normalizer: float | None = None
        self._entropy_nats: float | None = None

    @classmethod
    def unknown(cls) -> "Distribution":
        """What a model expects that has read nothing."""
        return cls(None, "", is_view=False)

    def keep(self) -> None:
        """Take a copy of the logits if they are a view."""
        if self._is_view and self._logits is not None:
            self._logits = self._logits.copy()
        self._is_view = False

    def summarize(self) -> None:
        """Remember the most likely token and the normalizer, and let go of the logits."""
        if self._logits is not None:
            _ = self.best, self._normalizer()
        self.drop()

    def drop(self) -> None:
        """Let go of the logits; what was computed of them stays."""
        self._logits, self._is_view = None, False

    @property
    def logits(self) -> Logits:
        """The row, shape (n_vocab,)."""
        assert self._logits is not None, "the logits were dropped"
        return self._logits

    def tells(self, token: int | None) -> bool:
        """Whether ``nll`` of that token can be told; of None: of any."""
        is_best = token is not None and token == self._best and self._log_normalizer is not None
        return self._logits is not None or is_best

    @property
    def knows_best(self) -> bool:
        """Whether ``best`` can be told."""
        return self._logits is not None or self._best is not None

    @property
    def best(self) -> int:
        """The most likely token."""
        if self._best is None:
            self._best = int(np.argmax(self.logits))
            self._best_logit = float(self.logits[self._best])
            self._check(self._best_logit)  # numpy takes NaN for the largest
        return self._best

    @property
    def entropy_nats(self) -> float:
        """Entropy of the N_LIKELIEST tokens, their probabilities made to sum to 1."""
        if self._entropy_nats is None:
            top = np.partition(self.logits, -N_LIKELIEST)[-N_LIKELIEST:]
            top = top[top > -np.inf]  # a model may rule tokens out
            log_p = top.astype(np.float64) - _log_sum_exp(top)
            self._entropy_nats = float(-(np.exp(log_p) * log_p).sum())
            self._check(self._entropy_nats)
        return self._entropy_nats

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

    def _normalizer(self) -> float:
        if self._log_normalizer is None:
            self._log_normalizer = _log_sum_exp(self.logits)
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
