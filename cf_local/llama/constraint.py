"""Which tokens a grammar allows behind a text: llama.cpp's grammar sampler, kept in step.

Who wrote the response does not matter: its tokens in this vocabulary are accepted one by one. What
llama.cpp leaves open is checked here: it reads past bytes that are no UTF-8, takes control tokens
for the text they are shown as, and ends the process when it accepts a token that it would refuse.
"""

import codecs
import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cf_local.errors import InputError
from cf_local.llama.distribution import Distribution
from cf_local.llama.library import lib
from cf_local.llama.sampler import Sampler
from cf_local.llama.vocabulary import LlamaVocabulary

Tokens = tuple[int, ...]
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_AT_ONCE = (32, 1024, 16_384)  # candidates looked at before all are
_CONTROL = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN


class State:
    """Where in the grammar a text ends. Frees its memory when it is forgotten."""

    def __init__(self, handle: Any, vocabulary: LlamaVocabulary, tail: bytes = b"") -> None:
        self._handle = handle
        self._vocabulary = vocabulary
        self._tail = tail  # bytes that begin a character
        self._free = lib.llama_sampler_free  # at exit the module may be gone before this is

    def __del__(self) -> None:
        self._free(self._handle)

    def clone(self) -> "State":
        """The same place, to go on from."""
        return State(lib.llama_sampler_clone(self._handle), self._vocabulary, self._tail)

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
        """Whether llama.cpp lets them pass."""
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
        """Go on behind ``tokens``; False, and of no further use, where one is not allowed."""
        for token in tokens:
            if token in self._vocabulary.end_token_set or not self.allowed(np.array([token]))[0]:
                return False
            lib.llama_sampler_accept(self._handle, token)
            self._tail = _tail_of(self._tail + self._vocabulary.piece(token)) or b""
        return True

    def _is_text(self, token: int) -> bool:
        """Whether a token writes what the grammar takes it for, or ends the answer."""
        if token in self._vocabulary.end_token_set:
            return not self._tail
        piece = self._vocabulary.piece(token)
        if not piece or b"\0" in piece or self._vocabulary.attributes(token) & _CONTROL:
            return False
        return _tail_of(self._tail + piece) is not None


@dataclass(slots=True)
class _Cursor:
    """A state that moves along a draft, so that not every token needs a state of its own."""

    tokens: Tokens
    state: State | None


class Constraint:
    """One grammar over one vocabulary: the state at the end of the response, and behind it."""

    def __init__(self, vocabulary: LlamaVocabulary, grammar: str) -> None:
        """Raises InputError for a grammar that llama.cpp cannot read."""
        self._vocabulary = vocabulary
        handle = lib.llama_sampler_init_grammar(vocabulary.handle, grammar.encode(), b"root")
        if not handle:
            raise InputError("llama.cpp cannot read the grammar; see its log.")
        self._start = State(handle, vocabulary)
        self.restart()

    def restart(self) -> None:
        """The response is empty again."""
        self._head: State | None = self._start.clone()
        self.forget()

    def forget(self) -> None:
        """Drop the choices that were made behind the response."""
        self._cursor: _Cursor | None = None
        self._chosen: dict[Tokens, int | None] = {}

    def commit(self, tokens: Sequence[int]) -> None:
        """The response has grown by ``tokens``; those of a text that is not allowed end it all."""
        self._head = self._at(tuple(tokens))
        self.forget()

    def choose(
        self, path: Tokens, expected: Distribution, position: int, sampler: Sampler
    ) -> int | None:
        """What ``sampler`` chooses of the allowed tokens behind ``path``; None if there is none.

        Greedy: the most likely one. Sampling: what was drawn if it is allowed, else drawn again
        among the rest; when nothing that top-p and min-p leave is allowed, these are applied to
        the allowed tokens alone.
        """
        if path not in self._chosen:
            state = self._at(path)
            self._chosen[path] = (
                None if state is None else self._choose(state, expected, position, sampler)
            )
        return self._chosen[path]

    def _choose(
        self, state: State, expected: Distribution, position: int, sampler: Sampler
    ) -> int | None:
        best = sampler.choose(expected, position)
        if state.allowed(np.array([best]))[0]:
            return best
        tokens, keys = sampler.ranking(expected, position)
        found = _first_allowed(state, tokens, keys)
        if found is not None or sampler.is_greedy:
            return found
        everything = np.arange(self._vocabulary.n_tokens)
        allowed = everything[state.allowed(everything)]
        return sampler.choose(expected, position, allowed) if len(allowed) else None

    def _at(self, path: Tokens) -> State | None:
        """The state behind response and ``path``; None where the grammar does not allow it."""
        cursor = self._cursor
        if cursor is None or path[: len(cursor.tokens)] != cursor.tokens:
            cursor = _Cursor((), self._head and self._head.clone())
        if cursor.state is not None and not cursor.state.accept(path[len(cursor.tokens) :]):
            cursor.state = None
        self._cursor = _Cursor(path, cursor.state)
        return cursor.state


def _first_allowed(
    state: State, tokens: npt.NDArray[np.intp], keys: npt.NDArray[np.float64]
) -> int | None:
    """The allowed token of the highest key; of equal ones the first."""
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
    """The bytes at the end that begin a character; None if ``text`` can be no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(text)
    except UnicodeDecodeError:
        return None
    tail = decoder.getstate()[0]
    # Python waits for the third byte of a surrogate, which is no character.
    return None if tail[:1] == b"\xed" and tail[1:] >= b"\xa0" else tail
