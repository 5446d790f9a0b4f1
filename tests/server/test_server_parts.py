"""Thinking, calls of tools, and several answers at once, as OpenAI's client gets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from answering import ADD, CALL, MUL, SUM, TWO_CALLS, says
from serving import PATIENCE_S, Served, endless, serving, slow, wait_until

openai = pytest.importorskip("openai", reason="needs the openai package")

ASKED = [{"role": "user", "content": "Well?"}]


def client_of(served: Served) -> Any:
    return openai.OpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    )


def asked(text: str, *, opens: bool = False, **more: Any) -> tuple[Any, list[Any]]:
    """The whole answer, and the chunks of the same answer as a stream."""
    with serving(says(text, opens=opens)) as served:
        create = client_of(served).chat.completions.create
        given = {"model": "builtin", "messages": ASKED} | more
        return create(**given), list(create(**given, stream=True))


def joined(chunks: list[Any], field: str) -> str:
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    return "".join(getattr(delta, field, None) or "" for delta in deltas)


# --- Tools ----------------------------------------------------------------------------------


def test_talk_and_calls() -> None:
    whole, chunks = asked(TWO_CALLS, tools=[ADD, MUL])
    choice = whole.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Let me see.", "tool_calls")
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls]
    assert calls == [("add", SUM), ("mul", "{}")]
    ids = [call.id for call in choice.message.tool_calls]
    assert len(set(ids)) == 2
    assert all(id.startswith("call_") for id in ids)
    pieces = [call for c in chunks for call in c.choices[0].delta.tool_calls or ()]
    starts = [call for call in pieces if call.id]
    assert [(c.index, c.type, c.function.name, c.function.arguments) for c in starts] == [
        (0, "function", "add", ""),
        (1, "function", "mul", ""),
    ]
    for index, (_, arguments) in enumerate(calls):
        told = [c.function.arguments for c in pieces if c.index == index]
        assert "".join(told) == arguments
    assert len(pieces) > 4  # in fragments
    assert joined(chunks, "content") == "Let me see."
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_call_without_tags_is_a_call() -> None:
    whole, chunks = asked('{"name": "mul", "arguments": {}}', tools=[ADD, MUL])
    (call,) = whole.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("mul", "{}")
    assert joined(chunks, "content") == ""


def test_a_call_alone_has_no_content() -> None:
    whole, _ = asked(CALL.format("mul", "{}"), tools=[MUL], tool_choice="required")
    assert whole.choices[0].message.content is None


def test_a_call_that_is_cut_is_cut() -> None:
    whole, _ = asked(CALL.format("add", SUM), tools=[ADD], max_tokens=50)
    choice = whole.choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls[0].function.arguments == '{"a": 2, '


def test_without_tools_a_call_is_text() -> None:
    for more in ({}, {"tools": [ADD], "tool_choice": "none"}):
        whole, _ = asked(CALL.format("add", "{}"), **more)
        assert whole.choices[0].message.content == CALL.format("add", "{}")
        assert whole.choices[0].finish_reason == "stop"


@pytest.mark.model
def test_a_call_of_real_sources_obeys_its_schema(served: Served) -> None:
    done = client_of(served).chat.completions.create(
        model="ash", messages=ASKED, tools=[ADD], max_tokens=120,
        tool_choice={"type": "function", "function": {"name": "add"}},
    )  # fmt: skip
    (call,) = done.choices[0].message.tool_calls
    assert call.function.name == "add"
    if done.choices[0].finish_reason == "tool_calls":
        assert {"a", "b"} <= json.loads(call.function.arguments).keys()


# --- Thinking -------------------------------------------------------------------------------


@pytest.mark.parametrize("opens", [True, False])
def test_thinking_is_apart(opens: bool) -> None:
    text = ("" if opens else "<think>") + "Hm. Two.</think>\n\nTwo, I think."
    whole, chunks = asked(text, opens=opens)
    message = whole.choices[0].message
    assert (message.reasoning_content, message.content) == ("Hm. Two.", "Two, I think.")
    assert joined(chunks, "reasoning_content") == "Hm. Two."
    assert joined(chunks, "content") == "Two, I think."
    assert whole.usage.completion_tokens_details.reasoning_tokens == len("Hm. Two.")
    assert whole.usage.completion_tokens == len(text)


def test_thinking_talk_and_calls() -> None:
    whole, chunks = asked(f"<think>Add.</think>\n\n{TWO_CALLS}", tools=[ADD, MUL])
    message = whole.choices[0].message
    assert (message.reasoning_content, message.content) == ("Add.", "Let me see.")
    assert len(message.tool_calls) == 2
    assert joined(chunks, "reasoning_content") == "Add."


def test_thinking_that_is_cut_is_no_answer() -> None:
    whole, _ = asked("Hm. Two.", opens=True, max_tokens=3)
    assert (whole.choices[0].message.reasoning_content, whole.choices[0].message.content) == (
        "Hm.",
        "",
    )


def test_what_was_no_thinking_is_the_answer() -> None:
    whole, chunks = asked("Two.", opens=True)
    assert whole.choices[0].message.content == "Two."
    assert not hasattr(whole.choices[0].message, "reasoning_content")
    assert joined(chunks, "content") == "Two."


def test_a_required_form_has_no_thinking() -> None:
    form = {"type": "grammar", "grammar": 'root ::= "x"'}
    whole, _ = asked("<think>x", opens=True, response_format=form)
    assert whole.choices[0].message.content == "<think>x"


# --- Several answers at once ----------------------------------------------------------------


@pytest.fixture
def busy() -> Iterator[Served]:
    with serving(slow(n_sessions=3), n_slots=3, n_queue=8) as served:
        yield served


def indexes(served: Served, **more: Any) -> list[int]:
    body = endless(stream=True, **more) | {"max_tokens": 12}
    reply = served.ask("POST", "/v1/chat/completions", body)
    return [event["choices"][0]["index"] for event in reply.events]


def test_answers_of_a_request_are_written_at_once(busy: Served) -> None:
    order = indexes(busy, n=3)
    assert set(order) == {0, 1, 2}
    changes = sum(a != b for a, b in pairwise(order))
    assert changes > 10  # they take turns
    busy.wait_for("cf_local_running", 0)
    assert [busy.server.pool._entries[0].gate._n_free] == [3]


def test_answers_of_a_request_wait_for_nobodys_slot(busy: Served) -> None:
    others = [busy.open(endless(stream=True)) for _ in range(2)]
    busy.wait_for("cf_local_running", 2)
    assert indexes(busy, n=3) == sorted(indexes(busy, n=3))  # one after the other
    for sock in others:
        sock.close()


def test_who_waits_gets_a_slot_before_the_next_answer(busy: Served) -> None:
    long = busy.open(endless(stream=True, n=16) | {"max_tokens": 200})
    busy.wait_for("cf_local_running", 1)
    for _ in range(3):
        assert busy.chat(max_tokens=2).status == 200
    long.close()
    busy.wait_for("cf_local_running", 0)
    assert busy.server.pool._entries[0].gate._n_free == 3


def test_who_goes_is_given_no_answer_at_all(busy: Served) -> None:
    sock = busy.open(endless(n=3))
    busy.wait_for("cf_local_running", 1)
    wait_until(lambda: busy.server.pool._entries[0].gate._n_free == 0, "all three are written")
    sock.close()
    busy.wait_for("cf_local_running", 0)
    assert busy.figure('cf_local_answers_total{end="given_up",model="builtin"}') == 3
    assert busy.server.pool._entries[0].gate._n_free == 3


def test_one_answer_that_fails_ends_the_request() -> None:
    with serving(slow(n_sessions=3), n_slots=3, timeout_s=0.3) as served:
        for stream in (False, True):
            reply = served.ask("POST", "/v1/chat/completions", endless(n=3, stream=stream))
            assert reply.body.count(b"(--timeout)") == 1
            served.wait_for("cf_local_running", 0)
        assert served.server.pool._entries[0].gate._n_free == 3


@pytest.mark.model
def test_tokens_that_were_read_before_are_told(served: Served) -> None:
    ask = client_of(served).chat.completions.create
    messages = [{"role": "user", "content": "What is 61 + 17?"}]
    first = ask(model="builtin", messages=messages, max_tokens=8)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "And 1 + 1?"},
    ]
    second = ask(model="builtin", messages=messages, max_tokens=2)
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert 10 < cached < second.usage.prompt_tokens


# --- Names ----------------------------------------------------------------------------------


def test_aliases_are_models() -> None:
    with serving(slow(" fox.", pass_s=0), aliases={"gpt-4o-mini": "builtin:rerank"}) as served:
        reply = served.chat(model="gpt-4o-mini", cf_local={"trace": True})
        assert reply.json["model"] == "gpt-4o-mini"
        assert reply.json["choices"][0]["cf_local"]["answer"]["mode"] == "rerank"
        assert served.chat(model="gpt-4o-mini:cool").status == 200
        models = {m["id"]: m["cf_local"] for m in served.ask("GET", "/v1/models").json["data"]}
        assert models["gpt-4o-mini"]["sources"] == models["builtin"]["sources"]
        assert [name for name, about in models.items() if about["default"]] == ["builtin"]
        assert served.ask("GET", "/v1/models/gpt-4o-mini").json["id"] == "gpt-4o-mini"


def test_an_unknown_model_names_those_that_are_here() -> None:
    with serving(slow(" fox.", pass_s=0)) as served:
        message = served.chat(model="gpt-9").error["message"]
        assert "The models here are builtin, ash, birch, cedar" in message
        assert "laptop" not in message


def test_any_name_can_be_answered() -> None:
    with serving(slow(" fox.", pass_s=0), answers_any=True) as served:
        for name in ("gpt-9", "org/model:7b"):
            reply = served.chat(model=name)
            assert (reply.status, reply.json["model"]) == (200, name)
