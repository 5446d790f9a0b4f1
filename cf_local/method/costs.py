"""What a forward pass costs, by its size: fixed, so that the same text leads to the same passes.

These costs decide which source writes ahead, and how far. Other passes change the last digits of
the logits, and at a near tie those change the text. So the costs never come from a clock that runs
while an answer is written: they are estimated from the size of the model and the format of its
weights, or were measured once, on demand (``cf-local doctor --measure``).
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

WeightFormat = Literal["packed", "packed-wide", "plain", "heavy", "gpu"]
"""What a pass computes with: weights of about 4 bits, which llama.cpp rearranges for this CPU
("packed"; "packed-wide" with AVX-512) or uses as they are in the file ("plain"); weights of a byte
or more ("heavy"); or a GPU."""

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32)
# Measured on two cores with Q4_K_M, Q4_1 and Q8_0 (docs/LOG.md, 2026-11-22, -28 and -29), in
# passes over one token; the curve of a GPU is a cautious guess.
_CURVES: dict[WeightFormat, tuple[float, ...]] = {
    "packed-wide": (1.0, 1.4, 1.6, 1.7, 2.7, 2.8, 3.7, 4.7, 8.4),
    "packed": (1.0, 1.55, 2.6, 2.4, 3.4, 4.4, 5.6, 7.5, 14.0),
    "plain": (1.0, 1.5, 2.3, 2.6, 3.6, 4.5, 6.0, 8.5, 16.0),
    "heavy": (1.0, 1.0, 1.05, 1.15, 1.45, 1.75, 2.5, 3.3, 6.3),
    "gpu": (1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.4, 3.5),
}
_BYTES_PER_S: dict[WeightFormat, float] = {
    "packed-wide": 16.5e9,
    "packed": 15e9,
    "plain": 10e9,
    "heavy": 15e9,
    "gpu": 200e9,
}


_LAYER_S = 1e-4  # its parts end with threads that wait for each other; small models feel it


@dataclass(frozen=True, slots=True)
class PassCosts:
    """Seconds of one source's forward passes by their number of tokens.

    By default all passes cost the same.
    """

    seconds: tuple[tuple[int, float], ...] = ((1, 1.0),)

    @classmethod
    def estimated(cls, n_bytes: int, weights: WeightFormat, n_layers: int = 0) -> Self:
        """The costs of a model of ``n_bytes``; only ratios between models and sizes matter."""
        layers_s = 0.0 if weights == "gpu" else n_layers * _LAYER_S
        one_s = n_bytes / _BYTES_PER_S[weights] + layers_s
        curve = zip(_SIZES, _CURVES[weights], strict=True)
        return cls(tuple((size, one_s * passes) for size, passes in curve))

    @classmethod
    def measured(cls, seconds: Mapping[int, float]) -> Self:
        """Costs from measured seconds of passes, by their number of tokens."""
        return cls(tuple(sorted(seconds.items())))

    def of(self, n_tokens: float) -> float:
        """Seconds of a pass, interpolated; beyond the largest size the last slope continues."""
        if len(self.seconds) == 1:
            return self.seconds[0][1]
        place = bisect_left(self.seconds, (n_tokens, 0.0))
        place = min(max(place, 1), len(self.seconds) - 1)
        (low, low_s), (high, high_s) = self.seconds[place - 1 : place + 1]
        return low_s + (n_tokens - low) / (high - low) * (high_s - low_s)
