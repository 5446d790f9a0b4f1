"""The text of an answer as its parts: thinking, talk and calls, however it arrives."""

from __future__ import annotations

import json

import pytest

from cf_local.server.choice import CallStart, PartSplitter, Reasoning
from cf_local.settings import Settings
from cf_local.structured import ResponseFormat
from cf_local.structured.calls import CallArguments, Text
from cf_local.structured.tools import Tool, ToolCall, call_text
from cf_local.types import Chat, Message, SourceInfo

NOW = Tool("now", "The time.")
CALL = call_text(ToolCall("now", "{}"), "tags")
THINKS = SourceInfo("m", "", opens_thinking={None: "<think>"})


def parts(text: str, size: int, settings: Settings, choice: str = "auto") -> dict[str, str]:
    """What each kind of part adds up to, of a text that arrives in pieces."""
    chat = Chat((Message("user", "When?"),), tools=(NOW,), tool_choice=choice)
    splitter = PartSplitter(chat, settings, [THINKS])
    found = [p for i in range(0, len(text), size) for p in splitter.feed(text[i : i + size])]
    found += splitter.flush(is_whole=True)
    assert not splitter.took_for_thinking
    sums = dict.fromkeys(("reasoning", "text", "calls", "arguments"), "")
    for part in found:
        match part:
            case Reasoning(said):
                sums["reasoning"] += said
            case Text(said):
                sums["text"] += said
            case CallStart(_, _, name):
                sums["calls"] += name
            case CallArguments(_, said):
                sums["arguments"] += said
    return {kind: said for kind, said in sums.items() if said}


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_call_within_thinking_is_a_call(size: int) -> None:
    called = {"reasoning": "Hm. <tool", "calls": "now", "arguments": "{}"}
    for choice in ("auto", "required"):
        assert parts(f"Hm. <tool{CALL}", size, Settings(), choice) == called
        assert parts(f"Hm. <tool</think>\n\n{CALL}", size, Settings(), choice) == called
    said = {"reasoning": "Hm. <tool", "text": "Noon."}
    assert parts("Hm. <tool</think>\n\nNoon.", size, Settings()) == said


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_beside_a_form_an_answer_is_talk_or_calls(size: int) -> None:
    settings = Settings(response_format=ResponseFormat.json_object())
    for value in ("<tool_call>", "now", "</think>"):
        text = json.dumps({"name": value, "arguments": {}})
        assert parts(text, size, settings) == {"text": text}
    assert parts(CALL, size, settings) == {"calls": "now", "arguments": "{}"}


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_answer_without_a_thought_comes_once(size: int) -> None:
    assert parts("</think>\n\nNoon.", size, Settings()) == {"text": "Noon."}
    assert parts(f"</think>\n\n{CALL}", size, Settings()) == {"calls": "now", "arguments": "{}"}
