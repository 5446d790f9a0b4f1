"""`/v1/embeddings`: the vectors of the library, with OpenAI's client and without."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import PATIENCE_S, Served, serving, wait_until

import cf_local
from cf_local.llama.embedding import LlamaEmbedder
from cf_local.server.embedding import shortened

pytestmark = pytest.mark.model

TEXTS = ["the quick brown fox", "a lazy dog.", "fox"]


@pytest.fixture(scope="module")
def embedding(bert_models: Path) -> Iterator[Served]:
    with serving(models=bert_models) as served:
        yield served


@pytest.fixture(scope="module")
def wanted(bert_models: Path) -> tuple[list[list[int]], Any]:
    """The tokens and vectors that the library gives."""
    with cf_local.load_embedder(bert_models.with_name("bert.gguf")) as embedder:
        return embedder.encode(TEXTS), embedder.embed(TEXTS)


def ask(served: Served, given: Any, **more: Any) -> Any:
    return served.ask("POST", "/v1/embeddings", {"model": "bert", "input": given} | more)


def vectors(reply: Any) -> Any:
    assert reply.status == 200, reply.body
    assert [each["index"] for each in reply.json["data"]] == list(range(len(reply.json["data"])))
    return np.array([each["embedding"] for each in reply.json["data"]])


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_openais_client(embedding: Served, wanted: Any, encoding: str | None) -> None:
    """By default it asks for base64 and decodes that."""
    openai = pytest.importorskip("openai", reason="needs the openai package")
    client = openai.OpenAI(
        base_url=f"{embedding.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    )
    more = {} if encoding is None else {"encoding_format": encoding}
    found = client.embeddings.create(model="bert", input=TEXTS, user="me", **more)
    got = [each.embedding for each in found.data]
    if encoding == "base64":
        got = [np.frombuffer(base64.b64decode(text), "<f4") for text in got]
    np.testing.assert_allclose(got, wanted[1], atol=1e-6)
    assert found.usage.prompt_tokens == found.usage.total_tokens == sum(map(len, wanted[0]))
    assert (found.model, found.object) == ("bert", "list")
    models = {model.id: model.cf_local for model in client.models.list()}
    assert models["bert"] == {
        "kind": "embedding", "description": "Tiny", "modes": [], "sources": ["bert"],
        "default": False, "loaded": True, "loading": None,
    }  # fmt: skip
    assert "all-minilm-l6-v2" not in models  # not on this machine


def test_all_forms_of_input(embedding: Served, wanted: Any) -> None:
    tokens, right = wanted
    forms = [
        (TEXTS, right), (TEXTS[0], right[:1]), (tokens, right), (tokens[1], right[1:2]),
        ([TEXTS[2]], right[2:]), ([tokens[2]], right[2:]),
    ]  # fmt: skip
    for given, expected in forms:
        np.testing.assert_allclose(vectors(ask(embedding, given)), expected, atol=1e-5)


def test_fewer_dimensions(embedding: Served, wanted: Any) -> None:
    short = vectors(ask(embedding, TEXTS, dimensions=8))
    part = wanted[1][:, :8]
    np.testing.assert_allclose(short, part / np.linalg.norm(part, axis=1, keepdims=True), atol=1e-5)
    assert vectors(ask(embedding, TEXTS, dimensions=32)).shape == (3, 32)
    assert shortened(np.zeros((1, 4), np.float32), 2).tolist() == [[0, 0]]
    refused = ask(embedding, TEXTS, dimensions=33)
    assert (refused.status, refused.error["param"]) == (400, "dimensions")
    assert "32 numbers" in refused.error["message"]


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"input": ""}, "input", "at least 1"),
        ({"input": []}, "input", "at least 1 item"),
        ({"input": ["fox", ""]}, "input[1]", "at least 1"),
        ({"input": [[5], []]}, "input[1]", "at least 1 item"),
        ({"input": [5, 15]}, "input", "its tokens are 0 to 14"),
        ({"input": [-1]}, "input[0]", "greater than or equal to 0"),
        ({"input": 5}, "input", "should be a valid string"),
        ({"input": [5, "fox"]}, "input[1]", "should be a valid integer"),
        ({"input": ["fox"] * 2049}, "input", "at most 2048 items"),
        ({"input": "fox " * 100}, "input", "Text 1 of 1 has 102 tokens"),
        ({"input": "\ud800"}, "input", "surrogate"),
        ({}, "input", "Missing required parameter: 'input'"),
        ({"input": "fox", "encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
        ({"input": "fox", "dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"input": "fox", "model": "builtin"}, "model", "builtin is not an embedding model"),
        ({"input": "fox", "model": "ash"}, "model", "not an embedding model; models.toml has"),
        ({"input": "fox", "model": "bert:cool"}, "model", "its modes are none"),
    ],
)
def test_what_is_refused(embedding: Served, body: Any, param: str, says: str) -> None:
    reply = embedding.ask("POST", "/v1/embeddings", {"model": "bert"} | body)
    assert reply.status == 400
    assert (reply.error["param"] or "").startswith(param), reply.error
    assert says in reply.error["message"]
    assert reply.error["type"] == "invalid_request_error"


def test_models_that_are_not_here(embedding: Served) -> None:
    for name in ("text-embedding-3-small", "all-minilm-l6-v2"):
        reply = ask(embedding, "fox", model=name)
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")


def test_an_embedding_model_writes_no_answers(embedding: Served) -> None:
    reply = embedding.chat(model="bert")
    assert (reply.status, reply.error["param"]) == (400, "model")
    assert "bert is an embedding model, which cannot write answers" in reply.error["message"]
    reply = embedding.ask("POST", "/v1/completions", {"model": "bert", "prompt": "fox"})
    assert (reply.status, reply.error["param"]) == (400, "model")


def test_the_same_guards(bert_models: Path) -> None:
    with serving(models=bert_models, api_key="secret", is_strict=True, body_bytes=1000) as served:
        assert ask(served, "fox").status == 401
        key = {"Authorization": "Bearer secret"}
        body = {"model": "bert", "input": "fox"}

        def post(more: Any, headers: Any) -> Any:
            return served.ask("POST", "/v1/embeddings", body | more, headers)

        assert post({}, key).status == 200
        assert post({}, key | {"Host": "evil.example"}).status == 403
        assert post({}, key | {"Origin": "https://evil.example"}).status == 403
        assert post({"input": "fox " * 300}, key).status == 413
        unknown = post({"dimension": 3}, key)
        assert unknown.error["message"].endswith("Did you mean 'dimensions'?")
        assert served.ask("GET", "/v1/embeddings", headers=key).headers["allow"] == "POST"


def test_unknown_fields_are_named(embedding: Served) -> None:
    assert "truncate" in ask(embedding, "fox", truncate=True).headers["warning"]


def test_unloaded_when_idle(bert_models: Path) -> None:
    with serving(models=bert_models, idle_s=0.2) as served:
        assert ask(served, "fox").status == 200
        served.wait_for("cf_local_loaded", 0)
        assert ask(served, "fox").status == 200
        assert served.figure('cf_local_loads_total{outcome="loaded"}') == 2
        assert served.figure('cf_local_tokens_total{kind="prompt",model="bert"}') == 6


def test_no_memory_for_it(bert_models: Path) -> None:
    with serving(models=bert_models, memory_bytes=1000) as served:
        reply = ask(served, "fox")
        assert (reply.status, reply.error["code"]) == (503, "out_of_memory")
        assert "bert needs" in reply.error["message"]


def test_only_what_was_named(bert_models: Path) -> None:
    with serving(models=bert_models, names=["bert"]) as served:
        assert [each["id"] for each in served.ask("GET", "/v1/models").json["data"]] == ["bert"]
        assert ask(served, "fox").status == 200
        assert served.chat(model="bert").error["code"] == "wrong_kind_of_model"
    with serving(models=bert_models, names=["bert"], answers_any=True) as served:
        assert served.chat(model="gpt-9").error["code"] == "model_not_found"  # none can write
    with serving(models=bert_models, names=["bert", "birch"]) as served:
        found = [each["id"] for each in served.ask("GET", "/v1/models").json["data"]]
        assert found == ["birch", "bert"]
    with serving(models=bert_models, names=["builtin", "bert"]) as served:
        found = [each["id"] for each in served.ask("GET", "/v1/models").json["data"]]
        assert found == ["builtin", "ash", "birch", "cedar", "bert"]
    with serving(models=bert_models, names=["builtin"]) as served:
        assert ask(served, "fox").status == 404


def test_many_clients_beside_an_answer(embedding: Served, wanted: Any) -> None:
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        found[number] = embedding.chat() if number == 0 else ask(embedding, TEXTS * 50)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.pop(0).status == 200
    for reply in found.values():
        np.testing.assert_allclose(vectors(reply), np.tile(wanted[1], (50, 1)), atol=1e-4)


def test_a_client_that_leaves_frees_its_slot(
    bert_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, evaluate = threading.Event(), LlamaEmbedder._evaluate

    def held(model: LlamaEmbedder, rows: Any) -> None:
        assert goes_on.wait(PATIENCE_S)
        evaluate(model, rows)

    with serving(models=bert_models, n_slots=1, n_queue=0) as served:
        assert ask(served, "fox").status == 200
        monkeypatch.setattr(LlamaEmbedder, "_evaluate", held)
        body = {"model": "bert", "input": ["the quick brown fox " * 12] * 2048}
        with served.open(body, "/v1/embeddings"):
            served.wait_for("cf_local_running", 1)
            assert ask(served, "fox").error["code"] == "queue_full"
        goes_on.set()
        wait_until(lambda: ask(served, "fox").status == 200, "a free slot")
