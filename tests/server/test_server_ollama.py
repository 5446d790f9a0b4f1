"""Ollama's interface: with its own client, and what goes over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from answering import says
from pydantic import BaseModel, ValidationError
from serving import PATIENCE_S, QUESTION, Served, serving, slow

import cf_local
from cf_local.server.api_errors import ApiError
from cf_local.server.bodies import error_of
from cf_local.server.dialects import ollama as dialect
from cf_local.structured.tools import ToolCall
from cf_local.types import Chat, Infill, Message, RawText

ollama = pytest.importorskip("ollama", reason="needs the ollama package")

pytestmark = pytest.mark.model

USER = [{"role": "user", "content": QUESTION}]
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 23, "b": 45}}\n</tool_call>'


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number
        b: The second number

    """
    return a + b


def client_of(served: Served, **more: Any) -> Any:
    return ollama.Client(host=served.url, timeout=PATIENCE_S, **more)


@pytest.fixture
def client(served: Served) -> Any:
    return client_of(served)


@pytest.fixture(scope="module")
def answer() -> Any:
    with cf_local.load() as fusion:
        return fusion.answer(cf_local.chat(QUESTION))


def parsed(body: Any, of: Any = dialect.CHAT) -> Any:
    try:
        return of.prepare(of.body.model_validate({"model": "m"} | body))[0]
    except ValidationError as error:
        raise error_of(error.errors(), body) from None


# --- Answers ------------------------------------------------------------------------------------


def test_a_chat(client: Any, answer: Any) -> None:
    whole = client.chat("builtin", USER)
    assert (whole.model, whole.message.role) == ("builtin", "assistant")
    assert whole.message.content == answer.text
    assert (whole.done, whole.done_reason) == (True, "stop")
    parts = list(client.chat("builtin:latest", USER, stream=True))
    assert "".join(part.message.content for part in parts) == answer.text
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    for last in (whole, parts[-1]):
        assert last.prompt_eval_count == answer.prompt_tokens["ash"]
        assert last.eval_count > 5
        spent = last.load_duration + last.prompt_eval_duration + last.eval_duration
        assert 0 < spent <= last.total_duration * 1.01
        age = datetime.now(UTC) - datetime.fromisoformat(last.created_at)
        assert timedelta() <= age < timedelta(seconds=PATIENCE_S)


def test_a_text(client: Any, answer: Any) -> None:
    whole = client.generate("builtin", QUESTION)
    assert (whole.response, whole.done_reason) == (answer.text, "stop")
    parts = list(client.generate("builtin", QUESTION, stream=True))
    assert "".join(part.response for part in parts) == answer.text
    with_system = client.generate("builtin", QUESTION, system="Be brief.")
    assert with_system.prompt_eval_count > whole.prompt_eval_count
    raw = client.generate("builtin", "Tom has 23", raw=True, options={"num_predict": 5})
    assert raw.prompt_eval_count < whole.prompt_eval_count
    assert raw.done_reason == "length"


def test_it_streams_unless_told_otherwise(served: Served) -> None:
    reply = served.ask("POST", "/api/chat", {"model": "builtin", "messages": USER})
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in reply.body.splitlines()]
    assert len(lines) > 5
    assert [line for line in lines if line["done"]] == lines[-1:]


def test_an_answer_of_a_form(client: Any) -> None:
    class Sum(BaseModel):
        sum: int

    short = {"num_predict": 60}
    for form in ("json", Sum.model_json_schema()):
        found = client.chat("builtin", USER, format=form, options=short)
        if found.done_reason == "stop":
            assert isinstance(json.loads(found.message.content), dict)
        else:
            assert found.message.content.startswith("{")
    assert found.message.content.replace(" ", "").startswith('{"sum":')


def test_to_load_a_model() -> None:
    with serving() as served:
        client = client_of(served)
        assert client.ps().models == []
        found = client.generate("builtin", keep_alive="10m")
        assert (found.done, found.done_reason, found.response) == (True, "load", "")
        assert served.figure("cf_local_loaded") == 1
        assert [*client.chat("ash", stream=True)][-1].done_reason == "load"
        (first, *others) = client.ps().models
        assert (first.model, first.context_length) == ("builtin:latest", 512)
        assert {each.model for each in others} == {"ash:latest", "birch:latest", "cedar:latest"}
        left = first.expires_at - datetime.now(UTC)
        assert timedelta(seconds=590) < left <= timedelta(seconds=600)
        with pytest.raises(ollama.ResponseError, match="cannot unload"):
            client.generate("builtin", keep_alive=0)


def test_it_thinks_and_calls() -> None:
    text = f"<think>Two numbers.</think>Let me add.\n{CALL}"
    with serving(says(text)) as served:
        client = client_of(served)
        asked: dict[str, Any] = {"model": "builtin", "tools": [add]}
        whole = client.chat(messages=USER, **asked)
        assert whole.message.thinking == "Two numbers."
        assert whole.message.content.strip() == "Let me add."
        assert whole.done_reason == "stop"
        (call,) = whole.message.tool_calls
        assert (call.function.name, call.function.arguments) == ("add", {"a": 23, "b": 45})
        parts = list(client.chat(messages=USER, stream=True, **asked))
        assert "".join(part.message.thinking or "" for part in parts) == "Two numbers."
        assert "".join(part.message.content for part in parts).strip() == "Let me add."
        (told,) = [part.message.tool_calls for part in parts if part.message.tool_calls]
        assert [each.function for each in told] == [call.function]
        result = {"role": "tool", "tool_name": "add", "content": "68"}
        again = client.chat(messages=[*USER, whole.message, result], **asked)
        assert again.message.tool_calls
        assert again.prompt_eval_count > whole.prompt_eval_count
        cut = client.chat(messages=USER, options={"num_predict": 70}, **asked)
        assert (cut.done_reason, cut.message.tool_calls) == ("length", None)
        thought = client.generate("builtin", QUESTION, think=True)
        assert thought.thinking == "Two numbers."


def test_an_error_within_a_stream_is_a_line() -> None:
    with serving(slow(), timeout_s=0.3) as served:
        options = {"num_predict": -1}
        parts = client_of(served).chat("builtin", USER, stream=True, options=options)
        with pytest.raises(ollama.ResponseError, match=r"longer than the 0\.3 seconds"):
            list(parts)


def test_a_silent_stream_gets_nothing_that_is_no_line() -> None:
    with serving(slow(" fox" * 30), first_s=0.05, alive_s=0.05) as served:
        body = {"model": "builtin:rerank", "messages": USER}
        reply = served.ask("POST", "/api/chat", body)
        assert [json.loads(line)["done"] for line in reply.body.splitlines()] == [False, True]


# --- What requests say --------------------------------------------------------------------------


def test_options() -> None:
    options = {
        "temperature": 0.5, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "seed": 3, "stop": ["x", ""],
        "num_predict": 7, "repeat_penalty": 1.1, "presence_penalty": 1, "frequency_penalty": 0.5,
        "num_ctx": 4096, "mode": "rerank",
    }  # fmt: skip
    body = {"messages": USER, "options": options, "truncate": True}
    request = parsed(body)
    assert request.stop == ("x",)
    assert request.settings == {
        "temperature": 0.5, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "max_tokens": 7, "seed": 3,
        "repeat_penalty": 1.1, "presence_penalty": 1, "frequency_penalty": 0.5,
    }  # fmt: skip
    model = dialect.OllamaChatBody.model_validate({"model": "m"} | body)
    assert model.ignored() == ["truncate", "options.num_ctx", "options.mode"]
    for endless in (-1, -2):
        request = parsed({"messages": USER, "options": {"num_predict": endless}})
        assert request.settings["max_tokens"] == 2**31 - 1


def test_ignored_options_are_named(served: Served) -> None:
    body = {"model": "builtin", "options": {"num_ctx": 5}, "mirostat": 1}
    reply = served.ask("POST", "/api/generate", body)
    assert reply.headers["warning"].endswith('"Ignored parameters: mirostat, options.num_ctx"')
    with serving(slow(), is_strict=True) as strict:
        reply = strict.ask("POST", "/api/generate", body)
        assert (reply.status, reply.error) == (400, "Unknown parameter: 'mirostat'.")


@pytest.mark.parametrize(
    ("think", "thinks", "n_tokens"),
    [(None, None, None), (True, True, None), (False, False, None), ("low", True, 512)],
)
def test_thinking(think: Any, thinks: bool | None, n_tokens: int | None) -> None:
    request = parsed({"messages": USER, "think": think})
    assert isinstance(request.prompts[0], Chat)
    assert request.prompts[0].thinks is thinks
    assert request.settings.get("max_thinking_tokens") == n_tokens


def test_prompts() -> None:
    def prompt(**body: Any) -> Any:
        return parsed(body, dialect.GENERATE).prompts

    assert prompt(prompt="a", raw=True) == (RawText("a"),)
    assert prompt(prompt="a", suffix="b") == (Infill("a", "b"),)
    turns = (Message("system", "s"), Message("user", "a"))
    assert prompt(prompt="a", system="s", template="", context=[]) == (Chat(turns),)
    assert prompt(prompt="", system="s") == prompt() == ()


def test_results_find_their_calls() -> None:
    def call(name: str, **more: Any) -> Any:
        return {"function": {"name": name, "arguments": {"a": "ä"}}} | more

    turns = [
        {"role": "assistant", "tool_calls": [call("add"), call("mul", id="7"), call("add")]},
        {"role": "tool", "tool_name": "mul", "content": "1"},
        {"role": "tool", "tool_name": "add", "content": "2"},
        {"role": "tool", "content": "3"},
    ]
    (asked,) = parsed({"messages": [*USER, *turns]}).prompts
    calls = tuple(
        ToolCall(name, '{"a": "ä"}', id)
        for name, id in (("add", "call_1_0"), ("mul", "7"), ("add", "call_1_2"))
    )
    assert asked.messages[1:] == (
        Message("assistant", "", calls),
        Message("tool", "1", tool_call_id="7"),
        Message("tool", "2", tool_call_id="call_1_0"),
        Message("tool", "3", tool_call_id="call_1_2"),
    )


@pytest.mark.parametrize(
    ("of", "body", "says"),
    [
        (dialect.CHAT, {"messages": [USER[0] | {"images": ["aGk="]}]}, "images is not supported"),
        (dialect.CHAT, {"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
        (dialect.CHAT, {"messages": USER, "format": "xml"}, "format"),
        (dialect.CHAT, {"messages": USER, "format": {"type": 5}}, "type"),
        (dialect.CHAT, {"messages": USER, "think": "much"}, "think"),
        (dialect.CHAT, {"messages": USER, "stream": 1}, "stream should be a valid boolean"),
        (dialect.CHAT, {"messages": USER, "options": {"top_p": 2}}, "options.top_p"),
        (dialect.CHAT, {"messages": USER, "options": {"num_predict": 0}}, "leave it out"),
        (dialect.CHAT, {"messages": USER, "options": {"num_predict": -3}}, "num_predict"),
        (
            dialect.CHAT,
            {"messages": USER, "options": {"stop": "x"}, "format": "json"},
            "stop would break",
        ),
        (dialect.GENERATE, {"prompt": "a", "template": "{{ .Prompt }}"}, "template is not supp"),
        (dialect.GENERATE, {"prompt": "a", "context": [1]}, "context is not supported"),
        (dialect.GENERATE, {"prompt": "a", "images": ["aGk="]}, "images is not supported"),
        (dialect.GENERATE, {"prompt": "a", "raw": True, "system": "s"}, "no system prompt"),
        (dialect.GENERATE, {"keep_alive": "0s"}, "cannot unload"),
    ],
)
def test_what_is_refused(of: Any, body: Any, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsed(body, of)
    assert caught.value.status == 400
    assert says in str(caught.value)


# --- Models -------------------------------------------------------------------------------------


def test_the_models(client: Any) -> None:
    models = {each.model: each for each in client.list().models}
    assert {"builtin:latest", "ash:latest", "birch:latest", "cedar:latest"} <= models.keys()
    whole, ash = models["builtin:latest"], models["ash:latest"]
    assert ash.details.format == "gguf"
    assert (ash.details.family, ash.details.quantization_level) == ("llama", "Q8_0")
    assert ash.details.parameter_size == "1.5M"
    assert whole.size > ash.size > 1e6
    assert whole.details.family == "fusion"
    assert {"llama"} < set(whole.details.families)
    digests = {each.digest for each in models.values()}
    assert len(digests) == len(models)
    assert all(len(digest) == 64 for digest in digests)
    assert digests == {each.digest for each in client.list().models}


def test_one_model(client: Any) -> None:
    found = client.show("builtin:cool+r")
    assert found.capabilities == ["completion", "tools"]
    assert found.modelinfo["fusion.context_length"] == 512
    assert found.parameters == "num_ctx 512"
    ash = client.show("ash")
    assert ash.modelinfo["general.architecture"] == "llama"
    assert ash.modelinfo["llama.context_length"] == 512
    assert ash.license == "MIT"
    with pytest.raises(ollama.ResponseError) as caught:
        client.show("xyzzy")
    assert caught.value.status_code == 404
    assert caught.value.error.startswith("No model is named 'xyzzy'. The models here are")


def test_capabilities(tiny_models_file: Path) -> None:
    with serving(models=tiny_models_file) as served:
        client = client_of(served)
        assert client.show("thinker").capabilities == ["completion", "tools", "thinking"]
        coder = client.show("coder")
        assert coder.capabilities == ["completion", "tools", "insert"]
        assert "{{ .Suffix }}" in coder.template
        missing = served.ask("POST", "/api/show", {"model": "broken"})
        assert (missing.status, missing.json["details"]["families"]) == (200, [])


def test_nothing_names_a_path(served: Served, client: Any) -> None:
    for reply in (
        served.ask("GET", "/api/tags"),
        served.ask("POST", "/api/show", {"model": "ash"}),
        served.ask("GET", "/api/ps"),
    ):
        assert str(Path(cf_local.__file__).parent) not in reply.body.decode()
        assert reply.headers["cache-control"] == "no-store"


def test_the_version_and_what_is_no_request_here(served: Served, client: Any) -> None:
    assert served.ask("GET", "/api/version").json == {
        "version": "0.13.0",
        "cf_local": cf_local.__version__,
    }
    refused = (
        lambda: client.pull("gemma3"),
        lambda: client.push("gemma3"),
        lambda: client.create("new", from_="ash"),
        lambda: client.copy("ash", "new"),
        lambda: client.delete("ash"),
    )
    for ask in refused:
        with pytest.raises(ollama.ResponseError, match="cannot change the models") as caught:
            ask()
        assert caught.value.status_code == 403


def test_the_key() -> None:
    with serving(api_key="secret") as served:
        with pytest.raises(ollama.ResponseError, match="needs its API key"):
            client_of(served).list()
        client = client_of(served, headers={"Authorization": "Bearer secret"})
        assert client.list().models


# --- Embeddings ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedding(bert_models: Path) -> Iterator[Served]:
    with serving(models=bert_models) as served:
        yield served


def test_embeddings(embedding: Served, bert_models: Path) -> None:
    client, texts = client_of(embedding), ["the quick brown fox", "a lazy dog."]
    with cf_local.load_embedder(bert_models.with_name("bert.gguf")) as embedder:
        wanted = embedder.embed(texts)
    found = client.embed("bert", texts)
    assert found.embeddings == [pytest.approx(vector.tolist(), abs=1e-6) for vector in wanted]
    assert found.prompt_eval_count == sum(len(each.split()) for each in texts) + 5
    one = client.embed("bert:latest", texts[0]).embeddings
    assert one == [pytest.approx(wanted[0].tolist(), abs=1e-6)]
    old = client.embeddings("bert", texts[1]).embedding
    assert old == pytest.approx(wanted[1].tolist(), abs=1e-6)
    assert len(client.embed("bert", texts[0], dimensions=8).embeddings[0]) == 8
    assert client.show("bert").capabilities == ["embedding"]
    for ask in (lambda: client.chat("bert", USER), lambda: client.embed("builtin", "fox")):
        with pytest.raises(ollama.ResponseError, match="embedding model"):
            ask()
    with pytest.raises(ollama.ResponseError, match="102 tokens"):
        client.embed("bert", "fox " * 100)
    assert client.embed("bert", []).embeddings == []
