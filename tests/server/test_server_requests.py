"""What requests may say: defaults, limits, and what a fusion does not do."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cf_local.errors import InputError
from cf_local.server.api_errors import ApiError
from cf_local.server.bodies import check_known, error_of
from cf_local.server.dialects import chat as chats
from cf_local.server.dialects import completions
from cf_local.server.dialects.dialect import Dialect
from cf_local.server.dialects.fields import Extension
from cf_local.server.requests import AnswerRequest
from cf_local.settings import OPTIONS, Settings
from cf_local.structured.tools import Tool, ToolCall
from cf_local.types import Chat, Infill, Message, Prompt, RawText, SourceInfo, Tokens

ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
SOURCES = [SourceInfo("a", ""), SourceInfo("b", "")]
PROMPTED = {"model": "m", "prompt": "Once"}
TOOLS = [{"type": "function", "function": {"name": "add"}}]


def parsed(body: Any, dialect: Dialect = chats.DIALECT) -> AnswerRequest:
    try:
        model = dialect.body.model_validate(body)
    except ValidationError as error:
        raise error_of(error.errors(), body) from None
    check_known(model.ignored(), list(dialect.body.model_fields))
    return dialect.prepare(model)[0]


def chat(**more: Any) -> AnswerRequest:
    return parsed(ASKED | more)


def refusal(body: Any, dialect: Dialect = chats.DIALECT) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parsed(body, dialect)
    assert caught.value.status == 400
    return caught.value


def test_what_is_left_out_is_the_fusions_own() -> None:
    defaults = Settings(mode="cool+r", max_tokens=7, stop=("\nUser:",))
    ask = chat(temperature=None, stop=None, n=None, cf_local=None, max_tokens=None)
    settings = ask.settings_over(defaults, SOURCES, 5)
    assert (settings.mode, settings.max_tokens, settings.stop) == ("cool+r", 7, ("\nUser:",))
    assert settings.sampling.temperature == 0
    assert not settings.all_scores  # which nobody would see
    assert ask.prompts == (Chat((Message("user", "Hi"),)),)


def test_what_is_given_overrules() -> None:
    extension = {"mode": "rerank", "score": "perplexity", "weights": {"b": 2}, "min_p": 0.1}
    ask = chat(stop="x", temperature=1, top_p=0.5, max_tokens=3.0, cf_local=extension, seed=-1)
    assert ask.settings["seed"] == -1
    settings = ask.settings_over(Settings(stop=("y",)), SOURCES, -1)
    assert (settings.mode, settings.score, settings.weights) == ("rerank", "perplexity", {"b": 2})
    assert settings.stop == ("y", "x")
    assert settings.max_tokens == 3
    sampling = settings.sampling
    assert (sampling.temperature, sampling.top_p, sampling.min_p, sampling.seed) == (
        1,
        0.5,
        0.1,
        -1,
    )


def test_choices_of_several_prompts() -> None:
    ask = parsed(PROMPTED | {"prompt": ["a", "b"], "n": 2}, completions.DIALECT)
    assert [(i, p) for i, p, _ in ask.choices(1)] == [
        (0, RawText("a")),
        (1, RawText("a")),
        (2, RawText("b")),
        (3, RawText("b")),
    ]
    first, second, *others = [seed for *_, seed in ask.choices(1)]
    assert first != second
    assert others == [first, second]


def test_an_unknown_source_is_told() -> None:
    ask = chat(cf_local={"weights": {"zoe": 1}})
    with pytest.raises(InputError, match="no source is named 'zoe'; the sources are a, b"):
        ask.settings_over(Settings(), SOURCES, 5)


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "custom"}]},
        {"functions": [{}]},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "x"}},
        {"prediction": {}},
        {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]},
        {"messages": [{"role": "assistant", "audio": {"id": "x"}}]},
        {"messages": [{"role": "function", "content": "x", "name": "y"}]},
        {"messages": [{"role": "assistant", "function_call": {"name": "y"}}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
    ],
)
def test_what_a_fusion_does_not_do(more: dict[str, Any]) -> None:
    error = refusal(ASKED | more)
    assert error.code == "unsupported_parameter"
    assert error.param
    assert error.param.startswith(next(iter(more)))


def test_what_a_completion_does_not_do() -> None:
    assert refusal(PROMPTED | {"best_of": 2}, completions.DIALECT).code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("more", "prompt"),
    [
        ({}, RawText(PROMPTED["prompt"])),
        ({"echo": True, "max_tokens": 0}, RawText(PROMPTED["prompt"])),
        ({"suffix": "x"}, Infill(PROMPTED["prompt"], "x")),
        ({"prompt": "", "suffix": "x"}, Infill("", "x")),
        ({"prompt": [1, 2.0]}, Tokens((1, 2))),
        ({"prompt": [[1], [2, 3]]}, Tokens((1,))),
        ({"prompt": ["a", "b"]}, RawText("a")),
    ],
)
def test_prompts_of_a_completion(more: dict[str, Any], prompt: Prompt) -> None:
    request = parsed(PROMPTED | more, completions.DIALECT)
    assert request.prompts[0] == prompt
    assert request.echoes == ("echo" in more)
    assert request.answers == ("max_tokens" not in more)


@pytest.mark.parametrize("prompt", ["", [], [""], [[]], [1, "a"], [-1], [[1], "a"], [1.5], {}])
def test_what_is_no_prompt(prompt: Any) -> None:
    error = refusal(PROMPTED | {"prompt": prompt}, completions.DIALECT)
    assert (error.param or "").startswith("prompt")


@pytest.mark.parametrize(
    "more",
    [
        {"tools": []},
        {"tools": None, "tool_choice": "none"},
        {"modalities": ["text"]},
        {"user": "me", "store": False, "metadata": {"a": "b"}, "reasoning_effort": "low"},
        {"stream": True, "stream_options": {}},
        {"response_format": {"type": "text"}, "stop": "x"},
    ],
)
def test_what_asks_for_nothing_is_accepted(more: dict[str, Any]) -> None:
    assert chat(**more).model == "m"


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": -0.1}, "top_p", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 17}, "n", "invalid_value"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens", None),
        ({"max_tokens": -2}, "max_tokens", "invalid_value"),
        ({"stop": ["x"] * 17}, "stop", "invalid_value"),
        ({"stop": ["x", 1]}, "stop[1]", "invalid_type"),
        ({"top_logprobs": 2}, "top_logprobs", None),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"messages": "Hi"}, "messages", "invalid_type"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": None}]},
            "messages[0].content",
            "invalid_type",
        ),
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"tool_choice": "required"}, "tool_choice", None),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
            None,
        ),
        ({"tools": TOOLS * 2}, "tools", None),
        (
            {"tools": [{"type": "function", "function": {}}]},
            "tools[0].function.name",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            "messages[0].tool_calls[0].function",
            "missing_required_parameter",
        ),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value"),
        ({"cf_local": {"traces": True}}, "cf_local.traces", "unknown_parameter"),
        ({"cf_local": {"mode": "fast"}}, "cf_local.mode", "invalid_value"),
        ({"cf_local": {"weights": {"a": -1}}}, "cf_local.weights.a", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
            "response_format",
            None,
        ),
        ({"grammar": "root = x"}, "grammar", None),
        ({"grammar": 'root ::= "a"', "response_format": {"type": "json_object"}}, "grammar", None),
        ({"response_format": {"type": "json_object"}, "stop": "x"}, "stop", None),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, Any], param: str, code: str | None) -> None:
    error = refusal(ASKED | more)
    assert error.param == param
    if code:
        assert error.code == code
    assert error.body["error"]["message"]


def test_the_nearest_name_is_told() -> None:
    assert "Did you mean 'temperature'?" in str(refusal(ASKED | {"temprature": 1}))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"content": []}, ""),
        ({"content": "Yes.", "reasoning_content": "Hm.", "id": "m1", "annotations": [{}]}, "Yes."),
        ({"content": "Yes.", "tool_calls": None, "images": [], "timestamp": 1.5}, "Yes."),
    ],
)
def test_an_assistants_turn_as_clients_keep_it(message: dict[str, Any], text: str) -> None:
    asked = {"role": "user", "content": "Hi", "id": 1}
    request = chat(messages=[asked, {"role": "assistant", **message}, asked])
    turns = (Message("user", "Hi"), Message("assistant", text), Message("user", "Hi"))
    assert request.prompts == (Chat(turns),)


def test_parts_may_have_more_fields() -> None:
    part = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    assert chat(messages=[{"role": "user", "content": [part]}]).prompts[0] == Chat(
        (Message("user", "Hi"),)
    )


@pytest.mark.parametrize(
    ("more", "n_tokens"),
    [
        ({"max_tokens": -1}, 2**31 - 1),
        ({"max_tokens": 5, "max_completion_tokens": 5}, 5),
        ({"max_completion_tokens": -1, "max_tokens": None}, 2**31 - 1),
    ],
)
def test_limits_as_other_servers_have_them(more: dict[str, Any], n_tokens: int) -> None:
    settings = chat(**more).settings_over(Settings(), SOURCES, 5)
    assert settings.max_tokens == n_tokens


@pytest.mark.parametrize(("given", "stop"), [("", ()), ([""], ()), (["", "x"], ("x",)), ([], ())])
def test_an_empty_stop_string_is_none(given: Any, stop: tuple[str, ...]) -> None:
    assert chat(stop=given).stop == stop
    assert chat(stop="", response_format={"type": "json_object"}).stop == ()


def test_fields_for_sampling_are_the_rows_of_the_table() -> None:
    rows = {name for name, option in OPTIONS.items() if option.is_sampling}
    for body in (chats.ChatBody, completions.CompletionBody):
        assert rows <= body.model_fields.keys()
    assert rows - {"temperature", "top_p", "seed"} <= Extension.model_fields.keys()


def test_a_bias_by_text_is_in_the_extension() -> None:
    bias = {" the fox": -100, "5": 1.5}
    settings = chat(cf_local={"logit_bias": bias}).settings_over(Settings(), SOURCES, 5)
    assert settings.sampling.logit_bias == bias
    for wrong in ({"fox": 101}, {"": 1}, {"fox": "1"}, "fox"):
        with pytest.raises(ApiError):
            chat(cf_local={"logit_bias": wrong})


def test_a_bias_of_token_ids_is_not_ignored() -> None:
    for nothing in (None, {}):
        assert "logit_bias" not in chat(logit_bias=nothing).settings
    for ids in ({"50256": -100}, {" fox": 1}, [[15043, 1.0]]):
        with pytest.raises(ApiError, match=r"cf_local\.logit_bias") as caught:
            chat(logit_bias=ids)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "logit_bias")


@pytest.mark.parametrize("more", [{"mode": "rerank"}, {"weights": 5}, {"only": "b"}])
def test_settings_of_the_extension_have_no_effect_beside_it(more: dict[str, Any]) -> None:
    """There nothing checks them."""
    body = chats.ChatBody.model_validate(ASKED | more)
    assert body.ignored() == list(more)
    assert chats.DIALECT.prepare(body)[0].settings == {}


def test_sampling_of_other_servers_that_has_an_effect() -> None:
    assert chat(min_p=0.1).settings == {"min_p": 0.1}
    for thinks in (True, False):
        request = chat(chat_template_kwargs={"enable_thinking": thinks, "other": 1})
        assert isinstance(request.prompts[0], Chat)
        assert request.prompts[0].thinks is thinks


def test_tools_and_their_turns() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        ASKED["messages"][0],  # type: ignore[index]
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Hm."},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "5"}]},
    ]
    (prompt,) = chat(messages=messages, tools=TOOLS, parallel_tool_calls=False).prompts
    assert isinstance(prompt, Chat)
    assert prompt.messages[1:] == (
        Message("assistant", "", (ToolCall("add", "{}", "c"),)),
        Message("tool", "5", tool_call_id="c"),
    )
    assert prompt.tools == (Tool("add"),)
    assert (prompt.tool_choice, prompt.parallel_tool_calls) == ("auto", False)


def test_some_tools_may_be_allowed() -> None:
    more = {"type": "function", "function": {"name": "mul"}}
    allowed = {"mode": "required", "tools": [more]}
    (prompt,) = chat(
        tools=[*TOOLS, more], tool_choice={"type": "allowed_tools", "allowed_tools": allowed}
    ).prompts
    assert isinstance(prompt, Chat)
    assert (prompt.tools, prompt.tool_choice) == ((Tool("mul"),), "required")


def test_no_effort_is_no_thinking() -> None:
    for more, thinks in (
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "low"}, None),
        ({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}, True),
    ):
        (prompt,) = chat(**more).prompts
        assert isinstance(prompt, Chat)
        assert prompt.thinks is thinks


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ({"reasoning_effort": "low"}, {"max_thinking_tokens": 512}),
        ({"reasoning_effort": "none"}, {}),
        ({"reasoning_effort": "xhigh"}, {}),
        (
            {"reasoning_effort": "low", "cf_local": {"max_thinking_tokens": 9}},
            {"max_thinking_tokens": 9},
        ),
    ],
)
def test_an_effort_is_a_limit_of_thinking(more: dict[str, Any], settings: dict[str, Any]) -> None:
    assert chat(**more).settings == settings
