"""Anthropic's package."""

from anthropic import Anthropic
from checks import ADDRESS, LIMIT, MODEL, QUESTION, WARM, WEATHER, check, says_paris

client = Anthropic(base_url=ADDRESS, api_key="none", max_retries=0, timeout=300)
ASKED = [{"role": "user", "content": QUESTION}]
HOW = {"model": MODEL, "max_tokens": LIMIT}


@check("messages")
def _():
    says_paris(client.messages.create(messages=ASKED, system="Be brief.", **HOW).content[0].text)


@check("messages stream")
def _():
    with client.messages.stream(messages=ASKED, **HOW) as stream:
        says_paris("".join(stream.text_stream))


@check("tools, loop")
def _():
    tool = {"name": WEATHER["name"], "description": "x", "input_schema": WEATHER["parameters"]}
    messages = [{"role": "user", "content": WARM}]
    choice = {"type": "tool", "name": WEATHER["name"]}
    reply = client.messages.create(messages=messages, tools=[tool], tool_choice=choice, **HOW)
    (call,) = [block for block in reply.content if block.type == "tool_use"]
    assert call.input["city"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "19 degrees"}
    messages += [{"role": "assistant", "content": reply.content}]
    messages += [{"role": "user", "content": [result]}]
    again = client.messages.create(
        messages=messages, tools=[tool], tool_choice={"type": "none"}, **HOW
    )
    assert "19" in again.content[0].text, again.content


@check("count of tokens, models")
def _():
    assert client.messages.count_tokens(model=MODEL, messages=ASKED).input_tokens > 5
    assert MODEL in [model.id for model in client.models.list()]
