"""The reference implementation and the tiny models it runs on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")
import reference as ref
import tiny_models as tiny

PROMPT = b"The quick brown fox"

BOUNDARY_CASES = [
    # text before, text after, boundary?
    ("run", "ning", False),
    ("run", " fast", True),
    ("run", "\n", True),
    (" ", "run", False),  # whitespace belongs to the word that follows it
    ("\n", "\n", False),
    ("run", ",", True),
    (",", "run", True),
    ("!", "!", True),
    ("3", "4", False),
    ("B", "2", True),
    ("2", "B", True),
    ("½", "3", False),
    ("don", "'", True),
    ("_", "x", True),
    ("東", "京", True),
    ("京", "a", True),
    ("a", "京", True),
    ("カ", "ー", True),
    ("々", "人", True),
    ("한", "국", False),  # Korean is written with spaces
    ("ก", "ข", True),
    ("ก", "\u0e31", False),  # a Thai vowel sign is a mark
    ("\u0e31", "ก", True),
    ("๑", "๒", True),  # digits of an unspaced script belong to it
    ("e", "\u0301", False),
    ("\u0301", "e", False),
    ("!", "\u0301", False),
    ("👍", "🏽", False),
    ("🏽", "👍", True),
    ("👩", "\u200d", False),
    ("\u200d", "💻", False),
    ("\u200d", " ", False),
    ("❤", "\ufe0f", False),
    ("\ufe0f", "❤", True),
    ("a", "\u200b", True),  # a zero-width space is no whitespace in Unicode, but "everything else"
    ("a", "\u00a0", True),
    ("\u3000", "a", False),
]


@pytest.mark.parametrize(("before", "after", "expected"), BOUNDARY_CASES)
def test_word_boundary(before: str, after: str, expected: bool) -> None:
    assert ref.is_word_boundary(before[-1], after[0]) is expected
    data = (before + after).encode()
    assert (len(before.encode()) in ref.boundaries(data)) is expected


@pytest.mark.parametrize(
    ("data", "chars"),
    [
        (b"", []),
        (b"a\xc3\xa9", [(0, "a"), (1, "é")]),
        (b"a\xc3", [(0, "a"), (1, None)]),
        (b"\xc3a", [(0, "\ufffd"), (1, "a")]),
        (b"\x80\x80", [(0, "\ufffd"), (1, "\ufffd")]),
        (b"\xf0\x9f\x91", [(0, None)]),
        (b"\xf0\x9f\x91x", [(0, "\ufffd"), (3, "x")]),
        ("👍".encode() + b"\xff", [(0, "👍"), (4, "\ufffd")]),
    ],
)
def test_characters_of_good_broken_and_unfinished_bytes(
    data: bytes, chars: list[tuple[int, str | None]]
) -> None:
    assert ref.characters(data) == chars


def test_an_unknown_next_character_is_no_boundary() -> None:
    assert ref.boundaries(b"cat \xf0") == [3]
    assert ref.boundaries(b"cat\xf0") == []
    assert not ref.is_whole_character(b"cat\xf0\x9f", 4)
    assert not ref.is_whole_character(b"cat\xf0\x9f", 5)
    assert ref.is_whole_character(b"cat\xf0\x9f", 3)


def test_context_is_the_last_four_words_with_their_whitespace() -> None:
    assert ref.last_words(b"One two three, four\n\n five") == b" three, four\n\n five"
    assert ref.last_words(b"One two") == b"One two"
    assert ref.last_words(b"") == b""


# --- Models ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def trio(folder: Path) -> Iterator[list[ref.RefSource]]:
    """Three architectures, three vocabularies that often agree on words."""
    small = tiny.bpe_vocab(n_merges=60)
    paths = [
        tiny.make_model(folder / "a.gguf", "llama", tiny.bpe_vocab(), seed=1, lean=9.0),
        tiny.make_model(folder / "b.gguf", "gpt2", tiny.spm_vocab(), seed=2, lean=9.0),
        tiny.make_model(folder / "c.gguf", "mamba", small, seed=3, lean=9.0),
    ]
    sources = [ref.RefSource(path, n_ctx=512) for path in paths]
    yield sources
    for source in sources:
        source.close()


def prompts_of(sources: list[ref.RefSource]) -> list[list[int]]:
    return [s.encode(PROMPT) for s in sources]


@pytest.mark.parametrize("vocab", ["bpe", "spm"])
@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
def test_every_architecture_loads_and_its_text_varies(
    folder: Path, arch: tiny.Architecture, vocab: str
) -> None:
    words = tiny.bpe_vocab() if vocab == "bpe" else tiny.spm_vocab()
    path = tiny.make_model(folder / f"{arch}-{vocab}.gguf", arch, words, seed=1, eog_bias=-20)
    source = ref.RefSource(path, n_ctx=128)
    assert set(source.eog) == words.eog_ids
    ordinary = [i for i, kind in enumerate(words.types) if kind in (tiny.NORMAL, tiny.BYTE)]
    assert [source.piece(i) for i in ordinary] == [words.pieces[i] for i in ordinary]

    answer = ref.fuse([source], [source.encode(PROMPT)], ref.RefSettings(max_tokens=20))
    assert len(set(answer.tokens[0])) > 3
    tokens = source.encode(PROMPT) + answer.tokens[0]
    grown = source.logits(tokens, 1)
    fresh = source.logits(tokens[:5], 1), source.logits(tokens, len(tokens))
    np.testing.assert_allclose(fresh[1][-1], grown[0], atol=5e-3)
    np.testing.assert_allclose(fresh[1][4], fresh[0][0], atol=5e-3)
    source.close()


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_weight_types_template_and_reproducible_files(folder: Path, kind: tiny.WeightType) -> None:
    vocab = tiny.bpe_vocab()
    paths = [
        tiny.make_model(
            folder / f"{n}-{kind}.gguf", "qwen2", vocab, seed=5, weight_type=kind,
            chat_template="{{ messages }}",
        )
        for n in "ab"
    ]  # fmt: skip
    assert paths[0].read_bytes() == paths[1].read_bytes()
    source = ref.RefSource(paths[0], n_ctx=64)
    assert ref.fuse([source], [[1]], ref.RefSettings(max_tokens=4)).tokens[0]
    source.close()


def test_broken_files_are_refused(folder: Path) -> None:
    whole = tiny.make_model(folder / "whole.gguf", "llama", tiny.bpe_vocab(), seed=1)
    for path in (
        tiny.make_truncated(folder / "cut.gguf", whole),
        tiny.make_truncated(folder / "head.gguf", whole, keep=0.01),
        tiny.make_not_gguf(folder / "page.gguf"),
        tiny.make_vocab_only(folder / "vocab.gguf", tiny.spm_vocab()),
    ):
        with pytest.raises(ValueError, match="cannot load"):
            ref.RefSource(path)


def test_an_embedding_model_loads_as_a_model_but_is_no_source(folder: Path) -> None:
    import llama_cpp.llama_cpp as lc

    path = tiny.make_embedding_model(folder / "bert.gguf")
    model = lc.llama_model_load_from_file(str(path).encode(), lc.llama_model_default_params())
    assert model
    assert lc.llama_model_n_embd(model) == 32
    lc.llama_model_free(model)


# --- The method -----------------------------------------------------------------------------


def test_no_space_prefix_and_no_byte_lost(trio: list[ref.RefSource]) -> None:
    for source in trio:
        for text in (b"fox", b" fox", b"\n\nThen", "é👍🏽".encode(), b"a\xf0\x9f b\xff"):
            assert source.text(source.encode(text)) == text


def test_one_source_is_plain_greedy_decoding(trio: list[ref.RefSource]) -> None:
    source, prompt = trio[0], trio[0].encode(PROMPT)
    answer = ref.fuse([source], [prompt], ref.RefSettings(max_tokens=30))
    greedy: list[int] = []
    while len(greedy) < len(answer.tokens[0]):
        greedy.append(int(source.logits(prompt + greedy, 1)[-1].argmax()))
    assert answer.tokens[0] == greedy
    assert answer.text == source.text(greedy)
    assert all(step.scores is None for step in answer.steps)


def test_a_source_fused_with_itself_is_itself(trio: list[ref.RefSource]) -> None:
    prompts = prompts_of(trio)
    single = ref.fuse(trio, prompts, ref.RefSettings(mode="single", single=0, max_tokens=20))
    twice = ref.fuse([trio[0]] * 2, [prompts[0]] * 2, ref.RefSettings(max_tokens=20))
    assert twice.text == single.text
    assert all(step.scores is None for step in twice.steps)


@pytest.mark.parametrize("segments", ["aligned", "shortest"])
@pytest.mark.parametrize("score", ["perplexity", "nll", "bits_per_byte"])
def test_steps_add_up_to_the_answer(trio: list[ref.RefSource], segments: str, score: str) -> None:
    settings = ref.RefSettings(segments=segments, score=score, max_tokens=24)  # type: ignore[arg-type]
    answer = ref.fuse(trio, prompts_of(trio), settings)
    winners = [step.candidates[step.winner] for step in answer.steps]
    assert answer.text == b"".join(c.text for c in winners)
    assert all(s.text(t) == answer.text for s, t in zip(trio, answer.tokens, strict=True))
    assert all(c.text or c.ends for step in answer.steps for c in step.candidates)
    assert any(step.scores is not None for step in answer.steps)
    for step in answer.steps:
        if step.scores is not None and step.means is not None:
            assert step.scores.shape == (3, len(step.candidates))
            assert step.means[step.winner] == step.means.min()
    assert winners[-1].ends == (answer.finish_reason == "stop")


def test_the_first_score_by_hand(trio: list[ref.RefSource]) -> None:
    prompts = prompts_of(trio)
    answer = ref.fuse(trio, prompts, ref.RefSettings(score="perplexity", max_tokens=24))
    step = answer.steps[0]
    assert step.scores is not None
    for k, source in enumerate(trio):
        for j, candidate in enumerate(step.candidates):
            if k in candidate.proposers or candidate.ends:
                continue
            tokens, total = source.encode(candidate.text), 0.0
            for i, token in enumerate(tokens):
                row = source.logits(prompts[k] + tokens[:i], 1)[-1]
                total -= math.log(np.exp(row[token]) / np.exp(row).sum())
            assert step.scores[k, j] == pytest.approx(math.exp(total / len(tokens)), rel=1e-2)


def test_ends_of_drafts_are_common_boundaries(trio: list[ref.RefSource]) -> None:
    answer = ref.fuse(trio, prompts_of(trio), ref.RefSettings(max_tokens=24))
    response = b""
    for step in answer.steps:
        for candidate in step.candidates:
            for source in trio:
                tokens = source.encode_in_context(response, candidate.text)
                assert source.text(tokens) == candidate.text
        response += step.candidates[step.winner].text


def test_an_eager_ending_belongs_to_the_last_word(folder: Path) -> None:
    vocab = tiny.bpe_vocab()
    path = tiny.make_model(folder / "end.gguf", "llama", vocab, seed=1, eog_bias=9.0)
    source = ref.RefSource(path, n_ctx=128)
    answer = ref.fuse([source], [source.encode(PROMPT)], ref.RefSettings(max_tokens=50))
    assert answer.finish_reason == "stop"
    assert answer.steps[-1].candidates[0].ends
    after = source.logits(source.encode(PROMPT) + answer.tokens[0], 1)[-1]
    terms = source.nlls(source.encode(PROMPT), answer.tokens[0], ends=True)
    summed = np.exp(after[source.eog]).sum() / np.exp(after).sum()
    assert len(terms) == len(answer.tokens[0]) + 1
    assert terms[-1] == pytest.approx(-math.log(summed), abs=1e-2)
    source.close()


def test_without_a_boundary_the_draft_is_cut_at_the_limit(folder: Path) -> None:
    only_a = tiny.make_model(
        folder / "aaa.gguf", "llama", tiny.bpe_vocab(), seed=1, eog_bias=-60,
        bias=lambda piece: 0.0 if piece == b"a" else -60.0,
    )  # fmt: skip
    source = ref.RefSource(only_a, n_ctx=128)
    answer = ref.fuse([source], [source.encode(b"a")], ref.RefSettings(max_tokens=40))
    assert [len(s.candidates[0].text) for s in answer.steps] == [32, 8]
    assert answer.text == b"a" * 40
    assert answer.finish_reason == "length"
    source.close()


def test_weights_and_ties(trio: list[ref.RefSource]) -> None:
    two = [ref.RefCandidate(b" a", False, (0,)), ref.RefCandidate(b" b", False, (1,))]
    scores = np.array([[2.0, 3.0], [4.0, 3.0]])
    by_perplexity = ref.RefSettings(score="perplexity")
    equal = ref.rerank(two, scores, (1.0, 1.0), by_perplexity)
    assert equal.winner == 0
    assert equal.near_tie
    second = ref.rerank(two, scores, (1.0, 1.0), replace(by_perplexity, weights=(0.0, 1.0)))
    assert second.winner == 1
    assert second.score_margin == pytest.approx(math.log(4 / 3))
    assert not second.near_tie
    assert ref.rerank(two, scores, (1.0, 1e-4), ref.RefSettings(weights=(0.0, 1.0))).near_tie


def test_reranking_whole_answers(trio: list[ref.RefSource]) -> None:
    prompts = prompts_of(trio)
    rerank = ref.fuse(trio, prompts, ref.RefSettings(mode="rerank", max_tokens=12))
    both = ref.fuse(trio, prompts, ref.RefSettings(mode="cool+r", max_tokens=12))
    cool = ref.fuse(trio, prompts, ref.RefSettings(mode="cool", max_tokens=12))
    assert len(rerank.answers) == 3
    assert rerank.text in [a.text for a in rerank.answers]
    assert [a.text for a in both.answers] == [a.text for a in rerank.answers] + [cool.text]
    step = both.steps[0]
    assert step.means is not None
    assert both.text == step.candidates[int(step.means.argmin())].text


def test_score_kinds() -> None:
    assert ref.score_of([1.0, 3.0], 4, "perplexity") == pytest.approx(math.exp(2.0))
    assert ref.score_of([1.0, 3.0], 4, "nll") == 2.0
    assert ref.score_of([1.0, 3.0], 4, "bits_per_byte") == pytest.approx(1 / math.log(2))
    assert ref.score_of([1.0], 0, "bits_per_byte") == pytest.approx(1 / math.log(2))
