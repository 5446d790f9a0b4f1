"""The real vocabularies: which there are, where they lie, and each opened once."""

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cf_local.llama.vocabulary import LlamaVocabulary, open_vocabulary

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("CF_LOCAL_VOCABULARIES", ROOT / ".cache" / "llama.cpp-models"))

GENERATIVE = (
    "aquila",
    "baichuan",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "gpt-neox",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "phi-3",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
)
# Encoders: they turn text into vectors, write none, and their vocabularies lose case or spaces.
ENCODERS = ("bert-bge", "nomic-bert-moe")
WITHOUT_REFERENCE = ("aquila", "baichuan", "gpt-neox")


def path_of(name: str) -> Path:
    return FOLDER / f"ggml-vocab-{name}.gguf"


def must_be_there() -> bool:
    """Whether absent vocabularies are a failure: in CI, and in the environment of dev.py."""
    return bool(os.environ.get("CI")) or Path(sys.prefix).resolve() == ROOT / ".venv"


class Memoized:
    """A vocabulary that remembers what it encoded: all pairs of sources ask for the same texts."""

    def __init__(self, vocabulary: LlamaVocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[bytes, tuple[int, ...]] = {}
        self.piece = vocabulary.piece
        self.n_tokens = vocabulary.n_tokens
        self.word_starts = vocabulary.word_starts

    def encode(self, text: bytes) -> Sequence[int]:
        tokens = self._known.get(text)
        if tokens is None:
            tokens = self._known[text] = tuple(self._vocabulary.encode(text))
        return tokens


@cache
def vocabulary(name: str) -> LlamaVocabulary:
    return open_vocabulary(path_of(name))


@cache
def memoized(name: str) -> Memoized:
    return Memoized(vocabulary(name))
