"""The next token from a row of logits: the argmax, or a draw after llama.cpp's own samplers.

Which tokens a grammar allows is here, too; what penalties do to the row is in ``adjustment``.
"""

import codecs
import ctypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from cf_local.errors import InputError
from cf_local.llama.adjustment import Adjustment
from cf_local.llama.cache import Cache
from cf_local.llama.distribution import Logits
from cf_local.llama.library import lib
from cf_local.llama.tree import Node
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.settings import Sampling

_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """Greedy at temperature 0; else top-k, top-p, min-p, temperature, draw, as llama.cpp does.

    Until ``renew``, the draw depends only on the seed and the position: so a source knows in
    advance what it will draw, as speculation requires, and asking twice changes nothing. A draw
    that influenced the choice of another source's segment must not be used again; ``renew`` then
    gives all positions new draws. So the text has the same distribution as without speculation.
    """

    def __init__(self, sampling: Sampling, n_vocab: int) -> None:
        self._chain = None
        self._seed, self._n_renewed = sampling.seed & 0xFFFFFFFF, 0
        if sampling.temperature == 0:
            return
        self._data = np.empty(n_vocab, dtype=_TOKEN_DATA)
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in (
            lib.llama_sampler_init_top_k(sampling.top_k),
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
        """Use new draws from now on."""
        self._n_renewed += 1

    def choose(
        self, logits: Logits, position: int, among: npt.NDArray[np.intp] | None = None
    ) -> int:
        """The token after ``position``, drawn from the tokens ``among`` if given."""
        if self._chain is None:
            return int(np.argmax(logits))
        left = self._left(logits, among)
        weights = np.exp(left["logit"] - left["logit"].max(), dtype=np.float64).cumsum()
        draw = self._noise(position).random()
        chosen = int(np.searchsorted(weights, draw * weights[-1], side="right"))
        return int(left["id"][min(chosen, len(left) - 1)])

    def ranking(
        self, logits: Logits, position: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Tokens and their keys: the choice is the allowed token with the highest key.

        Sampling: drawing until a token is allowed, and none twice, is the same as adding Gumbel
        noise to the logits once and taking the highest allowed token.
        """
        if self._chain is None:
            return np.arange(len(logits)), logits.astype(np.float64)
        left = self._left(logits, None)
        tokens = left["id"].astype(np.intp)
        noise = self._noise(position, 1).gumbel(size=len(logits))
        return tokens, left["logit"] + noise[tokens]

    def _left(self, logits: Logits, among: npt.NDArray[np.intp] | None) -> npt.NDArray[np.void]:
        """The tokens that the chain leaves to draw from; the next call overwrites them."""
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


Tokens = tuple[int, ...]
_AT_ONCE = (32, 1024, 16_384)  # most likely tokens tried before all are
_CONTROL = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN


class GrammarState:
    """The state of the grammar at the end of a text. Frees its memory when it is deleted."""

    def __init__(self, handle: Any, vocabulary: LlamaVocabulary, tail: bytes = b"") -> None:
        self._handle = handle
        self._vocabulary = vocabulary
        self._tail = tail  # the incomplete character at the end
        self._free = lib.llama_sampler_free  # at exit the module may be gone before this is

    def __del__(self) -> None:
        self._free(self._handle)

    def clone(self) -> "GrammarState":
        """A copy, to continue from."""
        return GrammarState(lib.llama_sampler_clone(self._handle), self._vocabulary, self._tail)

    def allowed(self, tokens: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Whether each of ``tokens`` may come next, shape (n_tokens,)."""
        is_allowed = self._matches(tokens)
        for index in np.flatnonzero(is_allowed):
            is_allowed[index] = self._is_text(int(tokens[index]))
        return is_allowed

    def first_allowed(self, tokens: npt.NDArray[np.intp]) -> int | None:
        """The first of ``tokens`` that may come next."""
        matching = tokens[self._matches(tokens)].tolist()
        return next((token for token in matching if self._is_text(token)), None)

    def _matches(self, tokens: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Whether llama.cpp accepts each token, shape (n_tokens,)."""
        data = np.zeros(len(tokens), dtype=_TOKEN_DATA)
        data["id"] = tokens
        candidates = lib.llama_token_data_array(
            data=data.ctypes.data_as(lib.llama_token_data_p),
            size=len(tokens),
            selected=-1,
            sorted=False,
        )
        lib.llama_sampler_apply(self._handle, ctypes.byref(candidates))
        is_match: npt.NDArray[np.bool_] = data["logit"] == 0
        return is_match

    def accept(self, tokens: Iterable[int]) -> bool:
        """Advance by ``tokens``; False, and not usable any more, if one is not allowed."""
        for token in tokens:
            if token in self._vocabulary.end_token_set or not self.allowed(np.array([token]))[0]:
                return False
            lib.llama_sampler_accept(self._handle, token)
            self._tail = _tail_of(self._tail + self._vocabulary.piece(token)) or b""
        return True

    def _is_text(self, token: int) -> bool:
        """Whether a token writes the text that the grammar sees, or may end the answer here."""
        if token in self._vocabulary.end_token_set:
            return not self._tail
        piece = self._vocabulary.piece(token)
        if not piece or b"\0" in piece or self._vocabulary.attributes(token) & _CONTROL:
            return False
        return _tail_of(self._tail + piece) is not None


@dataclass(slots=True)
class _Cursor:
    """A state that moves along a draft, so that not every token needs its own."""

    tokens: Tokens
    state: GrammarState | None


class Constraint:
    """A grammar over a vocabulary: its state at the end of the response, and along drafts."""

    def __init__(self, vocabulary: LlamaVocabulary, grammar: str) -> None:
        """Raises InputError for a grammar that llama.cpp cannot read."""
        self._vocabulary = vocabulary
        handle = lib.llama_sampler_init_grammar(vocabulary.handle, grammar.encode(), b"root")
        if not handle:
            raise InputError("llama.cpp cannot read the grammar; see its log.")
        self._start = GrammarState(handle, vocabulary)
        self.restart()

    def restart(self) -> None:
        """The response is empty again."""
        self._head: GrammarState | None = self._start.clone()
        self.forget()

    def forget(self) -> None:
        """Drop the choices made after the response."""
        self._cursor: _Cursor | None = None

    def commit(self, tokens: Sequence[int]) -> None:
        """The response has grown by ``tokens``; after text that is not allowed, no token is."""
        self._head = self._at(tuple(tokens))
        self.forget()

    def choose(self, path: Tokens, logits: Logits, position: int, sampler: Sampler) -> int | None:
        """What ``sampler`` chooses from the allowed tokens after ``path``; None if none is allowed.

        Greedy: the most likely one. Sampling: the token drawn if it is allowed, else drawn again
        from the rest; if nothing that top-k, top-p and min-p leave is allowed, they are applied to
        the allowed tokens alone.
        """
        state = self._at(path)
        if state is None:
            return None
        best = sampler.choose(logits, position)
        if state.allowed(np.array([best]))[0]:
            return best
        tokens, keys = sampler.ranking(logits, position)
        found = _first_allowed(state, tokens, keys)
        if found is not None or sampler.is_greedy:
            return found
        everything = np.arange(self._vocabulary.n_tokens)
        allowed = everything[state.allowed(everything)]
        return sampler.choose(logits, position, allowed) if len(allowed) else None

    def _at(self, path: Tokens) -> GrammarState | None:
        """The state after response and ``path``; None if the grammar does not allow it."""
        cursor = self._cursor
        if cursor is None or path[: len(cursor.tokens)] != cursor.tokens:
            cursor = _Cursor((), self._head and self._head.clone())
        if cursor.state is not None and not cursor.state.accept(path[len(cursor.tokens) :]):
            cursor.state = None
        self._cursor = _Cursor(path, cursor.state)
        return cursor.state


def _first_allowed(
    state: GrammarState, tokens: npt.NDArray[np.intp], keys: npt.NDArray[np.float64]
) -> int | None:
    """The allowed token with the highest key; of equal ones the first."""
    for n in (*_AT_ONCE, len(keys)):
        if n < len(keys):
            chosen = np.flatnonzero(keys >= np.partition(keys, -n)[-n])
        else:
            chosen = np.arange(len(keys))
        chosen = chosen[np.argsort(-keys[chosen], kind="stable")]
        found = state.first_allowed(tokens[chosen[keys[chosen] > -np.inf]])
        if found is not None or n >= len(keys):
            return found
    return None


def _tail_of(text: bytes) -> bytes | None:
    """The incomplete character at the end; None if ``text`` cannot be UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(text)
    except UnicodeDecodeError:
        return None
    tail = decoder.getstate()[0]
    # Python waits for the third byte of a surrogate, which is not a character.
    return None if tail[:1] == b"\xed" and tail[1:] >= b"\xa0" else tail


class TokenChooser:
    """Chooses tokens after the response, and makes the cache read them."""

    def __init__(self, cache: Cache, vocabulary: LlamaVocabulary) -> None:
        """Greedy and without a grammar until ``start``."""
        self._cache = cache
        self._vocabulary = vocabulary
        self._end_tokens = vocabulary.end_token_set
        self._sampler = Sampler(Sampling(), vocabulary.n_tokens)
        self._adjustment = Adjustment(Sampling(), vocabulary)
        self._constraint: Constraint | None = None
        self._wants_rows = False  # whether a choice needs the whole row, not only its argmax
        self._chosen: dict[Tokens, int | None] = {}  # by the tokens after the response

    def start(self, sampling: Sampling, grammar: str | None) -> None:
        """Start another answer; raises InputError for a grammar that llama.cpp cannot read."""
        self._sampler.close()
        self._sampler = Sampler(sampling, self._vocabulary.n_tokens)
        self._adjustment = Adjustment(sampling, self._vocabulary)
        self._constraint = Constraint(self._vocabulary, grammar) if grammar else None
        self._wants_rows = (
            grammar is not None or not self._sampler.is_greedy or not self._adjustment.is_neutral
        )
        self._chosen = {}

    def choose(self, node: Node) -> int | None:
        """The next token after a node; None if a grammar allows none."""
        if not self._wants_rows:
            return node.expected.best
        path = self._path(node)
        if path not in self._chosen:
            self._chosen[path] = self._choose(node, path)
        return self._chosen[path]

    def _choose(self, node: Node, path: Tokens) -> int | None:
        _ = node.expected.best  # raises an error for a row that is not of numbers
        logits = node.expected.logits
        if not self._adjustment.is_neutral:
            logits = self._adjustment.apply(logits, self._cache.response_to(node))
        if self._constraint is None:
            return self._sampler.choose(logits, node.position)
        return self._constraint.choose(path, logits, node.position, self._sampler)

    def goes_on(self, token: int | None) -> TypeGuard[int]:
        """Whether a choice is a token of text: neither None nor the end of the answer."""
        return token is not None and token not in self._end_tokens

    def ends(self, token: int | None) -> bool:
        """Whether a choice ends the answer."""
        return token in self._end_tokens

    def advance(self, node: Node, token: int) -> Node:
        """The node of ``token`` after ``node``, by a forward pass if it is not known."""
        return self.known(node, token) or self._cache.read([(node, [token])])[0]

    def known(self, node: Node, token: int) -> Node | None:
        """The node of ``token`` after ``node``, if what it would choose there is known."""
        return self._cache.known(node, token, whole_row=self._wants_rows)

    def known_path(self, start: Node) -> Iterator[Node]:
        """The nodes of its choices after ``start``, as far as they are known."""
        node: Node | None = start
        while node and self.goes_on(token := self.choose(node)):
            node = self.known(node, token)
            if node is not None:
                yield node

    def follow(self, node: Node, *, is_own: bool) -> None:
        """Continue after ``node``, before the cache commits it; ``is_own`` for its own draft."""
        self._chosen = {}
        if not is_own:
            self._sampler.renew()  # its draws influenced this choice
        if self._constraint is not None:
            self._constraint.commit(self._path(node))

    def forget(self) -> None:
        """Drop its choices after the response."""
        self._chosen = {}
        if self._constraint is not None:
            self._constraint.forget()

    def restart(self) -> None:
        """Continue after the prompt again."""
        self._chosen = {}
        self._sampler.renew()
        if self._constraint is not None:
            self._constraint.restart()

    def close(self) -> None:
        """Free sampler and grammar. May be called twice."""
        self._sampler.close()
        self._constraint = None

    def _path(self, node: Node) -> Tokens:
        """The tokens after the response down to a node."""
        return tuple(n.token for n in node.path_from(self._cache.head))
