"""The next token from a row of logits: the argmax, or llama.cpp's own sampler chain."""

import ctypes

import llama_cpp.llama_cpp as lib
import numpy as np

from cf_local.llama.distribution import Distribution
from cf_local.types import Sampling

_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """Greedy at temperature 0; else top-p, min-p, temperature, draw: the order of llama.cpp."""

    def __init__(self, sampling: Sampling, n_vocab: int) -> None:
        self._chain = None
        if sampling.temperature == 0:
            return
        self._data = np.empty(n_vocab, dtype=_TOKEN_DATA)
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in (
            lib.llama_sampler_init_top_p(sampling.top_p, 1),
            lib.llama_sampler_init_min_p(sampling.min_p, 1),
            lib.llama_sampler_init_temp(sampling.temperature),
            lib.llama_sampler_init_dist(sampling.seed & 0xFFFFFFFF),
        ):
            lib.llama_sampler_chain_add(self._chain, sampler)

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always chosen."""
        return self._chain is None

    def choose(self, expected: Distribution) -> int:
        """The next token."""
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
        return int(candidates.data[candidates.selected].id)

    def close(self) -> None:
        """Free the chain. May be called twice."""
        if self._chain is not None:
            lib.llama_sampler_free(self._chain)
        self._chain = None
