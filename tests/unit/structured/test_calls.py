"""Talk and calls in the text of an answer, however it arrives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_local.method.output import TextStream
from cf_local.structured.calls import (
    CallArguments,
    CallPiece,
    CallSplitter,
    CallStart,
    TalkEnd,
    Text,
    calls_of,
)
from cf_local.structured.tools import ToolCall, ToolForm, call_text

NAMES = ("get_weather", "get", "now")
WEATHER = ToolCall("get_weather", '{"city": "Paris", "note": "}]\\"<tool_call>"}')
NOW = ToolCall("now", "{}")
TAGGED = f"{call_text(WEATHER, 'tags')}\n{call_text(NOW, 'tags')}"
TEXTS: list[tuple[str, ToolForm]] = [
    ("Just talk <tool> {", "tags"),
    (f"Let me see.\n\n{TAGGED}", "tags"),
    (TAGGED, "tags"),
    (f'```json\n{{\n  "name": "now", "arguments": {NOW.arguments}}}\n```', "tags"),
    ('{"name": "nobody", "arguments": {}}', "tags"),
    (f"<think>Hm, <tool</think>\n\n{call_text(NOW, 'tags')[12:-13]}", "tags"),
    (call_text(WEATHER, "json"), "json"),
    (f"<think>a{{</think> {call_text(WEATHER, 'json')}", "json"),
    (' Talk {"name": "now"} </thin', "json"),
]


def joined(pieces: list[CallPiece]) -> list[CallPiece]:
    """The pieces, with neighbours of one kind as one."""
    found: list[CallPiece] = []
    for piece in pieces:
        last = found[-1] if found else None
        if isinstance(piece, Text) and isinstance(last, Text):
            found[-1] = Text(last.text + piece.text)
        elif isinstance(piece, CallArguments) and isinstance(last, CallArguments):
            found[-1] = CallArguments(last.index, last.text + piece.text)
        else:
            found.append(piece)
    return found


def split(parts: list[str], form: ToolForm) -> list[CallPiece]:
    splitter = CallSplitter(form, NAMES)
    pieces = [piece for part in parts for piece in splitter.feed(part)]
    return joined([*pieces, *splitter.flush()])


def test_talk_and_calls() -> None:
    assert calls_of(f"Let me see. \n{TAGGED}", "tags") == ("Let me see.", [WEATHER, NOW])
    assert calls_of(call_text(WEATHER, "json"), "json") == ("", [WEATHER])
    assert calls_of("Talk.\n", "tags") == ("Talk.\n", [])


def test_bare_calls_are_those_of_known_tools() -> None:
    bare = call_text(NOW, "tags")[12:-13]
    assert calls_of(bare, "tags", NAMES) == ("", [NOW])
    assert calls_of(f"```json\n{bare}\n```", "tags", NAMES) == ("", [NOW])
    assert calls_of(f"<think>x</think>\n{bare}", "tags", NAMES) == ("<think>x</think>", [NOW])
    assert calls_of(bare, "tags") == (bare, [])
    assert calls_of(f"Like so: {bare}", "tags", NAMES) == (f"Like so: {bare}", [])


@pytest.mark.parametrize(("text", "form"), TEXTS)
def test_every_way_to_cut_a_text_gives_the_same(text: str, form: ToolForm) -> None:
    whole = split([text], form)
    assert split(list(text), form) == whole
    for at in range(len(text)):
        assert split([text[:at], text[at:]], form) == whole


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text("<tool_call>/\n {}\"'`json:name\\", max_size=8),
            st.sampled_from(
                [
                    "<tool_call>",
                    "</think>",
                    '{"name": "',
                    '"',
                    ', "arguments": {',
                    "get",
                    "}",
                    TAGGED,
                ]
            ),
        )
    ),
    st.sampled_from(["tags", "json"]),
)
def test_any_chunks_give_the_same(parts: list[str], form: ToolForm) -> None:
    assert split(parts, form) == split(["".join(parts)], form)
    if not any(isinstance(piece, CallStart) for piece in split(parts, form)):
        talk, _ = calls_of("".join(parts), form, NAMES)
        assert "".join(parts).startswith(talk)


@pytest.mark.parametrize("n", range(len(TAGGED)))
def test_a_cut_call_is_reported_as_far_as_it_came(n: int) -> None:
    talk, calls = calls_of(f"See:\n{TAGGED[:n]}", "tags")
    assert talk.startswith("See:")
    for call, whole in zip(calls, (WEATHER, NOW), strict=False):
        assert call.name == whole.name
        assert whole.arguments.startswith(call.arguments)
    assert len(calls) == (n > TAGGED.index('weather"') + 7) + (n > TAGGED.index('now"') + 3)


def stopped(text: str, stop: str, form: ToolForm) -> str:
    """What a stream shows of a text that arrives character by character."""
    stream = TextStream((stop,), TalkEnd(form, NAMES))
    return "".join(stream.feed(char.encode()) for char in text) + stream.flush()


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("One. Two.", " Tw", "One."),
        ("A <tool b", "<", "A "),
        ("A <tool", "<tool", "A "),
        (f"Well.\n{TAGGED}", "Paris", f"Well.\n{TAGGED}"),
        (f"Well.\n{TAGGED}", "<tool", f"Well.\n{TAGGED}"),
        (f"Well.\n{TAGGED}", "\n<tool", f"Well.\n{TAGGED}"),
        (f"Well.\n{TAGGED}", "\n", "Well."),
        (f"Well.\n{TAGGED}", "ell", "W"),
    ],
)
def test_stop_strings_end_talk_and_cut_no_call(text: str, stop: str, shown: str) -> None:
    assert stopped(text, stop, "tags") == shown


def test_a_call_of_bare_json_is_not_cut_either() -> None:
    assert stopped(call_text(WEATHER, "json"), "Paris", "json") == call_text(WEATHER, "json")
    assert stopped('Talk {"a"', "{", "json") == "Talk "
