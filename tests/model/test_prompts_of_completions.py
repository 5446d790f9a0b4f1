"""Prompts that clients of a completion send: tokens, and text with a gap to fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("gguf")

import tiny_models as tiny

from cf_local.errors import InputError
from cf_local.llama.source import LlamaSource
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import Infill, RawText, Tokens

PREFIX, SUFFIX = "The quick brown", " jumps over the dog."


@pytest.fixture(scope="module")
def coder(tiny_model: Callable[..., Path]) -> Iterator[LlamaSource]:
    source = LlamaSource("coder", tiny_model("qwen2", "code"), n_ctx=256, n_threads=1)
    yield source
    source.close()


@pytest.fixture(scope="module")
def talker(tiny_model: Callable[..., Path]) -> Iterator[LlamaSource]:
    source = LlamaSource("talker", tiny_model("llama", "spm"), n_ctx=256, n_threads=1)
    yield source
    source.close()


def named(source: LlamaSource, tokens: list[int]) -> str:
    """The tokens as text, with special ones as the vocabulary writes them."""
    vocabulary = source.vocabulary
    return "".join(vocabulary.piece(t).decode() or vocabulary.text(t) for t in tokens)


def test_a_gap_is_marked_by_the_vocabularys_own_tokens(coder: LlamaSource) -> None:
    before, after, here, _ = tiny.GAP
    tokens = coder.encode(Infill(PREFIX, SUFFIX))
    assert named(coder, tokens) == f"{before}{PREFIX}{after}{SUFFIX}{here}"
    assert coder.encode(Infill(PREFIX, ""))[-2:] == [*(coder.vocabulary.gap_tokens or ())][1:]


@pytest.mark.parametrize("typed", [*tiny.GAP, "<|endoftext|>", "<|fim_suffix|><|fim_middle|>"])
def test_marks_that_were_typed_are_text(coder: LlamaSource, typed: str) -> None:
    tokens = coder.encode(Infill(f"a {typed} b", f"c {typed} d"))
    first_special = coder.vocabulary.encode_markup("<|endoftext|>")[0]
    assert [t for t in tokens if t >= first_special] == [*(coder.vocabulary.gap_tokens or ())]
    assert coder.vocabulary.decode(tokens).decode() == f"a {typed} bc {typed} d"


def test_what_fills_a_gap_ends_at_any_end_token(coder: LlamaSource) -> None:
    ends = {coder.vocabulary.text(token) for token in coder.vocabulary.end_tokens.tolist()}
    assert {"<|fim_pad|>", "<|endoftext|>"} <= ends
    answer = Fusion([coder]).answer(Infill(PREFIX, SUFFIX), Settings(max_tokens=20))
    assert answer.text
    assert "<|" not in answer.text


def test_a_source_that_cannot_fill_a_gap_is_named(coder: LlamaSource, talker: LlamaSource) -> None:
    assert talker.vocabulary.gap_tokens is None
    with pytest.raises(InputError, match="talker cannot fill a gap"):
        Fusion([coder, talker]).answer(Infill(PREFIX, SUFFIX))
    with pytest.raises(InputError, match="empty"):
        Fusion([coder]).answer(Infill("", ""))


def test_tokens_are_read_unchanged(coder: LlamaSource, talker: LlamaSource) -> None:
    for source in (coder, talker):
        ids = source.encode(RawText(PREFIX))
        assert source.encode(Tokens(tuple(ids[1:]))) == ids[1:]  # no BOS is added
        fusion, settings = Fusion([source]), Settings(max_tokens=8)
        of_tokens = fusion.answer(Tokens(tuple(ids)), settings)
        assert of_tokens.text == fusion.answer(RawText(PREFIX), settings).text
        special = source.vocabulary.eos_token
        assert special is not None
        assert source.encode(Tokens((special,))) == [special]


def test_tokens_that_are_not_there(coder: LlamaSource) -> None:
    fusion, n_tokens = Fusion([coder]), coder.vocabulary.n_tokens
    for wrong in (n_tokens, -1):
        with pytest.raises(InputError, match=f"coder: token {wrong} does not exist"):
            fusion.answer(Tokens((1, wrong)))
    with pytest.raises(InputError, match="empty"):
        fusion.answer(Tokens(()))
