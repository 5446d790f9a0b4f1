"""The real client of Anthropic against a real server, and what only this dialect has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from answering import ADD, CALL, SUM, TWO_CALLS, says
from serving import PATIENCE_S, QUESTION, Served, serving, slow

anthropic = pytest.importorskip("anthropic", reason="needs the anthropic package")

ASKED = [{"role": "user", "content": "Well?"}]
TOOLS = [
    {
        "name": ADD["function"]["name"],
        "description": ADD["function"]["description"],
        "input_schema": ADD["function"]["parameters"],
    },
    {"name": "mul", "input_schema": {"type": "object"}},
]


def client_of(served: Served, key: str = "none") -> Any:
    return anthropic.Anthropic(base_url=served.url, api_key=key, max_retries=0, timeout=PATIENCE_S)


def asked(text: str, *, opens: bool = False, **more: Any) -> tuple[Any, list[Any], Any]:
    """The whole message, the events of the same as a stream, and the message they make."""
    with serving(says(text, opens=opens)) as served:
        client = client_of(served)
        given = {"model": "builtin", "messages": ASKED, "max_tokens": 500} | more
        with client.messages.stream(**given) as stream:
            made = stream.get_final_message()
        raw = list(client.messages.create(**given, stream=True))
        return client.messages.create(**given), raw, made


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    with serving(says("A fox ran. It sleeps.")) as served:
        yield served


def ask(served: Served, **more: Any) -> Any:
    body = {"model": "builtin", "messages": ASKED, "max_tokens": 500} | more
    return served.ask("POST", "/v1/messages", body)


# --- Answers --------------------------------------------------------------------------------


def test_text() -> None:
    whole, events, made = asked("A fox ran.")
    assert [(b.type, b.text) for b in whole.content] == [("text", "A fox ran.")]
    assert (whole.role, whole.type, whole.model) == ("assistant", "message", "builtin")
    assert (whole.stop_reason, whole.stop_sequence) == ("end_turn", None)
    assert whole.usage.input_tokens + whole.usage.cache_read_input_tokens == 5
    assert whole.usage.output_tokens > 3
    assert made.content[0].text == "A fox ran."
    assert (made.stop_reason, made.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)
    kinds = [event.type for event in events]
    n_deltas = kinds.count("content_block_delta")
    assert n_deltas >= 3
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * n_deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_talk_and_calls() -> None:
    whole, events, made = asked(TWO_CALLS, tools=TOOLS)
    for message in (whole, made):
        talk, add, mul = message.content
        assert (talk.type, talk.text) == ("text", "Let me see.")
        assert (add.type, add.name, add.input) == ("tool_use", "add", json.loads(SUM))
        assert (mul.type, mul.name, mul.input) == ("tool_use", "mul", {})
        assert message.stop_reason == "tool_use"
    starts = [event for event in events if event.type == "content_block_start"]
    assert [start.index for start in starts] == [0, 1, 2]
    assert len({start.content_block.id for start in starts[1:]}) == 2


def test_thinking() -> None:
    whole, events, made = asked("<think>\nHm.\n</think>\n\nYes.")
    for message in (whole, made):
        thought, text = message.content
        assert (thought.type, thought.thinking) == ("thinking", "\nHm.\n")
        assert thought.signature
        assert (text.type, text.text) == ("text", "Yes.")
    assert whole.usage.output_tokens_details.thinking_tokens > 0
    deltas = [event.delta.type for event in events if event.type == "content_block_delta"]
    assert deltas.index("signature_delta") < deltas.index("text_delta")


def test_stop_sequences(plain: Served) -> None:
    client = client_of(plain)
    given = {"model": "builtin", "messages": ASKED, "max_tokens": 50}
    given["stop_sequences"] = ["nowhere", " It", "sleeps"]
    whole = client.messages.create(**given)
    with client.messages.stream(**given) as stream:
        made = stream.get_final_message()
    for message in (whole, made):
        assert message.content[0].text == "A fox ran."
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " It")


@pytest.mark.parametrize("mode", ["rerank", "cool+r"])
def test_stop_sequences_of_whole_answers(plain: Served, mode: str) -> None:
    reply = ask(plain, model=f"builtin:{mode}", stop_sequences=[" sleeps"]).json
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("stop_sequence", " sleeps")
    reply = ask(plain, model=f"builtin:{mode}", stop_sequences=["nowhere"]).json
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("end_turn", None)


def test_too_few_tokens_are_told(plain: Served) -> None:
    reply = ask(plain, max_tokens=2).json
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("max_tokens", None)
    assert reply["usage"]["output_tokens"] <= 2


def test_a_call_that_is_cut_has_no_input() -> None:
    with serving(says(CALL.format("add", SUM))) as served:
        reply = ask(served, tools=TOOLS, max_tokens=40).json
    (block,) = reply["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "add", {})
    assert reply["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("value", ['"\\ud800"', "1e999", "[" * 2000 + "]" * 2000])
def test_an_input_that_json_cannot_hold_is_empty(value: str) -> None:
    with serving(says(CALL.format("mul", f'{{"x": {value}}}'), n_ctx=100_000)) as served:
        reply = ask(served, tools=TOOLS, max_tokens=50_000)
    assert reply.status == 200
    assert [block["input"] for block in reply.json["content"]] == [{}]


# --- Prompts --------------------------------------------------------------------------------


def counted(served: Served, **body: Any) -> int:
    reply = served.ask("POST", "/v1/messages/count_tokens", {"model": "builtin"} | body)
    assert reply.status == 200, reply.body
    return int(reply.json["input_tokens"])


def test_the_count_is_that_of_the_answer(plain: Served) -> None:
    body = {"system": [{"type": "text", "text": "Be brief."}], "tools": TOOLS, "messages": ASKED}
    n_tokens = counted(plain, **body)
    usage = client_of(plain).messages.create(model="builtin", max_tokens=5, **body).usage
    assert n_tokens == usage.input_tokens + usage.cache_read_input_tokens
    assert n_tokens > counted(plain, messages=ASKED)
    counts = client_of(plain).messages.count_tokens(model="builtin", **body)
    assert counts.input_tokens == n_tokens


def test_turns_are_read_as_those_of_the_chat(plain: Served) -> None:
    blocks = [
        {"role": "user", "content": [{"type": "text", "text": "Add.", "cache_control": {}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm, this is long.", "signature": "x"},
                {"type": "redacted_thinking", "data": "abc"},
                {"type": "text", "text": "So."},
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 2, "b": 3}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "5", "is_error": True},
                {"type": "text", "text": "Go on."},
                {"type": "text", "text": "Now."},
            ],
        },
    ]
    call = {"id": "t1", "function": {"name": "add", "arguments": SUM}}
    turns = [
        {"role": "system", "content": "Brief."},
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "So.", "tool_calls": [call]},
        {"role": "tool", "content": "Error: 5", "tool_call_id": "t1"},
        {"role": "user", "content": "Go on.\nNow."},
    ]
    chat = plain.chat(messages=turns).json["usage"]["prompt_tokens"]
    assert counted(plain, system="Brief.", messages=blocks) == chat


def test_a_last_turn_of_the_assistant_is_continued() -> None:
    with serving() as served:
        asks = [{"role": "user", "content": QUESTION}]
        text = ask(served, messages=asks).json["content"][0]["text"]
        start = text[: text.index(" apples")]
        begun = [*asks, {"role": "assistant", "content": [{"type": "text", "text": start}]}]
        assert start + ask(served, messages=begun).json["content"][0]["text"] == text


def test_a_schema_for_the_answer() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form: dict[str, Any] = {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}
    with serving(says('{"n": 5}')) as served:
        reply = ask(served, output_config=form)
        assert json.loads(reply.json["content"][0]["text"]) == {"n": 5}
        refused = ask(
            served, output_config={"format": {"type": "json_schema", "schema": {"$ref": 1}}}
        )
        assert (refused.status, refused.error["param"]) == (400, "output_config.format")


# --- Refusals -------------------------------------------------------------------------------

IMAGE = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}


@pytest.mark.parametrize(
    ("more", "param", "told"),
    [
        ({"max_tokens": None}, "max_tokens", ""),
        ({"max_tokens": 0}, "max_tokens", ""),
        ({"messages": []}, "messages", ""),
        (
            {"messages": [{"role": "user", "content": [IMAGE]}]},
            "messages[0].content[0].type",
            "'image', which is not supported",
        ),
        (
            {
                "messages": [
                    *ASKED,
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "a", "content": [IMAGE]}
                        ],
                    },
                ]
            },
            "messages[1].content[0].content[0].type",
            "not supported",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", ""),
        ({"tools": [{"name": "add"}]}, "tools[0].input_schema", "Missing"),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "needs tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "sub"}}, "tool_choice", "sub"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name", "Missing"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "Missing"),
        ({"mcp_servers": [{}]}, "mcp_servers", "not supported"),
        ({"system": [IMAGE]}, "system[0].type", "not supported"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    plain: Served, more: dict[str, Any], param: str, told: str
) -> None:
    reply = ask(plain, **more)
    assert (reply.status, reply.json["type"]) == (400, "error"), reply.body
    assert (reply.error["type"], reply.error["param"]) == ("invalid_request_error", param)
    assert told in reply.error["message"]


def test_errors_are_the_clients_own(plain: Served) -> None:
    client = client_of(plain)
    given: dict[str, Any] = {"model": "nonesuch", "messages": ASKED, "max_tokens": 5}
    for stream in (False, True):
        with pytest.raises(anthropic.NotFoundError) as caught:
            client.messages.create(**given, stream=stream)
        assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="nonesuch", messages=ASKED)


def test_an_error_within_a_stream_is_an_event() -> None:
    with serving(slow(), timeout_s=0.5) as served:
        given: dict[str, Any] = {"model": "builtin", "messages": ASKED, "max_tokens": 5000}
        with pytest.raises(anthropic.APIStatusError, match="took longer"):
            list(client_of(served).messages.create(**given, stream=True))
