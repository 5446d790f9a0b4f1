"""The next token from a row of logits: the argmax, or a draw behind llama.cpp's own samplers."""

import ctypes

import llama_cpp.llama_cpp as lib
import numpy as np

from cf_local.llama.distribution import Distribution
from cf_local.types import Sampling

_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """Greedy at temperature 0; else top-p, min-p, temperature, draw: the order of llama.cpp.

    The draw depends on the seed, the position and nothing else until ``renew``: so a source can
    tell what it will draw, which is what speculation needs, and asking twice changes nothing. A
    draw that had a part in the choice of another's segment must not be used again; ``renew`` then
    gives all positions new ones. So the text has the distribution it has without speculation.
    """

    def __init__(self, sampling: Sampling, n_vocab: int) -> None:
        self._chain = None
        self._seed, self._n_renewed = sampling.seed & 0xFFFFFFFF, 0
        if sampling.temperature == 0:
            return
        self._data = np.empty(n_vocab, dtype=_TOKEN_DATA)
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in (
            lib.llama_sampler_init_top_p(sampling.top_p, 1),
            lib.llama_sampler_init_min_p(sampling.min_p, 1),
            lib.llama_sampler_init_temp(sampling.temperature),
        ):
            lib.llama_sampler_chain_add(self._chain, sampler)

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always chosen."""
        return self._chain is None

    def renew(self) -> None:
        """Draw anew from here on."""
        self._n_renewed += 1

    def choose(self, expected: Distribution, position: int) -> int:
        """The token behind ``position``."""
        if self._chain is None:
            return expected.best
        logits = expected.logits
        self._data["id"] = np.arange(len(logits))  # samplers reorder the array
        self._data["logit"] = logits
        self._data["p"] = 0
        candidates = lib.llama_token_data_array(
            data=self._data.ctypes.data_as(lib.llama_token_data_p),
            size=len(logits),
            selected=-1,
            sorted=False,
        )
        lib.llama_sampler_apply(self._chain, ctypes.byref(candidates))
        left = self._data[: candidates.size]
        weights = np.exp(left["logit"] - left["logit"].max(), dtype=np.float64).cumsum()
        draw = np.random.default_rng((self._seed, self._n_renewed, position)).random()
        chosen = int(np.searchsorted(weights, draw * weights[-1], side="right"))
        return int(left["id"][min(chosen, len(left) - 1)])

    def close(self) -> None:
        """Free the chain. May be called twice."""
        if self._chain is not None:
            lib.llama_sampler_free(self._chain)
        self._chain = None
