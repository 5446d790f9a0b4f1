"""What a model expects next: one row of logits, read as probabilities."""

import math

import numpy as np
import numpy.typing as npt

from cf_local.errors import BrokenModelError

Logits = npt.NDArray[np.float32]


class Distribution:
    """A row of logits, shape (n_vocab,). Argmax and normalizer are computed once, if asked for.

    The row may be a view of llama.cpp's buffer, which the next pass overwrites, until ``keep``.
    """

    __slots__ = ("_best", "_is_view", "_log_normalizer", "_model", "logits")

    def __init__(self, logits: Logits, model: str, *, is_view: bool = True) -> None:
        self.logits = logits
        self._model = model
        self._is_view = is_view
        self._best: int | None = None
        self._log_normalizer: float | None = None

    @classmethod
    def unknown(cls) -> "Distribution":
        """What a model expects that has read nothing."""
        return cls(np.empty(0, dtype=np.float32), "", is_view=False)

    def keep(self) -> None:
        """Take a copy of the logits if they are a view."""
        if self._is_view:
            self.logits = self.logits.copy()
            self._is_view = False

    @property
    def best(self) -> int:
        """The most likely token."""
        if self._best is None:
            self._best = int(np.argmax(self.logits))
            self._check(float(self.logits[self._best]))  # numpy takes NaN for the largest
        return self._best

    def nll(self, token: int) -> float:
        """Negative log-likelihood of a token, in nats."""
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
