"""What a fusion thinks of a text, against the sum over tokens of the slow reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest

pytest.importorskip("gguf")

import numpy as np
import reference as ref
import tiny_models as tiny

import cf_local
from cf_local.builtin.problems import generate
from cf_local.errors import Cancelled, ContextError, InputError
from cf_local.evaluation.likelihood import NOTHING, Judge, Opening, write
from cf_local.evaluation.windows import windows
from cf_local.llama.source import LlamaSource
from cf_local.method.boundary import words_of
from cf_local.method.session import Session
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import Answer, RawText, ScoreKind, Step, Tokens, chat

KINDS = (("llama", "spm-glued"), ("qwen2", "bpe"), ("mamba", "split"))
WEIGHTS = (1.0, 2.0, 3.0)
TEXT = tiny.SAMPLE_TEXT * 4
N_CTX = 160
NOISE = 0.01  # nats per token by which logits vary with the shape of a batch


@dataclass(frozen=True)
class Trio:
    fusion: Fusion
    small: Fusion
    references: list[ref.RefSource]

    def log_likelihood(self, context: str, text: str) -> float:
        """Computed with the reference alone."""
        nlls_nats = []
        for (_, kind), source in zip(KINDS, self.references, strict=True):
            spm = kind == "spm-glued"  # begins a text with BOS and a space
            prompt = [1, *source.encode(f" {context}".encode())] if spm else []
            prompt = prompt or source.encode(context.encode())
            tokens = source.encode(text.encode())
            nlls_nats.append(sum(source.nlls(prompt, tokens, ends=False)))
        return -float(np.average(nlls_nats, weights=WEIGHTS))


@pytest.fixture(scope="module")
def trio(tiny_model: Callable[..., Path]) -> Iterator[Trio]:
    with ExitStack() as stack:
        paths = [tiny_model(arch, kind, seed=7 + i) for i, (arch, kind) in enumerate(KINDS)]
        fusions = [
            stack.enter_context(
                Fusion([LlamaSource(p.stem, p, n_ctx=n, n_threads=1) for p in paths])
            )
            for n in (2048, N_CTX)
        ]
        references = [ref.RefSource(path, name=path.stem) for path in paths]
        for source in references:
            stack.callback(source.close)
        yield Trio(*fusions, references)


def sessions_of(fusion: Fusion) -> list[Session]:
    return [source.sessions[0] for source in fusion.sources]


def by_name(fusion: Fusion) -> dict[str, float]:
    return {s.info.name: w for s, w in zip(fusion.sources, WEIGHTS, strict=True)}


def judge_of(fusion: Fusion) -> Judge:
    return Judge(fusion, Settings(score="nll", weights=by_name(fusion)))


def after(context: str) -> Opening:
    return Opening(RawText(context))


def test_continuations_of_one_context_are_the_mean_of_the_sources_sums(trio: Trio) -> None:
    texts = [" fox jumps", " dog sleeps over the hill.", " 東京 👍🏽", " fox jumps", ""]
    found = judge_of(trio.fusion).log_likelihoods(after("The quick brown"), texts)
    expected = [trio.log_likelihood("The quick brown", text) if text else 0 for text in texts]
    assert found == pytest.approx(expected, abs=10 * NOISE)
    assert len(set(found)) == len(texts) - 1


def test_the_mixture_is_the_mean_of_the_sources_probabilities(trio: Trio) -> None:
    texts = [" fox jumps", " dog sleeps"]
    alone = np.array(
        [
            Judge(trio.fusion, Settings(mode="single", only=name)).log_likelihoods(
                after("The quick brown"), texts
            )
            for name in by_name(trio.fusion)
        ]
    )
    found = Judge(trio.fusion, Settings(weights=by_name(trio.fusion))).log_likelihoods(
        after("The quick brown"), texts
    )
    shares = np.array(WEIGHTS) / sum(WEIGHTS)
    assert np.exp(found) == pytest.approx(shares @ np.exp(alone), rel=0.1)


def test_a_continuation_of_hundreds_of_tokens(trio: Trio) -> None:
    (found,) = judge_of(trio.fusion).log_likelihoods(after("The quick brown"), [TEXT])
    assert min(len(source.encode(TEXT.encode())) for source in trio.references) > 400
    assert found == pytest.approx(trio.log_likelihood("The quick brown", TEXT), rel=1e-3)


def test_many_candidates_at_once_are_what_each_is_alone(trio: Trio) -> None:
    judge = judge_of(trio.fusion)
    texts = [f" {n} shells for {n + 1} dollars" * (1 + n % 7) for n in range(50)]
    together = judge.log_likelihoods(after("She sells"), texts)
    alone = [judge.log_likelihoods(after("She sells"), [text])[0] for text in texts]
    assert together == pytest.approx(alone, rel=1e-3)


def test_a_text_longer_than_the_context_is_read_in_windows(trio: Trio) -> None:
    parts = windows(TEXT, 0, sessions_of(trio.small), [N_CTX] * 3)
    assert len(parts) > 4
    expected = sum(trio.log_likelihood(part.context or "\n", part.text) for part in parts)
    (found,) = judge_of(trio.small).log_likelihoods(after(""), [TEXT])
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_end_of_a_context_that_is_too_long_is_read(trio: Trio) -> None:
    (found,) = judge_of(trio.small).log_likelihoods(after(TEXT), [" The quick brown fox"])
    text = TEXT + " The quick brown fox"
    ((context, part),) = windows(text, len(TEXT), sessions_of(trio.small), [N_CTX] * 3)
    assert part == " The quick brown fox"
    assert len(context) > 80
    assert found == pytest.approx(trio.log_likelihood(context, part), abs=10 * NOISE)


def test_without_a_context_a_text_begins_a_line(trio: Trio) -> None:
    judge = judge_of(trio.fusion)
    (found,) = judge.log_likelihoods(after(""), ["The quick brown fox"])
    assert found == pytest.approx(trio.log_likelihood("\n", "The quick brown fox"), abs=10 * NOISE)
    assert judge.log_likelihoods(Opening(NOTHING), ["The quick brown fox"]) == [found]


def test_single_is_one_source_without_weights(trio: Trio) -> None:
    name = trio.fusion.sources[1].info.name
    judge = Judge(trio.fusion, Settings(mode="single", only=name, weights=by_name(trio.fusion)))
    (found,) = judge.log_likelihoods(after("The quick"), [" brown fox"])
    source = trio.references[1]
    terms = source.nlls(source.encode(b"The quick"), source.encode(b" brown fox"), ends=False)
    assert found == pytest.approx(-sum(terms), abs=4 * NOISE)


def test_the_fused_answer_begins_with_its_own_beginnings(trio: Trio) -> None:
    opening = after("The quick brown")
    settings = Settings(weights=by_name(trio.fusion), max_tokens=40, repetition_guard=False)
    steps = [e.text for e in trio.fusion.stream(opening.prompt, settings) if isinstance(e, Step)]
    whole = "".join(steps[:4])
    cut = next(n for n in range(1, len(whole)) if whole[n - 1 : n + 1].isalpha())
    texts = [whole, steps[0], "", whole[:cut], whole + "§", "nonsense"]
    judge = Judge(trio.fusion, settings)
    assert judge.writes(opening, texts) == [True, True, True, False, False, False]
    single = Judge(trio.fusion, Settings(mode="single"))
    alone = trio.fusion.answer(opening.prompt, Settings(mode="single", max_tokens=3)).text
    assert alone != whole[: len(alone)]
    assert single.writes(opening, [whole]) == [False]


def test_a_continuation_that_does_not_fit_after_a_chat_is_an_error(trio: Trio) -> None:
    with pytest.raises(ContextError, match="does not fit after a prompt"):
        judge_of(trio.small).log_likelihoods(Opening(chat("Who?")), [TEXT * 3])


def test_settings_must_match_the_sources(trio: Trio) -> None:
    with pytest.raises(InputError, match="'eve'"):
        Judge(trio.fusion, Settings(weights={"eve": 1}))
    with pytest.raises(InputError, match="'eve'"):
        Judge(trio.fusion, Settings(mode="single", only="eve"))


@pytest.mark.parametrize("index", range(3))
def test_the_tokens_of_one_source_add_up_to_the_text(trio: Trio, index: int) -> None:
    name = trio.fusion.sources[index].info.name
    judge = Judge(trio.fusion, Settings(mode="single", only=name))
    reference, text = trio.references[index], "The quick brown fox jumps."
    tokens = judge.tokens(RawText(text), 3)
    assert b"".join(token.text for token in tokens).decode() == text
    assert (tokens[0].logprob, tokens[0].likely) == (None, ())
    spm = KINDS[index][1] == "spm-glued"
    ids = reference.encode(f" {text}".encode() if spm else text.encode())
    assert len(tokens) == len(ids)
    nlls = reference.nlls([1, ids[0]] if spm else ids[:1], ids[1:], ends=False)
    found = [-token.logprob for token in tokens[1:] if token.logprob is not None]
    assert found == pytest.approx(nlls, abs=4 * NOISE)
    for token in tokens[1:]:
        logprobs = [logprob for _, logprob in token.likely]
        assert len(logprobs) == 3
        assert logprobs == sorted(logprobs, reverse=True)
        assert token.logprob is not None
        assert token.logprob <= logprobs[0]
        assert all(logprob == token.logprob for text, logprob in token.likely if text == token.text)


def test_tokens_are_read_as_they_are_given(trio: Trio) -> None:
    source = trio.fusion.sources[1]
    judge = Judge(trio.fusion, Settings(mode="single", only=source.info.name))
    ids = trio.references[1].encode(b"The quick brown fox")
    assert judge.tokens(Tokens(tuple(ids)), 2) == judge.tokens(RawText("The quick brown fox"), 2)


@pytest.mark.parametrize("index", range(3))
def test_tokens_of_a_text_longer_than_the_context(trio: Trio, index: int) -> None:
    name = trio.small.sources[index].info.name
    one = Settings(mode="single", only=name)
    tokens = Judge(trio.small, one).tokens(RawText(TEXT), 1)
    assert b"".join(token.text for token in tokens).decode() == TEXT
    whole = Judge(trio.fusion, one).tokens(RawText(TEXT), 1)
    assert [token.text for token in tokens] == [token.text for token in whole]
    differences = [a != b for a, b in zip(tokens, whole, strict=True)]
    assert any(differences[N_CTX:])


def test_the_words_of_a_fusion_add_up_to_a_continuation(trio: Trio) -> None:
    judge, context, text = (
        judge_of(trio.fusion),
        "The quick brown",
        " fox jumps over the (lazy) dog.",
    )
    words = judge.tokens(RawText(context + text), 0)
    assert [word.text.decode() for word in words] == words_of(context + text)
    logprobs = [word.logprob for word in words[len(words_of(context)) :]]
    (expected,) = judge.log_likelihoods(after(context), [text])
    assert sum(map(float, logprobs)) == pytest.approx(expected, abs=20 * NOISE)
    assert not any(word.likely for word in words)
    assert [word.logprob for word in judge.tokens(RawText(context + text), 1)] == pytest.approx(
        [word.logprob for word in words], abs=8 * NOISE
    )


@pytest.mark.parametrize("score", ["mixture", "nll", "perplexity"])
def test_what_a_fusion_would_write_comes_first(trio: Trio, score: ScoreKind) -> None:
    settings = Settings(
        score=score, weights=by_name(trio.fusion), max_tokens=40, repetition_guard=False
    )
    steps = [
        e.text for e in trio.fusion.stream(RawText("The quick"), settings) if isinstance(e, Step)
    ]
    # A word may also be written in two parts; then neither is the word that comes next.
    n_whole = next(n for n in range(6, 0, -1) if words_of("".join(steps[:n])) == steps[:n])
    written = "".join(steps[:n_whole])
    *words, last = Judge(trio.fusion, settings).tokens(RawText(f"The quick{written} zqx"), 2)
    for word in words[2:]:
        assert word.likely[0] == (word.text, word.logprob)
    assert last.likely[0][0] != last.text
    assert last.logprob is not None
    assert last.logprob < last.likely[0][1]


def test_words_of_a_text_longer_than_the_context(trio: Trio) -> None:
    words = judge_of(trio.small).tokens(RawText(TEXT), 0)
    ends = list(accumulate(len(word.text) for word in words))
    assert set(ends) <= set(accumulate(len(word.encode()) for word in words_of(TEXT)))
    assert b"".join(word.text for word in words).decode() == TEXT
    assert len(words) > 0.8 * len(words_of(TEXT))  # some share a token with the next one
    assert all(word.logprob is not None for word in words[1:])


def test_reading_the_words_of_a_text_can_be_cancelled(trio: Trio) -> None:
    asked: list[None] = []

    def is_cancelled() -> bool:
        asked.append(None)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        judge_of(trio.fusion).tokens(RawText(TEXT), 1, is_cancelled=is_cancelled)
    assert len(asked) == 4


def test_several_sources_read_no_tokens(trio: Trio) -> None:
    with pytest.raises(InputError, match="raw text"):
        judge_of(trio.fusion).tokens(Tokens((1, 2)), 1)
    with pytest.raises(InputError, match="for one source"):
        trio.fusion.stream(Tokens((1, 2)))


@pytest.mark.model
def test_an_answer_that_has_started_is_continued() -> None:
    with cf_local.load() as fusion:
        settings = Settings(score="nll", max_tokens=150, weights=by_name(fusion))
        judge = Judge(fusion, settings)
        for problem in generate(5, seed=31, split="test"):
            prompt = chat(problem.question)
            events = [*fusion.stream(prompt, settings)]
            steps = [event.text for event in events if isinstance(event, Step)]
            prefix, rest = "".join(steps[:3]), "".join(steps[3:])
            *_, answer = write(fusion, Opening(prompt, prefix), settings)
            assert isinstance(answer, Answer)
            assert answer.text == rest
            assert judge.writes(Opening(prompt, prefix), [rest, f"{rest}."]) == [True, False]
            # The chain rule: what stands in the opening is not counted again.
            ((all_of_it,), (front,), (behind_it,)) = (
                judge.log_likelihoods(Opening(prompt), [prefix + rest]),
                judge.log_likelihoods(Opening(prompt), [prefix]),
                judge.log_likelihoods(Opening(prompt, prefix), [rest]),
            )
            assert front + behind_it == pytest.approx(all_of_it, abs=0.05)
        with pytest.raises(InputError, match="cool\\+r"):
            list(write(fusion, Opening(chat("Hi"), "So"), Settings(mode="cool+r")))
