"""Answers with tools: the fusion chooses form and format, and refuses what makes no sense."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from scripted import run

from cf_local.errors import InputError
from cf_local.runtime.conversation import without_repeated_calls
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.structured import ResponseFormat
from cf_local.structured.tool_grammar import talk_format, tools_format
from cf_local.structured.tools import Tool, ToolCall, ToolForm, call_text
from cf_local.testing import PieceVocabulary, ScriptedSource, writes
from cf_local.trace import format as trace_format
from cf_local.trace.recording import record
from cf_local.types import Answer, Chat, Message, SourceInfo

NOW = Tool("now", "The time.", {"type": "object", "properties": {"zone": {"type": "string"}}})
CALL = ToolCall("now", '{"zone": "CET"}', "call_1")
ASKED = Chat((Message("user", "When?"),), tools=(NOW,))
ANSWERED = Chat(
    (
        Message("user", "When?"),
        Message("assistant", "", (CALL,)),
        Message("tool", "12:00", tool_call_id="call_1"),
    ),
    tools=(NOW,),
)
TEXT = f"A look.\n{call_text(CALL, 'tags')}"
VOCABULARY = PieceVocabulary([*set(TEXT), " A"])


class Taught(ScriptedSource):
    """A source whose template writes calls in a form."""

    def __init__(self, name: str, n_parameters: int, form: ToolForm | None, text: str) -> None:
        grammars.clear()
        super().__init__(name, VOCABULARY, writes(text, VOCABULARY), obeys=obeys)
        self.info = replace(self.info, n_parameters=n_parameters, tool_form=form)


grammars: list[str] = []


def obeys(grammar: str, _text: bytes, _ends: bool) -> bool:
    grammars.append(grammar)
    return True


def infos(*forms: ToolForm | None) -> list[SourceInfo]:
    return [SourceInfo(f"s{i}", "", tool_form=form) for i, form in enumerate(forms)]


def test_the_form_is_that_of_the_largest_weight() -> None:
    named = Settings(weights={"s0": 1.0, "s1": 2.0})
    assert named.tool_form_of(infos("tags", "json")) == "json"
    assert named.tool_form_of(infos("json", None)) == "tags"
    assert Settings(weights="equal").tool_form_of(infos("json", "tags")) == "json"
    assert named.tool_form_of(infos("json")[:1]) == "json"


def answered(fusion: Fusion, chat: Chat, **more: object) -> Answer:
    return fusion.answer(chat, replace(fusion.settings, **more))  # type: ignore[arg-type]


def test_tools_set_the_format() -> None:
    with Fusion([Taught("a", 1, "tags", TEXT)]) as fusion:
        assert answered(fusion, ASKED).text == TEXT
        assert all("<tool_call>" in grammar for grammar in grammars)
        assert grammars
        grammars.clear()
        answered(fusion, replace(ASKED, tool_choice="none"))
        answered(fusion, replace(ASKED, tools=()))
        assert not grammars
    with Fusion([Taught("a", 1, "tags", TEXT), Taught("b", 5, "json", TEXT)]) as fusion:
        answered(fusion, ASKED)
        assert grammars
        assert not any("<tool_call>" in grammar for grammar in grammars)


def test_no_call_is_imitated_where_none_is_allowed() -> None:
    texts = {"tags": TEXT, "json": call_text(CALL, "json")}
    for form, text in texts.items():
        with Fusion([Taught("a", 1, form, text)]) as fusion:  # type: ignore[arg-type]
            for chat in (replace(ANSWERED, tool_choice="none"), replace(ANSWERED, tools=())):
                grammars.clear()
                answered(fusion, chat)
                assert set(grammars) == {talk_format(form).grammar}  # type: ignore[arg-type]
            assert answered(fusion, chat, stop=("12",)).text == text
            grammars.clear()
            goes_on = Message("assistant", "It is")
            answered(fusion, replace(chat, messages=(*chat.messages, goes_on)))
            assert not grammars


def again(*, result: str = "12:00", arguments: str = '{"zone":"CET"}') -> Chat:
    """The call a second time."""
    call, told = ToolCall("now", arguments, "call_2"), Message("tool", result, (), "call_2")
    return replace(ANSWERED, messages=(*ANSWERED.messages, Message("assistant", "", (call,)), told))


def test_a_call_that_brings_nothing_new_is_not_made_a_third_time() -> None:
    twice, talk = again(), talk_format("tags", is_plain=True).grammar
    thrice = replace(twice, messages=(*twice.messages, *twice.messages[3:]))
    with Fusion([Taught("a", 1, "tags", TEXT)]) as fusion:
        grammars.clear()
        prompts = [answered(fusion, chat).prompt_tokens for chat in (twice, thrice)]
        assert set(grammars) == {talk}
        assert prompts[0] == prompts[1]
        grammars.clear()
        answered(fusion, twice, repetition_guard=False)
        answered(fusion, replace(twice, tool_choice="required"))
        for chat in (again(result="12:01"), again(arguments='{"zone": "EST"}'), ANSWERED):
            answered(fusion, chat)
        assert grammars
        assert talk not in grammars


def test_a_repeated_call_is_left_out_and_the_question_asked_again() -> None:
    kept = without_repeated_calls(again().messages)
    assert kept is not None
    assert kept[:2] == list(ANSWERED.messages[:2])
    (result,) = kept[2:]
    assert result.content.startswith("12:00\n\n")
    assert result.content.endswith("answer in one sentence: When?")
    long = Message("user", "When? " * 1000)
    kept = without_repeated_calls((long, *again().messages[1:]))
    assert kept == [long, *ANSWERED.messages[1:]]
    ask = Message("user", "And now?")
    for chat in (ANSWERED, again(result="12:01")):
        assert without_repeated_calls(chat.messages) is None
    assert without_repeated_calls((*again().messages, ask)) is None
    assert without_repeated_calls((*ANSWERED.messages, ask, *again().messages[3:])) is None


def test_calls_of_one_turn_are_repeated_together() -> None:
    question, call, result = ANSWERED.messages
    both = replace(call, tool_calls=(CALL, replace(CALL, id="call_2")))
    turns = (both, result, replace(result, tool_call_id="call_2"))
    assert without_repeated_calls((question, *turns)) is None
    assert without_repeated_calls((question, *turns, call, result)) is None
    kept = without_repeated_calls((question, *turns, *turns))
    assert kept is not None
    assert kept[:3] == [question, *turns[:2]]
    assert len(kept) == 4


def test_stop_strings_end_talk_and_cut_no_call() -> None:
    for mode in ("cool", "rerank", "cool+r"):
        with Fusion([Taught("a", 1, "tags", TEXT)]) as fusion:
            assert answered(fusion, ASKED, mode=mode, stop=("zone",)).text == TEXT
            assert answered(fusion, ASKED, mode=mode, stop=(" look",)).text == "A"


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        (replace(ASKED, tool_choice="later"), "No tool is named 'later'"),
        (replace(ASKED, tools=(NOW, NOW)), "Two tools"),
        (replace(ASKED, messages=(*ASKED.messages, Message("assistant", "It"))), "cannot continue"),
        (replace(ANSWERED, messages=ANSWERED.messages[:2]), "Add a turn with the result"),
        (replace(ASKED, tools=(replace(NOW, description="\ud800"),)), "lone surrogate"),
        (replace(ASKED, tools=(Tool("f", parameters={"x": ["\ud800"]}),)), "lone surrogate"),
        (
            Chat((Message("assistant", "", (replace(CALL, arguments="\udfff"),)),)),
            "lone surrogate",
        ),
        (replace(ASKED, tools=(Tool("f", parameters={"x": {1}}),)), "not JSON"),
    ],
)
def test_what_makes_no_sense_is_refused(chat: Chat, message: str) -> None:
    with Fusion([Taught("a", 1, "tags", TEXT)]) as fusion, pytest.raises(InputError, match=message):
        fusion.answer(chat)


def test_beside_a_required_form_calls_have_tags() -> None:
    settings = Settings(response_format=ResponseFormat.json_object())
    assert settings.tool_form_of(infos("json")) == "tags"
    with Fusion([Taught("a", 1, "json", TEXT)], settings) as fusion:
        fusion.answer(ASKED)
        assert grammars[0] == tools_format((NOW,), "tags", talk=settings.response_format).grammar
        with pytest.raises(InputError, match="in the form 'tags'"):
            fusion.answer(replace(ASKED, tool_form="json"))


def test_a_required_call_may_come_after_thinking_that_the_prompt_opens() -> None:
    source = Taught("a", 1, "tags", TEXT)
    source.info = replace(source.info, opens_thinking={None: "[THINK]"})
    chat = replace(ASKED, tool_choice="required")
    with Fusion([source]) as fusion:
        fusion.answer(chat)
    wanted = tools_format((NOW,), "tags", choice="required", closing="[/THINK]")
    assert grammars[0] == wanted.grammar != tools_format((NOW,), "tags", choice="required").grammar


def test_a_trace_keeps_tools_and_calls() -> None:
    chat = replace(ANSWERED, tool_form="json", tool_choice="now", parallel_tool_calls=False)
    with Fusion([Taught("a", 1, "tags", TEXT)]) as fusion:
        steps, answer = run(fusion)
        for prompt in (chat, ANSWERED, replace(ASKED, tools=())):
            trace = record(fusion, prompt, Settings(), steps, answer, date="")
            raw = "\n".join(trace_format.lines(trace)).encode()
            (again,) = trace_format.read_from(io.BytesIO(raw), "t")
            assert again.heading is not None
            assert again.heading.prompt == prompt
    assert not {b'"tools"', b'"tool_calls"', b'"tool_form"'} & set(raw.replace(b":", b" ").split())
