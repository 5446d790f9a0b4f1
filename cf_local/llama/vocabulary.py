"""Text to tokens and back, byte for byte."""

import ctypes
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from cf_local.files import cache_root, replacing
from cf_local.llama.library import lib, llama_cpp
from cf_local.llama.model import LlamaModel
from cf_local.llama.state_key import identity_of, key_of
from cf_local.method.word_starts import WordStarts

# Runs of characters that a tokenizer may spoil (stray bytes, U+2581), and of all others.
_RUNS = re.compile("[\udc80-\udcff\u2581]+|[^\udc80-\udcff\u2581]+")

# Bytes that llama.cpp reads as a character beyond the last one of Unicode: it would then end the
# process with a C++ exception (unicode_regex_split), which nothing on this side can catch.
_FATAL = re.compile(rb"\xf4[\x90-\xbf]|[\xf5-\xf7]")

_DAMAGED = (OSError, ValueError, KeyError, TypeError, OverflowError, EOFError, BadZipFile)
_log = logging.getLogger(__name__)


class LlamaVocabulary:
    """The vocabulary of an open model; keeps the model alive."""

    def __init__(self, model: LlamaModel) -> None:
        self._model = model
        self._handle = model.vocabulary_handle
        self._pieces: dict[int, bytes] = {}
        self.n_tokens = int(lib.llama_vocab_n_tokens(self._handle))

    @property
    def handle(self) -> Any:
        """llama.cpp's handle of the vocabulary."""
        return self._handle

    @cached_property
    def end_tokens(self) -> npt.NDArray[np.intp]:
        """Ids of all end-of-generation tokens, shape (n_end_tokens,)."""
        if self._model.end_tokens:
            return np.array(self._model.end_tokens, np.intp)
        # Asking for each takes 0.2 s with a vocabulary of 150,000.
        is_end = [lib.llama_vocab_is_eog(self._handle, t) for t in range(self.n_tokens)]
        return np.flatnonzero(is_end)

    @cached_property
    def end_token_set(self) -> frozenset[int]:
        """The same ids, for fast lookup."""
        return frozenset(self.end_tokens.tolist())

    @cached_property
    def word_starts(self) -> WordStarts:
        """Which tokens begin a new word; saved, as it takes 0.3 s with a vocabulary of 150,000."""
        return _known_word_starts(self._model.path, self.n_tokens, self._all_pieces)

    def _all_pieces(self) -> list[bytes]:
        """The bytes of all tokens; faster than ``piece`` of each."""
        size = 1024
        buffer = ctypes.create_string_buffer(size)
        to_piece, handle = lib.llama_token_to_piece, self._handle
        sizes = (to_piece(handle, token, buffer, size, 0, False) for token in range(self.n_tokens))
        return [
            buffer.raw[:n] if n >= 0 else self._read_piece(token) for token, n in enumerate(sizes)
        ]

    @property
    def bos_token(self) -> int | None:
        """The id of the beginning-of-text token; None if there is none."""
        return _token_or_none(lib.llama_vocab_bos(self._handle))

    @property
    def eos_token(self) -> int | None:
        """The id of the end-of-text token; None if there is none."""
        return _token_or_none(lib.llama_vocab_eos(self._handle))

    def special_token(self, name: str) -> int | None:
        """The special token written as ``name``; None if there is none."""
        tokens = self.encode_markup(name) if name else []
        is_one = len(tokens) == 1 and not self.piece(tokens[0])
        return tokens[0] if is_one and self.text(tokens[0]) == name else None

    @cached_property
    def gap_tokens(self) -> tuple[int, int, int] | None:
        """What marks the text before a gap, the text after it, and the gap; None if unknown."""
        find = (lib.llama_vocab_fim_pre, lib.llama_vocab_fim_suf, lib.llama_vocab_fim_mid)
        before, after, here = (_token_or_none(each(self._handle)) for each in find)
        if before is None or after is None or here is None:
            return None
        return before, after, here

    @property
    def adds_bos(self) -> bool:
        """Whether a text of this vocabulary starts with the beginning-of-text token."""
        return bool(lib.llama_vocab_get_add_bos(self._handle))

    @property
    def adds_space(self) -> bool:
        """Whether a text of this vocabulary starts with a space (SentencePiece's dummy prefix)."""
        # Metadata is read from the file: our override of this key does not show here.
        wanted = self._model.metadata("tokenizer.ggml.add_space_prefix") != "false"
        return wanted and lib.llama_vocab_type(self._handle) == lib.LLAMA_VOCAB_TYPE_SPM

    def encode(self, text: bytes) -> list[int]:
        """Tokens of ``text`` as ordinary text: no special tokens, no space prefix.

        Text that llama.cpp cannot restore (bytes that are not UTF-8; U+2581, which SentencePiece
        takes for a space) becomes byte tokens where the vocabulary has them.
        """
        tokens = self._encode_exactly(text)
        if tokens is not None:
            return tokens
        runs = _RUNS.findall(text.decode("utf-8", errors="surrogateescape"))
        return [token for run in runs for token in self._encode_run(run)]

    def encode_markup(self, text: str) -> list[int]:
        """Tokens of a template's output, special tokens parsed."""
        return self._tokenize(text.encode(), parse_special=True)

    def decode(self, tokens: list[int]) -> bytes:
        """The bytes of a sequence of tokens."""
        return b"".join(map(self.piece, tokens))

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; empty for control tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._read_piece(token)
        return piece

    def text(self, token: int | None) -> str:
        """A token as the vocabulary writes it, including special tokens; empty for None."""
        if token is None:
            return ""
        return str(lib.llama_vocab_get_text(self._handle, token).decode("utf-8", errors="replace"))

    def attributes(self, token: int) -> int:
        """llama.cpp's attribute bits of a token (LLAMA_TOKEN_ATTR_*)."""
        return int(lib.llama_vocab_get_attr(self._handle, token))

    @cached_property
    def _byte_tokens(self) -> dict[bytes, int]:
        singles = ((self.piece(token), token) for token in range(self.n_tokens))
        return {piece: token for piece, token in singles if len(piece) == 1}

    def _encode_run(self, run: str) -> list[int]:
        """Tokens of one run of ``_RUNS``."""
        raw = run.encode("utf-8", errors="surrogateescape")
        tokens = self._encode_exactly(raw)
        if tokens is not None:
            return tokens
        return [token for i in range(len(raw)) for token in self._encode_byte(raw[i : i + 1])]

    def _encode_exactly(self, text: bytes) -> list[int] | None:
        """Tokens of ``text``; None if llama.cpp cannot restore its bytes."""
        if len(text) > 1 and _FATAL.search(text):
            return None
        tokens = self._tokenize(text, parse_special=False)
        return tokens if self.decode(tokens) == text else None

    def _encode_byte(self, byte: bytes) -> list[int]:
        token = self._byte_tokens.get(byte)
        return self._tokenize(byte, parse_special=False) if token is None else [token]

    def _tokenize(self, text: bytes, *, parse_special: bool) -> list[int]:
        n_max = len(text) + 1
        buffer = (lib.llama_token * n_max)()
        n = lib.llama_tokenize(self._handle, text, len(text), buffer, n_max, False, parse_special)
        if n < 0:  # more tokens than bytes: normalizing vocabularies may do that
            buffer = (lib.llama_token * -n)()
            n = lib.llama_tokenize(self._handle, text, len(text), buffer, -n, False, parse_special)
        return list(buffer[:n])

    def _read_piece(self, token: int) -> bytes:
        size = 64
        buffer = ctypes.create_string_buffer(size)
        n = lib.llama_token_to_piece(self._handle, token, buffer, size, 0, False)
        if n < 0:
            buffer = ctypes.create_string_buffer(-n)
            n = lib.llama_token_to_piece(self._handle, token, buffer, -n, 0, False)
        return buffer.raw[:n]


def open_vocabulary(path: Path) -> LlamaVocabulary:
    """The vocabulary of a GGUF file; its weights are not read and need not be there."""
    return LlamaVocabulary(LlamaModel(path, vocab_only=True))


def _known_word_starts(model: Path, n_tokens: int, pieces: Callable[[], list[bytes]]) -> WordStarts:
    """The word starts of a model's vocabulary, from the cache folder, or made and saved.

    The files are only a cache: what is missing or damaged is made again, and failures are logged.
    """
    try:
        key = key_of(identity_of(model), f"word starts {llama_cpp.__version__} {n_tokens}")
    except OSError:  # the file was moved away
        return WordStarts.of(pieces())
    file = cache_root() / "vocabularies" / f"{key}.npz"
    try:
        with suppress(FileNotFoundError), np.load(file, allow_pickle=False) as saved:
            found = WordStarts(saved["firsts"], saved["pairs"])
            if found.firsts.shape == (n_tokens,):
                return found
    except _DAMAGED as error:
        _log.info("%s cannot be used: %s", file, error)
    found = WordStarts.of(pieces())
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(file, private=True) as new, new.open("wb") as stream:
            np.savez(stream, firsts=found.firsts, pairs=found.pairs)
    except OSError as error:
        _log.info("%s cannot be written: %s", file, error)
    return found


def _token_or_none(token: int) -> int | None:
    return None if token == lib.LLAMA_TOKEN_NULL else int(token)
