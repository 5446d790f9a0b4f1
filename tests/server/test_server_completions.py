"""Completions as editors and lm-evaluation-harness ask for them, by the real client of OpenAI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import PATIENCE_S, Served, serving, slow

import cf_local
from cf_local.evaluation.likelihood import Judge, Opening
from cf_local.llama.source import LlamaSource
from cf_local.progress import IsCancelled, Progress
from cf_local.runtime.fusion import Fusion
from cf_local.server.catalogue import ServedModel
from cf_local.settings import Settings
from cf_local.types import Infill, RawText

openai = pytest.importorskip("openai", reason="needs the openai package")
pytestmark = pytest.mark.model

CONTEXT, TEXT = "Tom has 23 apples and buys", " 45 more. The answer is 68."


def client_of(served: Served) -> Any:
    return openai.OpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    ).completions


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    return client_of(served)


@pytest.fixture(scope="module")
def fusion() -> Iterator[Fusion]:
    with cf_local.load() as loaded:
        yield loaded


def tokenized(served: Served, text: str, model: str) -> list[int]:
    body = {"model": model, "prompt": text, "add_special_tokens": False}
    found: list[int] = served.ask("POST", "/tokenize", body).json["tokens"]
    return found


@pytest.mark.parametrize("model", ["ash", "builtin"])
def test_an_echo_tells_how_likely_the_prompt_is(client: Any, fusion: Fusion, model: str) -> None:
    prompt = CONTEXT + TEXT
    done = client.create(model=model, prompt=prompt, echo=True, logprobs=2, max_tokens=0)
    (choice,) = done.choices
    assert (choice.text, choice.finish_reason) == (prompt, "length")
    found = choice.logprobs
    assert "".join(found.tokens) == prompt
    starts = zip(found.tokens, found.text_offset, strict=True)
    assert all(prompt[n:].startswith(token) for token, n in starts)
    assert (found.token_logprobs[0], found.top_logprobs[0]) == (None, None)
    assert all(len(top) <= 2 for top in found.top_logprobs[1:])
    settings = Settings(mode="single") if model == "ash" else Settings()
    tokens = Judge(fusion, settings).tokens(RawText(prompt), 2)
    assert found.token_logprobs[1:] == pytest.approx([t.logprob for t in tokens[1:]], abs=0.01)
    assert done.usage.completion_tokens == 0
    assert done.usage.prompt_tokens > 5


@pytest.mark.parametrize("model", ["ash", "builtin"])
def test_the_answer_follows_the_echo(client: Any, model: str) -> None:
    request = {"model": model, "prompt": CONTEXT, "max_tokens": 12}
    plain = client.create(**request, logprobs=1).choices[0]
    echoed = client.create(**request, logprobs=1, echo=True).choices[0]
    assert echoed.text == CONTEXT + plain.text
    n = len(plain.logprobs.tokens)
    assert echoed.logprobs.tokens[-n:] == plain.logprobs.tokens
    assert echoed.logprobs.text_offset[-n:] == [
        len(CONTEXT) + offset for offset in plain.logprobs.text_offset
    ]
    assert "".join(echoed.logprobs.tokens) == echoed.text
    without = client.create(**request, echo=True, n=2)
    assert [choice.text for choice in without.choices] == [echoed.text] * 2
    assert without.choices[0].logprobs is None


@pytest.mark.parametrize("max_tokens", [0, 8])
def test_a_stream_begins_with_the_echo(client: Any, max_tokens: int) -> None:
    request = {"model": "builtin", "prompt": CONTEXT, "max_tokens": max_tokens, "echo": True}
    whole = client.create(**request, logprobs=1).choices[0]
    chunks = [chunk.choices[0] for chunk in client.create(**request, logprobs=1, stream=True)]
    assert chunks[0].text == CONTEXT
    assert chunks[0].logprobs.tokens[0] == "Tom"
    assert "".join(chunk.text for chunk in chunks) == whole.text
    shown = [offset for chunk in chunks if chunk.logprobs for offset in chunk.logprobs.text_offset]
    assert shown == whole.logprobs.text_offset
    assert chunks[-1].finish_reason == whole.finish_reason


def test_prompts_of_tokens(served: Served, client: Any) -> None:
    request = {"model": "ash", "max_tokens": 12}
    tokens = tokenized(served, CONTEXT, "ash")
    of_text = client.create(prompt=[CONTEXT, TEXT], **request).choices
    of_tokens = client.create(prompt=[tokens, tokenized(served, TEXT, "ash")], **request).choices
    assert [choice.text for choice in of_tokens] == [choice.text for choice in of_text]
    assert client.create(prompt=tokens, **request).choices[0].text == of_text[0].text
    echoed = client.create(prompt=tokens, echo=True, logprobs=1, max_tokens=1, model="ash")
    assert len(echoed.choices[0].logprobs.tokens) == len(tokens) + 1
    assert echoed.choices[0].text.startswith(CONTEXT)
    with pytest.raises(openai.BadRequestError, match="token 1000000 does not exist"):
        client.create(prompt=[1_000_000], **request)


def test_the_tokens_of_a_fusion_are_characters(served: Served, client: Any, fusion: Fusion) -> None:
    tokens = tokenized(served, f"{CONTEXT}{TEXT}", "builtin")
    assert len(tokens) == len(CONTEXT + TEXT)
    back = served.ask("POST", "/detokenize", {"model": "builtin", "tokens": tokens})
    assert back.json == {"prompt": CONTEXT + TEXT}
    (choice,) = client.create(
        model="builtin", prompt=tokens, echo=True, logprobs=1, max_tokens=1
    ).choices
    logprobs = choice.logprobs.token_logprobs
    assert len(logprobs) == len(tokens) + 1
    words = (
        client.create(model="builtin", prompt=CONTEXT + TEXT, echo=True, logprobs=1, max_tokens=0)
        .choices[0]
        .logprobs.token_logprobs
    )
    assert sum(logprobs[len(CONTEXT) : -1]) == pytest.approx(sum(words[6:]), abs=0.01)
    # With the other scores, it is what our own adapter of the harness says.
    (choice,) = client.create(
        model="builtin", prompt=tokens, echo=True, logprobs=1, max_tokens=1,
        extra_body={"cf_local": {"score": "nll"}},
    ).choices  # fmt: skip
    judge = Judge(fusion, Settings(score="nll"))
    (expected,) = judge.log_likelihoods(Opening(RawText(CONTEXT)), [TEXT])
    found = sum(choice.logprobs.token_logprobs[len(CONTEXT) : -1])
    assert found == pytest.approx(expected, abs=0.1)
    with pytest.raises(openai.BadRequestError, match="vocabulary of its own"):
        client.create(model="builtin", prompt=[1, 2, 3])


def test_tokens_as_a_client_of_vllm_asks_for_them(served: Served) -> None:
    info = served.ask("GET", "/tokenizer_info?model=ash").json
    (end,) = tokenized(served, info["eos_token"], "ash")
    assert served.ask("POST", "/detokenize", {"model": "ash", "tokens": [end]}).json["prompt"] == ""
    for text in (CONTEXT, "naïve 東京 👍🏽", " two  spaces", f"a {info['eos_token']} b"):
        tokens = tokenized(served, text, "ash")
        assert end not in tokens
        back = served.ask("POST", "/detokenize", {"model": "ash", "tokens": tokens})
        assert back.json["prompt"] == text
    whole = served.ask("POST", "/tokenize", {"prompt": "Hi", "model": "ash"}).json
    assert whole["count"] == len(whole["tokens"])
    assert whole["max_model_len"] > 100
    # Without a model the default one is meant.
    assert len(served.ask("POST", "/tokenize", {"prompt": "Hi"}).json["tokens"]) == 2
    assert served.ask("GET", "/tokenizer_info").json["eos_token"] == "\n"
    wrong = served.ask("POST", "/detokenize", {"model": "ash", "tokens": [10**6]})
    assert (wrong.status, "token 1000000 does not exist" in wrong.error["message"]) == (400, True)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"max_tokens": 0}, "needs echo"),
        ({"suffix": " b", "echo": True}, "cannot be combined"),
        ({"suffix": " b", "prompt": [1, 2]}, "not of tokens"),
        ({"suffix": " b"}, "ash cannot fill a gap"),
        ({"prompt": ""}, "empty"),
        ({"best_of": 2}, "best_of"),
    ],
)
def test_what_cannot_be_is_said(client: Any, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(openai.BadRequestError, match=problem):
        client.create(**({"model": "builtin", "prompt": "a"} | fields))


def test_a_suffix_is_what_follows_the_gap(tiny_model: Callable[..., Path]) -> None:
    path = tiny_model("qwen2", "code")

    def load(model: ServedModel, _is_cancelled: IsCancelled, _told: Progress) -> Fusion:
        return Fusion([LlamaSource(n, path, n_ctx=256, n_threads=1) for n in model.names])

    with Fusion([LlamaSource("own", path, n_ctx=256, n_threads=1)]) as own:
        expected = own.answer(Infill("The quick", " dog."), Settings(max_tokens=9)).text
        plain = own.answer(RawText("The quick"), Settings(max_tokens=9)).text
    assert expected != plain
    with serving(load) as served:
        create = client_of(served).create
        for model in ("ash", "builtin"):
            request = {"model": model, "prompt": "The quick", "max_tokens": 9}
            assert create(**request, suffix=" dog.").choices[0].text == expected
            assert create(**request, suffix="").choices[0].text == plain


def test_an_echo_ends_when_its_client_leaves() -> None:
    with serving(slow(n_sessions=1, pass_s=0.2)) as served:  # a minute for the whole
        body = {"model": "builtin", "prompt": " fox" * 50_000, "echo": True, "logprobs": 1}
        sock = served.open(body | {"max_tokens": 0}, "/v1/completions")
        served.wait_for("cf_local_running", 1)
        sock.close()
        served.wait_for("cf_local_running", 0)
        assert (
            served.ask(
                "POST", "/v1/completions", {"model": "builtin", "prompt": " fox", "max_tokens": 1}
            ).status
            == 200
        )


def test_tokens_need_the_key() -> None:
    with serving(api_key="secret") as served:
        for path in ("/tokenize", "/detokenize"):
            assert served.ask("POST", path, {"prompt": "a", "tokens": [1]}).status == 401
        assert served.ask("GET", "/tokenizer_info").status == 401
