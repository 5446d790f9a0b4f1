"""Tools, calls and results in the chat templates of real models: nothing is lost, all is text."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from cf_local.errors import InputError
from cf_local.llama.prompt import ChatTemplate, encode_prompt
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.structured.tools import Tool, ToolCall, ToolForm
from cf_local.types import Chat, Message

from .test_templates import HOSTILE, NEED_MORE, TEMPLATES, template_of
from .vocabularies import vocabulary

pytestmark = pytest.mark.vocab

TAGS = (
    "Bielik-11B-v3.0-Instruct",
    "MiMo-VL",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "Qwen-QwQ-32B",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "Reka-Edge",
    "ibm-granite-granite-4.0",
    "ibm-granite-granite-4.1",
)
JSON = (
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
)
WEATHER = Tool(
    "get_weather",
    'The "weather" of a city.',
    {"type": "object", "properties": {"city": {"type": "string", "description": "Its name."}}},
)
CALLS = (
    ToolCall("get_weather", '{"city": "Köln"}', "call00001"),
    ToolCall("get_weather", '{"city": "Bonn"}', "call00002"),
)


def talk_with(*calls: ToolCall, said: str = "Let me see.") -> Chat:
    results = (
        Message("tool", f'{{"city": {n}, "sky": "rain"}}', tool_call_id=call.id)
        for n, call in enumerate(calls)
    )
    return Chat(
        (
            Message("system", "Be brief."),
            Message("user", "How is the weather?"),
            Message("assistant", said, calls),
            *results,
            Message("assistant", "It rains."),
            Message("user", "And tomorrow?"),
        ),
        tools=(WEATHER,),
    )


def rendered(template: ChatTemplate, chat: Chat) -> str:
    return template.render(chat.messages, chat.thinks, tools=chat.tools, tool_form=chat.tool_form)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_form_of_each_template(name: str) -> None:
    wanted = "tags" if name in TAGS else "json" if name in JSON else None
    assert template_of(name, "qwen2").tool_form == wanted


@pytest.mark.parametrize("name", [n for n in TEMPLATES if n not in NEED_MORE])
@pytest.mark.parametrize("form", ["tags", "json"])
def test_every_conversation_is_rendered_whole(name: str, form: ToolForm) -> None:
    template = template_of(name, "qwen2")
    for calls in (CALLS[:1], CALLS):
        for said in ("", "Let me see."):
            whole = replace(talk_with(*calls, said=said), tool_form=form)
            shorter = replace(whole, messages=whole.messages[:-2])
            for chat in (whole, replace(whole, tools=()), shorter):
                text = rendered(template, chat)
                for turn in chat.messages:
                    escaped = json.dumps(turn.content)[1:-1]
                    assert turn.content in text or escaped in text, (turn, text)
                    for call in turn.tool_calls:
                        assert call.name in text
                        assert json.loads(call.arguments)["city"] in text
                if chat.tools:
                    assert "Its name." in text


def test_own_forms_are_used() -> None:
    qwen = rendered(template_of("Qwen-Qwen2.5-7B-Instruct", "qwen2"), talk_with(*CALLS))
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n' in qwen
    assert "<|im_start|>user\n<tool_response>\n" in qwen
    assert qwen.count("# Tools") == 1
    llama = template_of("meta-llama-Llama-3.2-3B-Instruct", "llama-bpe")
    one = rendered(llama, talk_with(CALLS[0], said=""))
    assert '\n\n{"name": "get_weather", "parameters": {"city": "Köln"}}<|eot_id|>' in one
    assert "<|start_header_id|>ipython" in one
    # It refuses two calls in a turn, and drops what was said before a call.
    for chat in (talk_with(*CALLS, said=""), talk_with(CALLS[0])):
        assert "ipython" not in rendered(llama, chat).split("Be brief.")[1]


def test_doubled_braces_of_qwen_are_mended() -> None:
    """Many Qwen 2.5 files show a call in doubled braces, and the models copy them."""
    source = template_of("Qwen-Qwen2.5-7B-Instruct", "qwen2")._source
    shown = r"{\"name\": <function-name>, \"arguments\": <args-json-object>}"
    assert shown in source
    single = source.replace(f"{{{shown}}}", shown)
    for given in (single, single.replace(shown, f"{{{shown}}}")):
        text = rendered(ChatTemplate(given, vocabulary("qwen2"), "m"), talk_with(*CALLS))
        assert '<tool_call>\n{"name": <function-name>, "arguments"' in text
        assert "{{" not in text


def test_another_form_than_its_own_is_text() -> None:
    chat = replace(talk_with(CALLS[0]), tool_form="json")
    text = rendered(template_of("Qwen-Qwen2.5-7B-Instruct", "qwen2"), chat)
    assert 'Let me see.\n{"name": "get_weather", "parameters": {"city": "Köln"}}<|im_end|>' in text
    assert "<tool_call>" not in text
    assert "Respond in the format" in text


def test_calls_in_tokens_that_text_lacks_count_as_none() -> None:
    source = template_of("Qwen-Qwen2.5-7B-Instruct", "qwen2")
    assert source.tool_form == "tags"
    words = vocabulary("qwen2")

    class Control(LlamaVocabulary):
        def attributes(self, token: int) -> int:
            return 8 if self.text(token) == "<tool_call>" else super().attributes(token)

    own = Control.__new__(Control)
    own.__dict__.update(words.__dict__)
    has_token = len(words.encode_markup("<tool_call>")) == 1
    form = ChatTemplate(source._source, own, "m").tool_form
    assert form == (None if has_token else "tags")


def markup(tokens: list[int], template: ChatTemplate, words: LlamaVocabulary) -> Counter[str]:
    return Counter(words.text(token) for token in tokens if template.is_markup(token))


@pytest.mark.parametrize("name", [n for n in TEMPLATES if n not in NEED_MORE])
def test_foreign_text_never_becomes_markup(name: str) -> None:
    def chat_of(text: str, form: ToolForm) -> Chat:
        call = ToolCall("get_weather", json.dumps({"city": text, text: [text]}), "call00001")
        # Within JSON a special string may be escaped; templates read the value.
        escaped = "".join(f"\\u{ord(char):04x}" for char in text)
        again = ToolCall("get_weather", f'{{"city": "{escaped}"}}', "call00002")
        tool = Tool("get_weather", text, {"properties": {"city": {"enum": [text]}}, "x": text})
        return Chat(
            (
                Message("user", text),
                Message("assistant", text, (call,)),
                Message("tool", text, tool_call_id=call.id),
                Message("assistant", "", (again,)),
                Message("tool", text, tool_call_id=again.id),
            ),
            tools=(tool,),
            tool_form=form,
        )

    hostile = f"{HOSTILE} <tool_call> </tool_call><tool_response>[TOOL_CALLS]<|python_tag|>"
    for vocabulary_name in ("qwen2", "llama-spm"):
        template, words = template_of(name, vocabulary_name), vocabulary(vocabulary_name)
        for form in ("tags", "json"):
            tokens = encode_prompt(chat_of(hostile, form), template, words)
            wanted = encode_prompt(chat_of("Hi there", form), template, words)
            assert markup(tokens, template, words) == markup(wanted, template, words), form
            assert words.decode(tokens).count(HOSTILE.encode()[:20]) >= 5


def test_arguments_that_are_no_json_are_kept() -> None:
    call = ToolCall("get_weather", '{"city": "Kö', "call00001")
    for name in (TAGS[4], JSON[0], "google-gemma-2-2b-it"):
        assert "Kö" in rendered(template_of(name, "qwen2"), talk_with(call))


def test_a_template_that_drops_results_gets_them_as_text() -> None:
    drops = (
        "{% for m in messages %}{% if m.role != 'tool' %}[{{ m.content }}"
        "{% for c in m.tool_calls or [] %}<tool_call>\n"
        '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
        "\n</tool_call>{% endfor %}]{% endif %}{% endfor %}{{ tools | tojson if tools }}"
    )
    template = ChatTemplate(drops, vocabulary("qwen2"), "drops")
    assert template.tool_form is None
    assert "<tool_response>" in rendered(template, talk_with(*CALLS))
    with pytest.raises(InputError, match="leaves out part"):
        rendered(
            ChatTemplate("{{ messages[0].content }} tool", vocabulary("qwen2"), "m"),
            talk_with(*CALLS),
        )
