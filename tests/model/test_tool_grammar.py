"""What an answer with tools may be, text by text, as llama.cpp reads its grammar."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from cf_local.errors import InputError
from cf_local.llama.sampler import Constraint
from cf_local.llama.vocabulary import LlamaVocabulary, open_vocabulary
from cf_local.structured.calls import calls_of
from cf_local.structured.response_format import ResponseFormat
from cf_local.structured.tool_grammar import talk_format, tools_format
from cf_local.structured.tools import Tool, ToolCall, ToolForm, call_text

BUILTIN = Path(__file__).parents[2] / "cf_local" / "builtin"
WEATHER = Tool(
    "get_weather",
    "The weather.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city"],
    },
)
GET, NOW = Tool("get"), Tool("now", parameters={"type": "object", "properties": {}})
TOOLS = (WEATHER, GET, NOW)
NAMES = [tool.name for tool in TOOLS]
PARIS = ToolCall("get_weather", '{"city": "Paris", "days": 3}')


@pytest.fixture(scope="module")
def vocabulary() -> LlamaVocabulary:
    return open_vocabulary(BUILTIN / "ash.gguf")


class Reader:
    """An answer format that reads texts; without tools it is that of talk."""

    def __init__(
        self, vocabulary: LlamaVocabulary, form: ToolForm, tools: tuple[Tool, ...], **more: Any
    ) -> None:
        self._vocabulary = vocabulary
        wanted = tools_format(tools, form, **more) if tools else talk_format(form, **more)
        self._constraint = Constraint(vocabulary, wanted.grammar)

    def accepts(self, text: str) -> bool:
        """Whether ``text`` may be the whole answer."""
        state = self._constraint._at(tuple(self._vocabulary.encode(text.encode())))
        return state is not None and bool(state.allowed(np.array(self._vocabulary.end_tokens))[0])


def tagged(*calls: ToolCall) -> str:
    return "\n".join(call_text(call, "tags") for call in calls)


def test_talk_calls_and_talk_before_calls(vocabulary: LlamaVocabulary) -> None:
    reads = Reader(vocabulary, "tags", TOOLS)
    other = tagged(ToolCall("get_weather", '{"city": "Rom"}'), ToolCall("now", "{}"))
    for text in (
        "",
        "Hello <there>, <tool_ca <<tool_call and {}",
        '{ "name": "Tom", "arguments": 3 }',
        '{"name": "get_", "x": 1}',
        '```json\n{\n "name": 3}\n```',
        "```python\nprint()\n```",
        tagged(PARIS),
        other,
        f"Let me see.\n{other}",
        f"<think>Hm.</think>\n\n{tagged(PARIS)}",
        '{"name": "get_weather", "arguments": {"city": "Paris"}}',
        '```json\n{\n  "name": "get_weather",\n  "arguments": {"city": "Paris"}\n}\n```',
        '<think>a</think>\n{"name": "now", "arguments": {}}',
    ):
        assert reads.accepts(text), text
    for text in (
        f"{tagged(PARIS)} and more",
        f"{tagged(PARIS)}\n",
        tagged(ToolCall("get_time", "{}")),
        tagged(ToolCall("get_weather", "{}")),
        tagged(ToolCall("get_weather", '{"city": "Paris", "days": 0}')),
        tagged(ToolCall("now", '{"zone": "CET"}')),
        "See <<tool_call> what",
        tagged(PARIS)[:-5],
        '{"name": "get_weather", "arguments": {"town": "Paris"}}',
        '{"name": "get_weather", "parameters": {}}',
        '```json\n{"name": "now", "arguments": [1]}\n```',
        '<think>a</think>{"name": "now", "arguments": 1}',
    ):
        assert not reads.accepts(text), text


def test_the_form_json(vocabulary: LlamaVocabulary) -> None:
    reads = Reader(vocabulary, "json", TOOLS)
    call = call_text(PARIS, "json")
    for text in ("", "Talk {}", "<b> {", call, f"<think>{{</think>\n\n{call}", "</think> so"):
        assert reads.accepts(text), text
    for text in ("{", '{"a": 1}', f"{call}\n{call}", "</think> {}", call[:-1]):
        assert not reads.accepts(text), text


@pytest.mark.parametrize("form", ["tags", "json"])
def test_talk_without_calls(vocabulary: LlamaVocabulary, form: ToolForm) -> None:
    reads = Reader(vocabulary, form, ())
    call = call_text(PARIS, form)
    for text in ("", "It is <b>19</b>.", "<think>Hm.</think>\n\n<tool_cal", f"A <{'x' * 3000}"):
        assert reads.accepts(text), text
    for text in (call, f"\n{call}", f"<think>Hm.</think>\n{call}"):
        assert not reads.accepts(text), text
    assert reads.accepts(f"So: {call}") == (form == "json")
    assert reads.accepts('{"name": "Paris"}') == (form == "tags")
    plain = Reader(vocabulary, form, (), is_plain=True)
    assert plain.accepts("It is <b>19</b> {or so}.")
    for text in (call, f"\n{call}", f"<think>Hm.</think>\n{call}", ' {"name": "now"}'):
        assert not plain.accepts(text), text
    assert plain.accepts("```json") == (form == "json")


@pytest.mark.parametrize("form", ["tags", "json"])
def test_calls_may_be_required_and_one_tool_chosen(
    vocabulary: LlamaVocabulary, form: ToolForm
) -> None:
    paris, now = (call_text(call, form) for call in (PARIS, ToolCall("now", "{}")))
    required = Reader(vocabulary, form, TOOLS, choice="required")
    assert required.accepts(paris)
    assert required.accepts(now)
    assert not required.accepts("")
    assert not required.accepts("Talk")
    chosen = Reader(vocabulary, form, TOOLS, choice="now", parallel=False)
    assert chosen.accepts(now)
    assert not chosen.accepts(paris)
    assert not chosen.accepts(f"{now}\n{now}")


@pytest.mark.parametrize("form", ["tags", "json"])
def test_a_required_call_comes_after_thinking_or_ends_it(
    vocabulary: LlamaVocabulary, form: ToolForm
) -> None:
    reads = Reader(vocabulary, form, TOOLS, choice="required", closing="</seed:think>")
    call = call_text(PARIS, form)
    for text in (f"Hm, <so>?\n</seed:think>\n\n{call}", f"</seed:think>{call}"):
        assert reads.accepts(text), text
    for text in ("", "Hm.", "Hm.</seed:think>\n\n", "Hm.</seed:think> So: ", f"{call} and"):
        assert not reads.accepts(text), text
    assert reads.accepts(f"Hm. {call}") == (form == "tags")


def test_an_answer_has_its_form_or_calls(vocabulary: LlamaVocabulary) -> None:
    schema = {
        "type": "object",
        "properties": {"form": {"enum": ['a"root [x] {2} # y', "<tool_call>"]}},
        "required": ["form"],
        "additionalProperties": False,
    }
    form = Tool("form", parameters={**schema, "properties": {"form": {"type": "boolean"}}})
    answers = ResponseFormat.json_schema(schema)
    reads = Reader(vocabulary, "tags", (*TOOLS, form), talk=answers)
    whole = [json.dumps({"form": text}) for text in schema["properties"]["form"]["enum"]]
    for text in (*whole, tagged(PARIS), tagged(PARIS, ToolCall("form", '{"form": true}'))):
        assert reads.accepts(text), text
    for text in (
        "",
        "Talk",
        '{"form": true}',
        f"{whole[0]}\n{tagged(PARIS)}",
        f"\n{tagged(PARIS)}",
    ):
        assert not reads.accepts(text), text
    assert calls_of(whole[1], "tags", has_form=True) == (whole[1], [])
    assert calls_of(tagged(PARIS), "tags", has_form=True) == ("", [PARIS])
    notation = 'root ::= a-b{2} [\\]a"] # a-b\na-b ::= "a-b\\"" | (root-2)\nroot-2 ::= "r"'
    reads = Reader(vocabulary, "tags", TOOLS, talk=ResponseFormat.gbnf(notation))
    for text in ('ra-b""', "rra", "rr]", tagged(PARIS)):
        assert reads.accepts(text), text
    assert not reads.accepts("r")


def test_a_format_is_made_once() -> None:
    def one(value: Any) -> Tool:
        return Tool("f", parameters={"type": "object", "properties": {"a": {"const": value}}})

    assert tools_format([one(1)], "tags") is tools_format([one(1)], "tags")
    grammars = {tools_format([one(value)], "tags").grammar for value in (1, True, "1")}
    assert len(grammars) == 3


def test_long_talk_is_read_in_linear_time(vocabulary: LlamaVocabulary) -> None:
    constraint = Constraint(vocabulary, tools_format(TOOLS, "tags").grammar)
    token = vocabulary.encode(b" and <to")
    times = []
    for _ in range(2):
        start = time.perf_counter()
        for _ in range(2500 // len(token)):
            constraint.commit(token)
        times.append(time.perf_counter() - start)
    assert times[1] < 3 * times[0] + 0.1
    assert constraint._head is not None


# What agents send, and arguments that the grammar must still be able to write.
LOOSE: list[tuple[dict[str, Any], list[Any]]] = [
    ({}, [{}]),
    ({"type": "object"}, [{}]),
    ({"$schema": "x", "type": "object", "additionalProperties": False}, [{}]),
    ({"type": "object", "additionalProperties": True}, [{}, {"a": [1, None]}]),
    ({"type": "object", "patternProperties": {"^x": {"type": "string"}}}, [{}, {"x": "y"}]),
    (
        {"properties": {"a": {"type": "string", "nullable": True}, "b": {"not": {"type": "null"}}}},
        [{"a": None, "b": 1}, {"a": "x"}],
    ),
    (
        {"type": "object", "properties": {"a": {"type": "string", "format": "ipv6"}}},
        [{"a": "::1"}, {}],
    ),
    (
        {"type": "object", "properties": {"n": {"type": "number", "multipleOf": 0.5}}},
        [{"n": 1.5}],
    ),
    (
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}},
        [{"a": "x"}],
    ),
    (
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
        [{"a": None}, {"a": "b"}],
    ),
    (
        {"type": "object", "properties": {"a": {"oneOf": [{"type": "integer"}, {"minimum": 3}]}}},
        [{"a": 2}],
    ),
    (
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"properties": {"b": {"type": "integer"}}},
            ]
        },
        [{"a": "x", "b": 3}],
    ),
    (
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        [{"a": "x"}, {"b": "x"}],
    ),
    (
        {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}, "l": {"items": [{}, {}]}}},
        [{"a": 1, "l": [1, "x"]}],
    ),
    (
        {
            "type": "object",
            "properties": {"t": {"$ref": "#/$defs/t", "description": "A tree."}},
            "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}, "uniqueItems": True}},
        },
        [{"t": [[], [[]]]}],
    ),
    ({"type": ["object", "null"], "properties": {"a": {"enum": [1, 2], "minimum": 0}}}, [{"a": 2}]),
    (
        {"type": "object", "properties": {"a": {"type": "integer", "exclusiveMinimum": True}}},
        [{"a": 5}],
    ),
]


@pytest.mark.parametrize(("schema", "values"), LOOSE)
def test_schemas_of_agents_are_used_as_far_as_they_go(
    vocabulary: LlamaVocabulary, schema: dict[str, Any], values: list[Any]
) -> None:
    reads = Reader(vocabulary, "tags", (Tool("f", parameters=schema),), choice="required")
    for value in values:
        assert reads.accepts(tagged(ToolCall("f", json.dumps(value)))), value
    for wrong in ("1", "null", "{", '{"a" 1}'):
        assert not reads.accepts(tagged(ToolCall("f", wrong))), wrong


def test_strict_tools_name_what_cannot_be_guaranteed() -> None:
    for schema, _ in LOOSE[4:9]:
        with pytest.raises(InputError, match=r"tool 'f'.*(patt|null|not|format|multip)"):
            tools_format([Tool("f", parameters=schema, strict=True)], "tags")
    with pytest.raises(InputError, match=r"tool 'f'.*must be .object"):
        tools_format([Tool("f", parameters={"type": "string"}, strict=True)], "tags")


def test_a_deep_loose_schema_is_no_burden() -> None:
    schema: Any = {"type": "string"}
    for _ in range(50):
        nested = {"type": "array", "items": schema, "maxItems": 10**9}
        schema = {"oneOf": [nested, {"minItems": 3}]}
    start = time.perf_counter()
    tools_format([Tool("f", parameters={"properties": {"a": schema}})], "tags")
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("tools", "choice", "message"),
    [
        ((), "auto", "There are no tools"),
        ((NOW, NOW), "auto", "Two tools"),
        ((Tool('a"b'),), "auto", "cannot be named"),
        ((NOW,), "later", "No tool is named 'later'.*now"),
        ((Tool("f", parameters={"default": {1, 2}}),), "auto", "not JSON"),
    ],
)
def test_tools_that_cannot_be_used(tools: tuple[Tool, ...], choice: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tools_format(tools, "tags", choice=choice)


@pytest.mark.parametrize("form", ["tags", "json"])
def test_what_the_grammar_writes_validates(vocabulary: LlamaVocabulary, form: ToolForm) -> None:
    """Random walks over the allowed tokens; calls that end are valid, and split as written."""
    draw, n_whole = random.Random(1), 0
    constraint = Constraint(vocabulary, tools_format(TOOLS, form, choice="required").grammar)
    everything = np.arange(vocabulary.n_tokens)
    for _ in range(60):
        constraint.restart()
        written: list[int] = []
        while len(written) < 150:
            state = constraint._at(tuple(written))
            assert state is not None
            allowed = everything[state.allowed(everything)]
            token = int(draw.choice(allowed))
            quote = [t for t in allowed if vocabulary.piece(int(t)).startswith((b'"', b"}"))]
            if quote and draw.random() < 0.5:
                token = int(quote[0])
            if token in vocabulary.end_token_set:
                break
            written.append(token)
        else:
            continue
        n_whole += 1
        text = b"".join(map(vocabulary.piece, written)).decode()
        talk, calls = calls_of(text, form, NAMES)
        assert not talk
        assert calls
        schemas = {tool.name: tool.parameters for tool in TOOLS}
        for call in calls:
            jsonschema.validate(json.loads(call.arguments), dict(schemas[call.name]))
    assert n_whole > 10
