"""Answers of real models by the library: streams, stop strings, forms, long prompts, turns."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import numpy as np
import psutil
import pytest
from reference import Floats, RefSource

import cf_local
from cf_local import Answer, ResponseFormat, Settings, Step
from cf_local.errors import InputError
from cf_local.evaluation.likelihood import Judge
from cf_local.llama.source import LlamaSource
from cf_local.method.session import prefill
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling
from cf_local.types import Candidate, Infill, RawText, Score

from . import models

pytestmark = pytest.mark.real

PATIENCE_S = 120.0
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "likes": {"type": "array", "items": {"enum": ["tea", "milk"]}, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}


def written(
    fusion: Fusion, prompt: cf_local.Prompt, settings: Settings
) -> tuple[list[Step], Answer]:
    *steps, answer = fusion.stream(prompt, settings)
    assert isinstance(answer, Answer)
    return [step for step in steps if isinstance(step, Step)], answer


@pytest.fixture(scope="module")
def smaller(set_a: Fusion) -> Fusion:
    """The two that read fastest."""
    return set_a.of((models.SMOLLM2, models.GEMMA))


@pytest.mark.usefixtures("_need_models")
@pytest.mark.parametrize("mode", ["cool", "cool+r"])
def test_a_limit_for_thinking(mode: str) -> None:
    """No reasoning model is here; these go on with the thinking that a template begins for them."""
    turns = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    template = f"{turns}<|im_start|>assistant\n<think>\n"
    sources = [
        LlamaSource(name, models.path_of(name), n_ctx=1024, n_threads=1, template=template)
        for name in models.PAIR
    ]
    settings = Settings(mode=mode, max_thinking_tokens=8, max_tokens=60)  # type: ignore[arg-type]
    question = cf_local.chat("Think step by step: how many pens are 3 boxes of 12 pens?")
    with Fusion(sources) as fusion:
        _, answer = written(fusion, question, settings)
        thought, closed, rest = answer.text.partition("</think>\n\n")
        assert closed
        assert 8 <= max(source.n_tokens(thought) for source in sources) < 8 + 6
    assert rest.strip()


@pytest.fixture(scope="module")
def plain_gemma(_need_models: None) -> Iterator[RefSource]:
    reference = RefSource(models.path_of(models.GEMMA), n_ctx=1024)
    yield reference
    reference.close()


# --- Streams ----------------------------------------------------------------------------------


def test_the_answer_streams_word_by_word(set_a: Fusion) -> None:
    steps, answer = written(
        set_a, cf_local.chat(models.FRUITS), Settings(max_tokens=24, all_scores=True)
    )
    assert "".join(step.text for step in steps) == answer.text
    assert len(answer.text.split()) >= 3
    assert len(steps) >= len(answer.text.split())
    disputed = [step for step in steps if len(step.candidates) > 1]
    assert disputed
    for step in disputed:
        for candidate in step.candidates:
            assert set(candidate.scores) == set(models.SET_A)
            assert all(score >= 0 for score in candidate.scores.values())
        means = [candidate.mean for candidate in step.candidates]
        assert means[step.winner] == min(mean for mean in means if mean is not None)
    proposers = [name for c in disputed[0].candidates for name in c.sources]
    assert sorted(proposers) == sorted(models.SET_A)


def test_nothing_is_written_that_nobody_reads(pair: Fusion) -> None:
    def n_passes() -> list[int]:
        return [s.counters.n_passes for source in pair.sources for s in source.sessions]

    with pair.stream(cf_local.chat("Tell me a story."), Settings(max_tokens=24)) as stream:
        assert isinstance(next(stream), Step)
        before = n_passes()
        time.sleep(0.5)
        assert n_passes() == before
        list(stream)
        assert n_passes() != before


@pytest.mark.parametrize("speculation", [True, False])
@pytest.mark.parametrize(
    ("stop", "end"), [("14", "13. This is item 13.\n"), (" it", "13. This is")]
)
def test_a_stop_string_ends_the_answer_before_it(
    set_a: Fusion, stop: str, end: str, speculation: bool
) -> None:
    settings = Settings(max_tokens=40, stop=(stop, "never"), speculation=speculation)
    steps, answer = written(set_a, models.lines_up_to(12), settings)
    assert (answer.text, answer.finish_reason) == (end, "stop")
    assert "".join(step.text for step in steps) == end


def test_an_answer_obeys_a_schema(set_a: Fusion) -> None:
    settings = Settings(max_tokens=80, response_format=ResponseFormat.json_schema(PERSON))
    prompt = cf_local.chat("Describe a person: name, age and what he likes to drink.")
    steps, answer = written(set_a, prompt, settings)
    assert answer.finish_reason == "stop"
    jsonschema.validate(json.loads(answer.text), PERSON)
    # The form alone would leave nothing to dispute: a person has a name that somebody chose.
    assert any(len(step.candidates) > 1 for step in steps)


# --- Long prompts -----------------------------------------------------------------------------


def test_a_long_prompt_is_answered_with_and_without_speculation(smaller: Fusion) -> None:
    """About 1,500 tokens, three times Gemma's window; then the beginning of the same text."""
    for n_lines, speculation in ((135, False), (135, True), (60, False), (61, True)):
        settings = Settings(max_tokens=14, speculation=speculation)
        answer = smaller.answer(models.lines_up_to(n_lines), settings)
        assert answer.prompt_tokens[models.GEMMA] > (1400 if n_lines > 100 else 600)
        assert answer.text.startswith(models.line(n_lines + 1))


def test_gemma_reads_beyond_its_window_as_llama_cpp_does(
    set_a: Fusion, plain_gemma: RefSource
) -> None:
    """What its few layers without a window have seen at the start is known at the end."""
    lines = models.lines_up_to(60).text
    prompt = cf_local.RawText(f"The code word is zebra.\n{lines}The code word is")
    gemma = set_a.sources[models.SET_A.index(models.GEMMA)].sessions[0]
    texts = [b" zebra", b" lemon", b" zebra.\n61. This is"]

    def score() -> list[Score]:
        assert prefill(gemma, prompt, sampling=Sampling()) > 1.2 * models.GEMMA_WINDOW
        return gemma.score([Candidate(text, False) for text in texts])

    zebra, lemon, longer = set_a.alone(score)
    assert zebra.nll_nats < lemon.nll_nats - 3
    tokens = gemma.source.encode(prompt)  # type: ignore[attr-defined]
    expected = nlls_of(plain_gemma, tokens, texts)
    for found, terms in zip((zebra, lemon, longer), expected, strict=True):
        assert found.n_terms == len(terms)
        # Batches of other shapes move the logits of this model by half a nat.
        assert found.nll_nats == pytest.approx(sum(terms), abs=0.6 + 0.05 * sum(terms))


def nlls_of(reference: RefSource, tokens: list[int], texts: Sequence[bytes]) -> list[list[float]]:
    """Nats of each token of each text behind ``tokens``, which are read once; the last is longest.

    All texts begin with one token of their own.
    """
    (first_row,) = log_softmax(reference.logits(tokens, 1))
    found = []
    for text in texts:
        ids = reference.encode(text)
        rows = [first_row]
        if len(ids) > 1:
            rows += list(log_softmax(reference.logits(tokens + ids, len(ids)))[:-1])
        found.append([-float(row[token]) for row, token in zip(rows, ids, strict=True)])
    return found


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


# --- Turns ------------------------------------------------------------------------------------

TALKS = (
    ("What is the capital of France?", "And of Italy?"),
    ("How many legs has a dog?", "And a bird?"),
)
BRIEF = Settings(max_tokens=20, speculation=False)


def talk(fusion: Fusion, questions: Sequence[str]) -> list[str]:
    conversation = fusion.conversation()
    for question in questions:
        for _ in conversation.ask(question, BRIEF):
            pass
    said = [(message.role, message.content) for message in conversation.messages]
    assert [role for role, _ in said] == ["user", "assistant"] * len(questions)
    return [text for role, text in said if role == "assistant"]


def test_two_conversations_at_once_write_what_each_writes_alone(pair: Fusion) -> None:
    alone = [talk(pair, questions) for questions in TALKS]
    assert alone[0] == ["The capital of France is Paris.", "The capital of Italy is Rome."]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda questions: talk(pair, questions), TALKS)) == alone
    # What was said before is told again with the second question.
    assert "Rome" not in pair.answer(cf_local.chat(TALKS[0][1]), BRIEF).text


@pytest.mark.parametrize("after_steps", [0, 3])
def test_cancelling_keeps_what_came(set_a: Fusion, after_steps: int) -> None:
    prompt = cf_local.chat("Count from 1 to 200.") if after_steps else models.lines_up_to(100)
    stream = set_a.stream(prompt, Settings(max_tokens=400))
    steps = [next(stream) for _ in range(after_steps)]
    threading.Timer(0.3, stream.cancel).start()
    start_s = time.monotonic()
    *more, answer = stream
    waited_s = time.monotonic() - start_s
    assert isinstance(answer, Answer)
    assert answer.finish_reason == "cancelled"
    assert answer.text == "".join(step.text for step in [*steps, *more])
    assert bool(answer.text) is bool(after_steps)
    assert waited_s < PATIENCE_S / 10
    assert set_a.answer(models.lines_up_to(12), Settings(max_tokens=4)).text.startswith("13.")


def test_closing_ends_answers_and_gives_the_memory_back() -> None:
    process = psutil.Process()
    fusion = cf_local.load(models=[models.path_of(models.SMOLLM2)])
    seen: list[cf_local.Event] = []
    has_begun = threading.Event()

    def read() -> None:
        for event in fusion.stream(cf_local.chat("Tell me a story."), Settings(max_tokens=2000)):
            seen.append(event)
            has_begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert has_begun.wait(PATIENCE_S)
    n_before = process.memory_info().rss
    fusion.close()
    reader.join(PATIENCE_S)
    assert not reader.is_alive()
    answer = seen[-1]
    assert isinstance(answer, Answer)
    assert answer.finish_reason == "cancelled"
    assert process.memory_info().rss < n_before - 80e6  # its file has 98 MB
    with pytest.raises(cf_local.ClosedError):
        fusion.answer(cf_local.chat("Hi!"))


def test_a_coder_fills_a_gap_and_tells_how_likely_text_is(set_a: Fusion) -> None:
    coder = set_a.of([models.QWEN], Settings(mode="single", max_tokens=40))
    before, after = (
        'def add(a, b):\n    """Return the sum."""\n    return ',
        "\n\n\nprint(add(2, 3))\n",
    )
    answer = coder.answer(Infill(before, after))
    assert answer.finish_reason == "stop"
    assert answer.text.replace(" ", "").startswith("a+b\n")
    with pytest.raises(InputError, match=f"{models.SMOLLM2} cannot fill a gap"):
        set_a.answer(Infill(before, after))
    judge, text = Judge(coder, coder.settings), "The capital of France is Paris."
    *_, paris, _ = judge.tokens(RawText(text), 1)
    assert paris.likely == ((b" Paris", paris.logprob),)
    *_, london, _ = judge.tokens(RawText(text.replace("Paris", "London")), 1)
    assert london.likely == paris.likely
