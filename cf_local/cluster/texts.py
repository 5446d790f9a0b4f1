"""What a source on another node says of texts: answered next to the engine where that is possible.

Tokens are counted and compared many times in a step. So the vocabulary of the same file is opened
here without its weights. Where this machine does not have the file, the actor answers.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, Protocol

from cf_local.method.tokenization import Vocabulary
from cf_local.types import Prompt

_MEMO_SIZE = 4096


class Texts(Protocol):
    """The part of a source that needs only its vocabulary."""

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Text to tokens and back; None where that is not here."""

    def n_tokens(self, text: str) -> int:
        """Tokens of a text on its own (see Source.n_tokens)."""

    def n_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt (see Source.n_prompt_tokens)."""

    def joins(self, char: str) -> frozenset[str]:
        """What follows a character within a token (see Source.joins)."""

    def tokenize(self, text: str, *, adds_bos: bool) -> list[int]:
        """The tokens of a raw text (see OwnTokens.tokenize)."""

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The text of tokens (see OwnTokens.detokenize)."""

    def close(self) -> None:
        """Free the memory. May be called twice."""


class RemoteTexts:
    """Asks the actor, and remembers what it said."""

    vocabulary = None

    def __init__(self, ask: Callable[..., Any]) -> None:
        """``ask`` calls a method of the source in the actor: its name, and the arguments."""
        self._ask = ask
        self.joins = cache(lambda char: ask("joins", char))
        self.n_tokens = lru_cache(_MEMO_SIZE)(lambda text: ask("n_tokens", text))

    def n_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt (see Source.n_prompt_tokens)."""
        return int(self._ask("n_prompt_tokens", prompt))

    def tokenize(self, text: str, *, adds_bos: bool) -> list[int]:
        """The tokens of a raw text (see OwnTokens.tokenize)."""
        return list(self._ask("tokenize", text, adds_bos=adds_bos))

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The text of tokens (see OwnTokens.detokenize)."""
        return bytes(self._ask("detokenize", list(tokens)))

    def close(self) -> None:
        """There is nothing to free here."""
