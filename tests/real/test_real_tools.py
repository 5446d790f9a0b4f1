"""Real models call tools: the calls parse and obey their schemas, alone and fused."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

import cf_local
from cf_local.runtime.fusion import Fusion
from cf_local.structured.calls import calls_of
from cf_local.structured.tools import Tool, ToolCall
from cf_local.types import Answer, Chat, Message

from . import models

pytestmark = pytest.mark.real

WEATHER = Tool(
    "get_weather",
    "Get the current weather of a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city"],
    },
)
CALCULATE = Tool(
    "calculate",
    "Compute an arithmetic expression.",
    {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
)
TOOLS = (WEATHER, CALCULATE)
NAMES = [tool.name for tool in TOOLS]
SETTINGS = cf_local.Settings(max_tokens=80)


def asked(question: str, choice: str = "auto") -> Chat:
    return Chat((Message("user", question),), tools=TOOLS, tool_choice=choice)


def calls_in(answer: Answer) -> list[ToolCall]:
    """The calls of a complete answer, checked."""
    assert answer.finish_reason == "stop"
    _, calls = calls_of(answer.text, "tags", NAMES)
    schemas = {tool.name: dict(tool.parameters) for tool in TOOLS}
    for call in calls:
        jsonschema.validate(json.loads(call.arguments), schemas[call.name])
    return calls


@pytest.fixture(scope="module", params=["alone", "pair"])
def fusion(request: pytest.FixtureRequest, set_a: Fusion, pair: Fusion) -> Fusion:
    return pair if request.param == "pair" else set_a.of((models.QWEN,), SETTINGS)


def test_each_template_has_its_form(set_a: Fusion) -> None:
    forms = {source.info.name: source.info.tool_form for source in set_a.sources}
    assert forms == {models.SMOLLM2: None, models.GEMMA: None, models.QWEN: "tags"}


def test_the_right_tool_is_called(fusion: Fusion) -> None:
    for question, name, part in (
        ("What is the weather in Paris right now?", "get_weather", "Paris"),
        ("What is 37 times 91? Use the calculator.", "calculate", "37"),
    ):
        for choice in ("auto", "required"):
            (call,) = calls_in(fusion.answer(asked(question, choice), SETTINGS))
            assert call.name == name
            assert part in call.arguments


def test_talk_stays_talk(fusion: Fusion) -> None:
    answer = fusion.answer(asked("Write one sentence about the sea."), SETTINGS)
    assert not calls_in(answer)
    assert "sea" in answer.text


def test_one_tool_can_be_chosen(fusion: Fusion) -> None:
    (call,) = calls_in(fusion.answer(asked("How is the weather in Paris?", "calculate"), SETTINGS))
    assert call.name == "calculate"


def test_every_source_reads_tools_calls_and_results(set_a: Fusion) -> None:
    made = ToolCall("get_weather", '{"city": "Ulm"}', "call_1")
    result = Message("tool", '{"temperature": 17, "sky": "rain"}', tool_call_id="call_1")
    question = asked("How is the weather?")
    turns = (*question.messages, Message("assistant", "", (made,)), result)
    for source in set_a.sources:
        tokens = source.encode(replace(question, messages=turns, tool_form="tags"))
        text = source.vocabulary.decode(tokens).decode()
        assert '"arguments": {"city": "Ulm"}}' in text
        assert result.content in text
        assert CALCULATE.description in text


def test_the_tags_of_calls_are_tokens_of_their_own(set_a: Fusion) -> None:
    """In Qwen's vocabulary the tags are one token each, in the others many."""
    text = b'<tool_call>\n{"name": "calculate"'
    for source in set_a.sources:
        ends = source.sessions[0].token_ends(text)
        assert ends >= {len(b"<tool_call>"), len(text)}
        is_one = not any(end in ends for end in range(1, 11))
        assert is_one == (source.info.name == models.QWEN)
