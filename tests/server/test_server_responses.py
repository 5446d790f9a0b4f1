"""The real client of OpenAI's Responses against a real server, and what only they have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from answering import ADD, CALL, SUM, TWO_CALLS, says
from dialects import typed_events
from pydantic import BaseModel
from serving import PATIENCE_S, QUESTION, Served, serving, slow

from cf_local.server.response_store import ResponseStore
from cf_local.types import Message

openai = pytest.importorskip("openai", reason="needs the openai package")

TOOLS = [
    {"type": "function", **ADD["function"]},
    {"type": "function", "name": "mul", "parameters": {"type": "object"}},
]
IMAGE = {"type": "input_image", "image_url": "https://a.example/b.png"}


def client_of(served: Served) -> Any:
    return openai.OpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    )


def asked(text: str, **more: Any) -> tuple[Any, list[Any]]:
    """The whole response, and the events of the same as a stream."""
    with serving(says(text)) as served:
        client = client_of(served)
        given = {"model": "builtin", "input": "Well?"} | more
        with client.responses.stream(**given) as stream:
            events = list(stream)
        assert list(client.responses.create(**given, stream=True))
        return client.responses.create(**given), events


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    with serving(says("A fox ran. It sleeps.")) as served:
        yield served


def ask(served: Served, **more: Any) -> Any:
    body = {"model": "builtin", "input": "Well?"} | more
    return served.ask("POST", "/v1/responses", body)


# --- Answers --------------------------------------------------------------------------------


def test_text() -> None:
    whole, events = asked(
        "A fox ran.", instructions="Be brief.", metadata={"a": "b"}, temperature=0.0
    )
    last = events[-1].response
    for response in (whole, last):
        assert response.output_text == "A fox ran."
        assert (response.status, response.error) == ("completed", None)
        assert (response.metadata, response.instructions) == ({"a": "b"}, "Be brief.")
        assert (response.temperature, response.model) == (0.0, "builtin")
        assert response.usage.input_tokens > 5
    kinds = [event.type.removeprefix("response.") for event in events]
    n_deltas = kinds.count("output_text.delta")
    assert n_deltas >= 3
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *["output_text.delta"] * n_deltas,
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]


def test_talk_and_calls() -> None:
    whole, events = asked(TWO_CALLS, tools=TOOLS)
    for response in (whole, events[-1].response):
        talk, add, mul = response.output
        assert (talk.type, response.output_text) == ("message", "Let me see.")
        assert (add.type, add.name, json.loads(add.arguments)) == (
            *("function_call", "add"),
            json.loads(SUM),
        )
        assert mul.arguments == "{}"
        assert add.call_id != mul.call_id
        assert response.tools[0].name == "add"
    done = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert [json.loads(event.arguments) for event in done] == [json.loads(SUM), {}]


@pytest.mark.parametrize("summary", [None, "auto"])
def test_thinking(summary: str | None) -> None:
    whole, events = asked("<think>\nHm.\n</think>\n\nYes.", reasoning={"summary": summary})
    for response in (whole, events[-1].response):
        thought = response.output[0]
        (part,) = thought.summary if summary else thought.content
        assert (thought.type, part.text) == ("reasoning", "\nHm.\n")
        assert response.output_text == "Yes."
        assert response.usage.output_tokens_details.reasoning_tokens > 0
    name = "reasoning_summary_text" if summary else "reasoning_text"
    deltas = [event.delta for event in events if event.type == f"response.{name}.delta"]
    assert "".join(deltas) == "\nHm.\n"


def test_an_answer_is_parsed() -> None:
    class Found(BaseModel):
        n: int

    with serving(says('{"n": 5}')) as served:
        found = client_of(served).responses.parse(model="builtin", input="Well?", text_format=Found)
    assert found.output_parsed == Found(n=5)
    assert found.text.format.type == "json_schema"


def test_what_is_cut_is_incomplete(plain: Served) -> None:
    response = client_of(plain).responses.create(
        model="builtin", input="Well?", max_output_tokens=2
    )
    assert response.status == response.output[0].status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.model
def test_logprobs_are_those_of_the_chat() -> None:
    include = ["message.output_text.logprobs"]
    with serving() as served:
        chat = served.chat(logprobs=True, top_logprobs=2).json["choices"][0]["logprobs"]["content"]
        given = {"input": QUESTION, "include": include, "top_logprobs": 2}
        part = ask(served, **given).json["output"][0]["content"][0]
        *_, done, _, _, _ = typed_events(ask(served, **given, stream=True))
    assert part["logprobs"] == done["logprobs"] == chat
    assert len(chat) > 5


# --- What is kept ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keeping() -> Iterator[Any]:
    with serving(says("A fox ran.")) as served:
        yield client_of(served)


def test_a_response_goes_on_from_another(keeping: Any) -> None:
    create = keeping.responses.create
    first = create(model="builtin", input="Well?", instructions="Only now: be brief.")
    second = create(model="builtin", input="And?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    turns = [
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": "A fox ran."},
        {"role": "user", "content": "And?"},
    ]
    same = create(model="builtin", input=turns, store=False)
    assert second.usage.input_tokens == same.usage.input_tokens
    third = create(model="builtin", input="So?", previous_response_id=second.id)
    assert third.usage.input_tokens > second.usage.input_tokens


def test_a_stream_is_kept_too(keeping: Any) -> None:
    with keeping.responses.stream(model="builtin", input="Well?") as stream:
        last = stream.get_final_response()
    assert keeping.responses.retrieve(last.id).output_text == "A fox ran."


def test_what_is_kept_is_shown_and_forgotten(keeping: Any) -> None:
    whole = keeping.responses.create(model="builtin", input="Well?")
    assert keeping.responses.retrieve(whole.id).to_dict() == whole.to_dict()
    keeping.responses.delete(whole.id)
    for work in (keeping.responses.retrieve, keeping.responses.delete):
        with pytest.raises(openai.NotFoundError, match="not found"):
            work(whole.id)
    with pytest.raises(openai.BadRequestError, match="not found") as caught:
        keeping.responses.create(model="builtin", input="And?", previous_response_id=whole.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


def test_what_shall_not_be_stored_is_not_kept(keeping: Any) -> None:
    for stream in (False, True):
        made = keeping.responses.create(model="builtin", input="Well?", store=False, stream=stream)
        id = [*made][-1].response.id if stream else made.id
        with pytest.raises(openai.NotFoundError):
            keeping.responses.retrieve(id)


def test_a_call_its_result_and_the_answer() -> None:
    with serving(says(CALL.format("add", SUM))) as served:
        client = client_of(served)
        first = client.responses.create(model="builtin", input="2 + 3?", tools=TOOLS)
        (call,) = first.output
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "5"}
        told = client.responses.create(
            model="builtin", input=[result], previous_response_id=first.id
        )
        asks = {"role": "user", "content": "2 + 3?"}
        thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "x", "text": "Hm."}]}
        given = [asks, thought, call.to_dict(), result]
        again = client.responses.create(model="builtin", input=given)
    assert told.usage.input_tokens == again.usage.input_tokens > 20


def test_only_so_much_is_kept() -> None:
    def body(number: int, text: str = "") -> dict[str, Any]:
        return {"id": f"resp_{number}", "text": text}

    store = ResponseStore(n_most=3, n_most_bytes=10_000)
    for number in range(5):
        store.add(body(number), [Message("user", "Hi")])
    assert [store.get(f"resp_{n}") is not None for n in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert store.delete("resp_3")
    assert not store.delete("resp_3")
    store.add(body(5, "x" * 8500), [])
    assert store.get("resp_4") is not None
    store.add(body(6), [Message("user", "y" * 1500)])
    assert [store.get(f"resp_{n}") is None for n in (2, 4, 5, 6)] == [True, True, True, False]
    store.add(body(7, "z" * 20_000), [])  # more than all may take
    assert [store.get(f"resp_{n}") for n in (6, 7)] == [None, None]


# --- Refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "param", "told"),
    [
        ({"input": []}, "input", ""),
        ({"input": [{"type": "reasoning"}]}, "input", "no turn"),
        ({"input": [{"type": "reasoning"}], "instructions": "Go."}, "input", "no turn"),
        ({"input": [{"role": "user", "content": [IMAGE]}]}, "input[0].content[0].type", "image"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type", "not supported"),
        ({"input": [{"type": "function_call", "call_id": "a"}]}, "input[0].name", "Missing"),
        ({"input": [{"type": {}}]}, "input[0].type", ""),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "not supported"),
        ({"tool_choice": "required"}, "tool_choice", "needs tools"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "name": "sub"}},
            "tool_choice",
            "sub",
        ),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type", "not supported"),
        ({"text": {"format": {"type": "json_schema", "schema": {"$ref": 1}}}}, "text.format", ""),
        ({"background": True}, "background", "not supported"),
        ({"conversation": "conv_1"}, "conversation", "not supported"),
        ({"max_output_tokens": 0}, "max_output_tokens", ""),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", ""),
        ({"metadata": {"a": 1}}, "metadata.a", ""),
        ({"tools": [{**TOOLS[0], "parameters": {"x": "\ud800"}}]}, "tools", "half"),
        ({"tools": [{**TOOLS[0], "parameters": {"x": 10**400}}]}, None, None),
    ],
)
def test_what_cannot_be_kept_is_refused(
    plain: Served, more: dict[str, Any], param: str | None, told: str | None
) -> None:
    reply = ask(plain, **more)
    if told is None:
        assert reply.status in (200, 400)
        return
    assert (reply.status, reply.error["param"]) == (400, param), reply.body
    assert told in reply.error["message"]


def test_allowed_tools_are_a_choice() -> None:
    allowed = {"type": "allowed_tools", "mode": "required"}
    allowed["tools"] = [{"type": "function", "name": "add"}]  # type: ignore[assignment]
    with serving(says(CALL.format("add", SUM))) as served:
        reply = ask(served, tools=TOOLS, tool_choice=allowed).json
    assert [item["name"] for item in reply["output"]] == ["add"]
    assert reply["tool_choice"] == allowed


def test_a_stream_that_fails_says_so() -> None:
    with serving(slow(), timeout_s=0.5, first_s=0.05) as served:
        events = typed_events(ask(served, max_output_tokens=5000, stream=True))
        assert events[-1]["type"] == "response.failed"
        assert events[-1]["response"]["error"]["code"] == "server_error"
        assert "took longer" in events[-1]["response"]["error"]["message"]
        events = typed_events(ask(served, stream=True, cf_local={"mode": "rerank"}))
        assert [event["type"].rpartition(".")[2] for event in events] == [
            *("created", "in_progress", "failed")
        ]


def test_other_origins_may_delete() -> None:
    origin = {"Origin": "https://a.example"}
    with serving(says("Yes."), allowed_origins=("https://a.example",)) as served:
        asks = origin | {"Access-Control-Request-Method": "DELETE"}
        assert served.ask("OPTIONS", "/v1/responses/x", headers=asks).status == 200
