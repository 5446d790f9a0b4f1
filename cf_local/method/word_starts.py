"""Which tokens of a vocabulary begin a new word, and where its tokens join two words.

The probability that a word ends after some text is that of all tokens that begin a new word there
(method: "The score mixture"). It depends on the last character of the text and on nothing else, so
each class of characters needs its set of tokens once.
"""

from collections.abc import Sequence, Set
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from cf_local.method.boundary import (
    class_of,
    first_character,
    is_boundary_between,
    partial_character,
)

_SEPARATOR = "\U0010ffff"  # no text has this character
_NONE = ord(_SEPARATOR)  # the first character of a token without text
_FIRST_PART, _LAST_PART = 0xDCC2, 0xDCF4  # bytes that begin a character, as text shows them
Codes = npt.NDArray[np.uint32]
Pairs = npt.NDArray[np.uint64]
Tokens = npt.NDArray[np.intp]


class WordStarts:
    """The first characters of all tokens, and the neighbouring characters that tokens join."""

    def __init__(self, firsts: Codes, pairs: Pairs) -> None:
        """Use the arrays of an earlier ``of``.

        ``firsts`` has the code of each token's first character, shape (n_tokens,), ``pairs`` two
        codes of neighbours each, in one number.
        """
        self.firsts, self.pairs = firsts, pairs
        codes, self._of_token = np.unique(firsts, return_inverse=True)
        self._chars = [chr(code) for code in codes.tolist()]
        self._after: dict[tuple[str, Set[str]], Tokens] = {}

    @classmethod
    def of(cls, pieces: Sequence[bytes]) -> Self:
        """Those of a vocabulary; ``pieces`` are the texts of all tokens, in their order."""
        joined = _SEPARATOR.encode().join(pieces).decode("utf-8", "surrogateescape")
        texts = joined.split(_SEPARATOR)
        firsts = np.array([ord(text[0]) if text else _NONE for text in texts], dtype=np.uint32)
        for token in np.flatnonzero((firsts >= _FIRST_PART) & (firsts <= _LAST_PART)).tolist():
            if not first_character(pieces[token]):  # only a part of a character
                firsts[token] = _NONE
        codes = np.frombuffer(joined.encode("utf-32-le", errors="surrogatepass"), np.uint32)
        pairs = np.unique(codes[:-1].astype(np.uint64) << np.uint64(32) | codes[1:])
        return cls(firsts, pairs)

    def after(self, char: str, but: Set[str] = frozenset()) -> Tokens:
        """Ids of the tokens that begin a new word after ``char``, in order.

        Left out are tokens that begin with one of the characters ``but``, whole or in part.
        """
        key = class_of(char), but
        if key not in self._after:
            begins = [
                c != _SEPARATOR
                and is_boundary_between(char, c)
                and not (but and (c in but or partial_character(c, 0) in but))
                for c in self._chars
            ]
            self._after[key] = np.flatnonzero(np.array(begins)[self._of_token])
        return self._after[key]

    def joins(self, char: str) -> frozenset[str]:
        """The characters that follow ``char`` within some token, as the next word's first.

        A character of which a token holds only a part is a surrogate (``partial_character``).
        """
        found = self._joined.get(char, frozenset())
        return found | self._joined.get(partial_character(char, -1), frozenset())

    @cached_property
    def _joined(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for pair in self.pairs.tolist():
            char, next_ = chr(pair >> 32), chr(pair & 0xFFFFFFFF)
            if _SEPARATOR not in (char, next_) and is_boundary_between(char, next_):
                found.setdefault(char, set()).add(next_)
        return {char: frozenset(after) for char, after in found.items()}
