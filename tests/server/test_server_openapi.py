"""The OpenAPI description: valid, and what it promises holds for requests made up from it."""

from __future__ import annotations

import copy
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from serving import Served, serving, slow

schemathesis = pytest.importorskip("schemathesis", reason="needs the schemathesis package")

from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from cf_local.loading.load_options import LoadOptions  # noqa: E402
from cf_local.progress import IsCancelled, Progress  # noqa: E402
from cf_local.registry.registry import load_registry  # noqa: E402
from cf_local.server.app import Server  # noqa: E402
from cf_local.server.catalogue import Catalogue, ServedModel  # noqa: E402
from cf_local.server.pool import Loaded  # noqa: E402
from cf_local.server.running import loader  # noqa: E402
from cf_local.server.serve_options import ServeOptions  # noqa: E402
from cf_local.server.vocabulary import FIRST_CHARACTER  # noqa: E402


def description(api_key: str | None = None) -> Any:
    options = ServeOptions(api_key=api_key)
    return Server(Catalogue(load_registry()), slow(), options).app.openapi()


N_EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "80"))
# A schema cannot say that some fields cannot be combined, or which grammars can be kept.
EXCLUDED = [positive_data_acceptance]
REFUSED = ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete")
DESCRIBED = description()
OPERATIONS = [
    (method.upper(), path)
    for path, methods in DESCRIBED["paths"].items()
    for method in methods
    if method != "parameters" and path not in REFUSED  # whatever they say
]


@pytest.fixture(scope="module")
def described(bert_models: Path) -> Iterator[Served]:
    write, embed = slow(" fox ran.", pass_s=0), loader(LoadOptions(), lambda _text: None)

    def load(model: ServedModel, is_cancelled: IsCancelled, on_progress: Progress) -> Loaded:
        return (embed if model.kind == "embedding" else write)(model, is_cancelled, on_progress)

    with serving(load, models=bert_models) as served:
        yield served


@pytest.fixture(scope="module")
def api() -> Any:
    return schemathesis.openapi.from_dict(DESCRIBED)


@pytest.mark.parametrize("kind", ["positive", "negative"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_made_up_requests_keep_the_promises(
    method: str, path: str, kind: str, described: Served, api: Any
) -> None:
    mode = schemathesis.GenerationMode(kind)
    if kind == "negative" and method != "POST":
        pytest.skip("takes no body")
    counts: Counter[int] = Counter()

    @settings(max_examples=N_EXAMPLES, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if kind == "positive" and isinstance(case.body, dict):
            case.body["model"] = "builtin"  # which nobody guesses
            if "/embed" in path:
                case.body |= {"model": "bert", "dimensions": 8}
            if isinstance(tokens := case.body.get("tokens"), list):  # nor a fusion's tokens
                case.body["tokens"] = [FIRST_CHARACTER + int(token) % 128 for token in tokens]
        response = case.call(base_url=described.url, timeout=30)
        counts[response.status_code] += 1
        assert response.status_code < 500, response.text
        if response.status_code != 413:  # schemathesis does not know that this refuses a body
            case.validate_response(response, excluded_checks=EXCLUDED)

    check()
    if method == "POST":
        assert counts[200 if kind == "positive" else 400] > N_EXAMPLES / 4, counts


WHOLE = {
    "model": "builtin",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {}}]},
        {"role": "assistant", "content": None, "refusal": "No.", "id": "m", "tool_calls": []},
        {"role": "user", "content": "What is 2 + 2?"},
    ],
    "max_tokens": 4,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "seed": 1,
    "n": 1,
    "stop": ["\n"],
    "stream": False,
    "stream_options": None,
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "text"},
    "chat_template_kwargs": {"enable_thinking": False},
    "cf_local": {"mode": "cool", "trace": True, "weights": {"ash": 1}, "min_p": 0.1},
    "tools": [],
    "frequency_penalty": 0,
}
ADD = {"a": {"type": "integer"}}
SCHEMA = {"type": "object", "properties": ADD, "required": ["a"]}
WHOLE_MESSAGE = {
    "model": "builtin",
    "max_tokens": 4,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "text", "text": "So."},
                {"type": "tool_use", "id": "a", "name": "add", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "5", "is_error": False},
                {"type": "text", "text": "Go on."},
            ],
        },
    ],
    "tools": [{"name": "add", "description": "Adds.", "input_schema": SCHEMA, "strict": True}],
    "tool_choice": {"type": "none"},
    "thinking": {"type": "enabled", "budget_tokens": 4},
    "output_config": {"effort": "low", "format": None},
    "stop_sequences": ["\n"],
    "stream": False,
    "cf_local": {"mode": "cool"},
}
WHOLE_RESPONSE = {
    "model": "builtin",
    "max_output_tokens": 4,
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": "So."},
        {"type": "function_call", "call_id": "a", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "a", "output": "5"},
        {"role": "user", "content": "Go on."},
    ],
    "tools": [{"type": "function", "name": "add", "parameters": SCHEMA, "strict": True}],
    "tool_choice": "none",
    "text": {"format": {"type": "text"}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 2,
    "metadata": {"a": "b"},
    "store": True,
    "stream": False,
    "cf_local": {"mode": "cool"},
}
WHOLES = {
    "/v1/chat/completions": WHOLE,
    "/v1/messages": WHOLE_MESSAGE,
    "/v1/messages/count_tokens": WHOLE_MESSAGE,
    "/v1/responses": WHOLE_RESPONSE,
}
VALUES = (
    *(None, True, False, 0, 1, -1, 0.5, 2**31, -(2**63), 2**64, 1e308, "", "x", "\u0000", "\ud800"),
    *("<|im_end|>", "builtin", "cool+r", "assistant", [], {}, [[]], [None], ["x"] * 20),
    *({"type": "text", "text": "x"}, {"role": "user", "content": "x"}, {"type": "json_object"}),
    {"type": "json_schema", "json_schema": {"schema": {"type": "array", "maxItems": 1}}},
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a body, with every key in it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@pytest.mark.model
@pytest.mark.parametrize("path", WHOLES)
def test_changed_requests_are_answered_or_refused(path: str, served: Served) -> None:
    whole = WHOLES[path]
    counts: Counter[int] = Counter()
    for seed in range(N_EXAMPLES):
        dice, body = random.Random(seed), copy.deepcopy(whole)
        for _ in range(dice.choice((1, 1, 2, 4))):
            place, key = dice.choice(list(places(body)))
            if dice.random() < 0.2 and isinstance(place, dict):
                del place[key]
            elif dice.random() < 0.2 and isinstance(place, dict):
                place[dice.choice(list(whole))] = copy.deepcopy(dice.choice(VALUES))
            else:
                place[key] = copy.deepcopy(dice.choice(VALUES))
        reply = served.ask("POST", path, body)
        counts[reply.status] += 1
        assert reply.status < 500, (body, reply.body)
    assert min(counts[200], counts[400]) > N_EXAMPLES / 8, counts


def test_the_description_says_where_a_key_is_needed() -> None:
    keyed = description("a-key")
    assert keyed["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in keyed["paths"].items():
        needed = path.startswith(("/v1/", "/api/", "/tokenize", "/detokenize", "/metrics"))
        for method, operation in methods.items():
            assert operation.get("security") == ([{"key": []}] if needed else None)
            assert "security" not in DESCRIBED["paths"][path][method]


def test_bounds_are_described() -> None:
    known = DESCRIBED["components"]["schemas"]
    assert known["MessageBody"]["properties"]["max_tokens"]["minimum"] == 1
    n_choices = known["ChatBody"]["properties"]["n"]["anyOf"][0]
    assert (n_choices["minimum"], n_choices["maximum"]) == (1, 16)


def test_every_route_is_described(described: Served) -> None:
    routes = {str(getattr(route, "path", "")) for route in described.server.app.routes}
    told = set(DESCRIBED["paths"])
    assert told == {path.replace("{id:path}", "{id}") for path in routes if path}
