"""Tokens of a segment in the context of the words before it.

The last few committed words are tokenized together with the segment, and their tokens dropped. This
takes constant time and is right for SentencePiece's space prefix and for merges that look back
(paper section 3.2; method: "Word boundary"). Where the segment continues a half-written word, so
that the joint tokens do not start with those of the context, it is tokenized on its own.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

from cf_local.method.boundary import last_words

N_CONTEXT_WORDS = 4
_MEMO_SIZE = 4096
_LONGEST_REMEMBERED = 1024  # bytes; thousands of longer segments would fill the memory


class Vocabulary(Protocol):
    """Text to tokens and back, byte for byte."""

    def encode(self, text: bytes) -> Sequence[int]:
        """Tokens of ``text`` as ordinary text: no special tokens, no space prefix."""

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; empty for control tokens."""


class ContextEncoder:
    """Tokenizes segments after a response that grows by ``append``. Memoized."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._context = b""
        self._encode_context = lru_cache(_MEMO_SIZE)(
            lambda context: tuple(vocabulary.encode(context))
        )
        self._remembered = lru_cache(_MEMO_SIZE)(self._encode_after)

    def append(self, segment: bytes) -> None:
        """The response has grown by ``segment``."""
        self._context = last_words(self._context + segment, N_CONTEXT_WORDS)

    def reset(self) -> None:
        """The response is empty again."""
        self._context = b""

    def encode(self, segment: bytes) -> tuple[int, ...]:
        """Tokens of ``segment`` after the response."""
        return self._encode(self._context, segment)

    def encode_after(self, text: bytes, segment: bytes) -> tuple[int, ...]:
        """Tokens of ``segment`` after the response and ``text``."""
        return self._encode(last_words(self._context + text, N_CONTEXT_WORDS), segment)

    def token_ends(self, segment: bytes) -> frozenset[int]:
        """Byte offsets in ``segment`` at which its tokens end."""
        return frozenset(accumulate(len(self._vocabulary.piece(t)) for t in self.encode(segment)))

    def _encode(self, context: bytes, segment: bytes) -> tuple[int, ...]:
        is_short = len(segment) <= _LONGEST_REMEMBERED
        return (self._remembered if is_short else self._encode_after)(context, segment)

    def _encode_after(self, context: bytes, segment: bytes) -> tuple[int, ...]:
        alone = self._encode_context(context)
        joint = tuple(self._vocabulary.encode(context + segment))
        if joint[: len(alone)] == alone:
            return joint[len(alone) :]
        return tuple(self._vocabulary.encode(segment))


def n_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix of two token sequences."""
    n_shorter = min(len(one), len(other))
    if one[:n_shorter] == other[:n_shorter]:
        return n_shorter
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
