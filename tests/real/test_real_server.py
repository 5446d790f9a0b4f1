"""`cf-local serve` as a process, with SmolLM2 and Qwen 0.5B for four clients at once."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

pytest.importorskip("uvicorn", reason="the server needs the extra cf-local[server]")

import serving
from serving import Reply, Served

import cf_local
from cf_local.runtime.fusion import Fusion

from . import models
from .conftest import TIMEOUT_S

pytestmark = pytest.mark.real

QUESTIONS = (
    "What is the capital of France?",
    "How many legs has a dog?",
    "What colour is the sky?",
    "What is the opposite of hot?",
)


@pytest.fixture(scope="module")
def served(
    _need_models: None, command: list[str], environment: dict[str, str], work_folder: Path
) -> Iterator[Served]:
    fusion = f"[fusions.pair]\nsources = {list(models.PAIR)}\n"
    registry = fusion + models.entries_for(models.PAIR)
    (work_folder / "models.toml").write_text(registry, encoding="utf-8")
    options = ["serve", "pair", "--port", "0", "--parallel", "4", "--threads", "1"]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=work_folder,
        env=environment,
    )
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "PATIENCE_S", TIMEOUT_S)
        try:
            port = _port(process, told)
            reader = threading.Thread(target=lambda: told.extend(process.stderr or ()))
            reader.start()
            yield Served(None, None, port)  # type: ignore[arg-type]  # it is not in this process
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
            reader.join()
            assert "Traceback" not in "".join(told)
        finally:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[str], told: list[str]) -> int:
    assert process.stderr is not None
    for line in process.stderr:
        told.append(line)
        if found := re.search(r"Listening on http://[^/]*:(\d+)/", line):
            return int(found[1])
    raise AssertionError(f"it ended with {process.wait()}: {''.join(told)}")


def ask(served: Served, question: str, **more: Any) -> Reply:
    body = {"model": "pair", "max_tokens": 24, "cf_local": {"speculation": False}} | more
    reply = served.chat(question, **body)
    assert reply.status == 200, reply.body
    return reply


def content(reply: Reply) -> str:
    (choice,) = reply.json["choices"]
    assert choice["message"]["role"] == "assistant"
    return str(choice["message"]["content"])


def test_the_pair_and_its_sources_are_there(served: Served) -> None:
    listed = served.ask("GET", "/v1/models").json["data"]
    assert [model["id"] for model in listed] == ["pair", *models.PAIR]
    assert [model["cf_local"]["loaded"] for model in listed] == [True] * 3
    assert listed[0]["cf_local"]["sources"] == list(models.PAIR)


def test_a_stream_says_what_a_whole_answer_says(served: Served, pair: Fusion) -> None:
    whole = ask(served, QUESTIONS[0])
    assert content(whole) == "The capital of France is Paris."
    assert whole.json["choices"][0]["finish_reason"] == "stop"
    streamed = ask(served, QUESTIONS[0], stream=True, stream_options={"include_usage": True})
    first, *parts, last, usage = streamed.events
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    texts = [part["choices"][0]["delta"]["content"] for part in parts]
    assert len(texts) >= 6
    assert "".join(texts) == content(whole)
    assert last["choices"][0]["finish_reason"] == "stop"
    # Counted with SmolLM2's own template, which adds its system text.
    n_prompt = len(pair.sources[0].encode(cf_local.chat(QUESTIONS[0])))  # type: ignore[attr-defined]
    assert usage["usage"]["prompt_tokens"] == whole.json["usage"]["prompt_tokens"] == n_prompt > 30


@pytest.mark.parametrize("speculation", [False, True])
def test_four_clients_at_once_get_what_each_gets_alone(served: Served, speculation: bool) -> None:
    def answer(question: str) -> str:
        return content(ask(served, question, cf_local={"speculation": speculation}))

    alone = [answer(question) for question in QUESTIONS]
    assert len(set(alone)) == len(QUESTIONS)
    assert alone[0] == "The capital of France is Paris."
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(answer, QUESTIONS)) == alone


def test_a_stop_string_is_left_out(served: Served) -> None:
    reply = ask(served, QUESTIONS[0], stop=["Paris", "never"])
    assert content(reply).strip() == "The capital of France is"
    assert reply.json["choices"][0]["finish_reason"] == "stop"


def test_a_completion_goes_on_with_the_text(served: Served) -> None:
    body = {"model": "pair", "prompt": models.lines_up_to(10).text, "max_tokens": 16}
    reply = served.ask("POST", "/v1/completions", body)
    (choice,) = reply.json["choices"]
    assert choice["text"].startswith(models.line(11))
    assert choice["finish_reason"] == "length"


def test_a_source_alone_answers_by_its_name(served: Served) -> None:
    texts = {name: content(ask(served, "Who are you?", model=name)) for name in models.PAIR}
    assert "Qwen" in texts[models.QWEN]
    assert "Qwen" not in texts[models.SMOLLM2] != ""


def test_a_form_is_obeyed(served: Served) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "n": {"type": "integer"}},
        "required": ["city", "n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    reply = ask(served, "Name a city and a number.", response_format=form, max_tokens=60)
    assert reply.json["choices"][0]["finish_reason"] == "stop"
    jsonschema.validate(json.loads(content(reply)), schema)


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The current temperature of a city, in degrees Celsius.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


PRICE = {
    "type": "function",
    "function": {
        "name": "look_up_price",
        "description": "Look up the price of a product in the shop.",
        "parameters": {
            "type": "object",
            "properties": {"product": {"type": "string"}},
            "required": ["product"],
        },
    },
}


@pytest.mark.parametrize("model", ["pair", models.QWEN])
@pytest.mark.parametrize(
    ("question", "tool", "part", "result", "right"),
    [
        ("How warm is it in Paris now?", WEATHER, "Paris", "19 degrees Celsius", "19 degrees"),
        ("How much does the blue lamp cost?", PRICE, "lamp", '{"price_in_euros": 24.5}', "24.5"),
    ],
)
def test_a_loop_of_an_agent_ends_with_the_right_answer(
    served: Served, model: str, question: str, tool: Any, part: str, result: str, right: str
) -> None:
    openai = pytest.importorskip("openai", reason="needs the openai package")
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=TIMEOUT_S)
    messages: list[Any] = [{"role": "user", "content": question}]
    how: dict[str, Any] = {"model": model, "tools": [tool], "max_tokens": 60}
    for _ in range(4):
        choice = client.chat.completions.create(messages=messages, **how).choices[0]
        if not choice.message.tool_calls:
            break
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        (call,) = choice.message.tool_calls
        assert call.function.name == tool["function"]["name"]
        assert part in call.function.arguments
        messages.append(choice.message.model_dump(exclude_none=True))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert len(messages) > 1
    assert right in choice.message.content
    assert "tool_call" not in choice.message.content
    assert choice.finish_reason == "stop"


ASKED, RESULT = "How warm is it in Paris now?", "19 degrees Celsius"


def test_a_tool_is_called_in_anthropics_interface(served: Served) -> None:
    anthropic = pytest.importorskip("anthropic", reason="needs the anthropic package")
    client = anthropic.Anthropic(base_url=served.url, api_key="none", timeout=TIMEOUT_S)
    function = WEATHER["function"]
    tool = {"name": function["name"], "description": function["description"]}
    tool["input_schema"] = function["parameters"]
    messages: list[Any] = [{"role": "user", "content": ASKED}]
    how: dict[str, Any] = {"model": models.QWEN, "tools": [tool], "max_tokens": 60}
    with client.messages.stream(messages=messages, **how) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    call = message.content[-1]
    assert call.name == "get_weather"
    assert "Paris" in call.input["city"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": RESULT}
    messages += [message.to_param(), {"role": "user", "content": [result]}]
    message = client.messages.create(messages=messages, tool_choice={"type": "none"}, **how)
    assert "19 degrees" in message.content[0].text
    assert message.stop_reason == "end_turn"


def test_a_tool_is_called_in_responses(served: Served) -> None:
    openai = pytest.importorskip("openai", reason="needs the openai package")
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=TIMEOUT_S)
    tool = {"type": "function", **WEATHER["function"]}
    how: dict[str, Any] = {"model": models.QWEN, "tools": [tool], "max_output_tokens": 60}
    with client.responses.stream(input=ASKED, **how) as stream:
        response = stream.get_final_response()
    call = response.output[-1]
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert "Paris" in json.loads(call.arguments)["city"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
    how |= {"tool_choice": "none", "previous_response_id": response.id}
    response = client.responses.create(input=[result], **how)
    assert "19 degrees" in response.output_text
