"""The next token from a row of logits: the argmax, or a draw behind llama.cpp's own samplers."""

import ctypes

import numpy as np
import numpy.typing as npt

from cf_local.llama.distribution import Distribution
from cf_local.llama.library import lib
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

    def choose(
        self, expected: Distribution, position: int, among: npt.NDArray[np.intp] | None = None
    ) -> int:
        """The token behind ``position``, drawn of the tokens ``among`` if they are given."""
        if self._chain is None:
            return expected.best
        left = self._left(expected, among)
        weights = np.exp(left["logit"] - left["logit"].max(), dtype=np.float64).cumsum()
        draw = self._noise(position).random()
        chosen = int(np.searchsorted(weights, draw * weights[-1], side="right"))
        return int(left["id"][min(chosen, len(left) - 1)])

    def ranking(
        self, expected: Distribution, position: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Tokens and a key of each: the highest is the choice once those above are ruled out.

        Sampling: to draw until a token is allowed, and never one twice, is to add Gumbel noise to
        the logits once and take the highest that is allowed.
        """
        if self._chain is None:
            return np.arange(len(expected.logits)), expected.logits.astype(np.float64)
        left = self._left(expected, None)
        tokens = left["id"].astype(np.intp)
        noise = self._noise(position, 1).gumbel(size=len(expected.logits))
        return tokens, left["logit"] + noise[tokens]

    def _left(
        self, expected: Distribution, among: npt.NDArray[np.intp] | None
    ) -> npt.NDArray[np.void]:
        """What the chain leaves to draw from; overwritten by the next call."""
        logits = expected.logits
        tokens = np.arange(len(logits)) if among is None else among
        data = self._data[: len(tokens)]
        data["id"] = tokens  # samplers reorder the array
        data["logit"] = logits if among is None else logits[among]
        data["p"] = 0
        candidates = lib.llama_token_data_array(
            data=data.ctypes.data_as(lib.llama_token_data_p),
            size=len(tokens),
            selected=-1,
            sorted=False,
        )
        lib.llama_sampler_apply(self._chain, ctypes.byref(candidates))
        return data[: candidates.size]

    def _noise(self, position: int, *more: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, self._n_renewed, position, *more))

    def close(self) -> None:
        """Free the chain. May be called twice."""
        if self._chain is not None:
            lib.llama_sampler_free(self._chain)
        self._chain = None
