"""Train the vocabulary of a source on its own text: SentencePiece BPE, or byte-level BPE."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field

import sentencepiece
from gguf import TokenType
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from .sources import Source

# One token per digit, at most with the blank before it. The runtime's own splitting may be coarser,
# but no merge of two digits exists for it to find.
_SPLIT = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "qwen2": r"'s|'t|'re|'ve|'m|'ll|'d|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
}


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a source in the order of their ids, as the GGUF file stores them."""

    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)  # SentencePiece only
    merges: list[str] = field(default_factory=list)  # byte-level BPE only

    def id_of(self, token: str) -> int:
        """The id of a token given as the file stores it."""
        return self.tokens.index(token)


def train_vocabulary(source: Source, texts: list[str]) -> Vocabulary:
    """Train the vocabulary of ``source`` on ``texts``; the same texts give the same vocabulary."""
    return (
        _sentencepiece(source, texts) if source.tokenizer == "spm" else _byte_level(source, texts)
    )


def _sentencepiece(source: Source, texts: list[str]) -> Vocabulary:
    stored = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=stored,
        model_type="bpe",
        vocab_size=source.vocabulary_size,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        control_symbols=list(source.controls[3:]),
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=stored.getvalue())
    ids = range(pieces.get_piece_size())
    return Vocabulary(
        tokens=[pieces.id_to_piece(i) for i in ids],
        types=[_piece_type(pieces, i) for i in ids],
        scores=[pieces.get_score(i) for i in ids],
    )


def _piece_type(pieces: sentencepiece.SentencePieceProcessor, i: int) -> int:
    if pieces.is_unknown(i):
        return int(TokenType.UNKNOWN)
    if pieces.is_control(i):
        return int(TokenType.CONTROL)
    return int(TokenType.BYTE if pieces.is_byte(i) else TokenType.NORMAL)


def _byte_level(source: Source, texts: list[str]) -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT[source.tokenizer]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=source.vocabulary_size - len(source.controls),
        show_progress=False,
        min_frequency=3,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = tokenizer.get_vocab()
    tokens = [*sorted(ids, key=lambda token: ids[token]), *source.controls]
    return Vocabulary(
        tokens=tokens,
        types=[
            int(TokenType.CONTROL if t in source.controls else TokenType.NORMAL) for t in tokens
        ],
        merges=_merges(tokenizer),
    )


def _merges(tokenizer: Tokenizer) -> list[str]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
