"""What a model expects next: one row of logits, read as probabilities."""

import math

import numpy as np
import numpy.typing as npt

from cf_local.errors import BrokenModelError
from cf_local.llama.context import Logits


class Distribution:
    """A row of logits, shape (n_vocab,). The normalizer is computed once, and only if asked for."""

    __slots__ = ("_log_normalizer", "logits")

    def __init__(self, logits: Logits) -> None:
        self.logits = logits
        self._log_normalizer: float | None = None

    @classmethod
    def unknown(cls) -> "Distribution":
        """What a model expects that has read nothing."""
        return cls(np.empty(0, dtype=np.float32))

    def nll(self, token: int) -> float:
        """Negative log-likelihood of a token, in nats."""
        return self._normalizer() - float(self.logits[token])

    def nll_of_any(self, tokens: npt.NDArray[np.intp]) -> float:
        """Minus the log of the summed probability of several tokens, in nats; infinite for none."""
        if not len(tokens):
            return math.inf
        return self._normalizer() - _log_sum_exp(self.logits[tokens])

    def kept(self) -> "Distribution":
        """The same with logits of its own, when they are a view that the next pass overwrites."""
        kept = Distribution(self.logits.copy())
        kept._log_normalizer = self._log_normalizer
        return kept

    def _normalizer(self) -> float:
        if self._log_normalizer is None:
            self._log_normalizer = _log_sum_exp(self.logits)
            if not math.isfinite(self._log_normalizer):
                raise BrokenModelError(
                    "A model computed logits that are not numbers; its file is damaged, or this "
                    "quantization does not work on this device. Try another file."
                )
        return self._log_normalizer


def _log_sum_exp(logits: Logits) -> float:
    top = float(logits.max())
    return top + math.log(float(np.exp(logits - top).sum(dtype=np.float64)))
