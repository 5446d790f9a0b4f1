"""OpenAI's package for Python."""

import json

from checks import FORM, LIMIT, MODEL, QUESTION, V1, WARM, WEATHER, check, says_paris
from openai import OpenAI

client = OpenAI(base_url=V1, api_key="none", max_retries=0, timeout=300)
ASKED = [{"role": "user", "content": QUESTION}]
create = client.chat.completions.create


@check("chat")
def _():
    says_paris(create(model=MODEL, messages=ASKED, max_tokens=LIMIT).choices[0].message.content)


@check("chat stream")
def _():
    chunks = create(model=MODEL, messages=ASKED, max_tokens=LIMIT, stream=True)
    says_paris("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


@check("tools, loop")
def _():
    messages = [{"role": "user", "content": WARM}]
    how = {
        "model": MODEL,
        "max_tokens": LIMIT,
        "tools": [{"type": "function", "function": WEATHER}],
    }
    reply = create(messages=messages, tool_choice="required", **how).choices[0].message
    (call,) = reply.tool_calls
    assert json.loads(call.function.arguments)["city"]
    messages += [reply, {"role": "tool", "tool_call_id": call.id, "content": "19 degrees"}]
    text = create(messages=messages, tool_choice="none", **how).choices[0].message.content
    assert "19" in text, text


@check("structured output")
def _():
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": FORM, "strict": True}}
    found = create(model=MODEL, messages=ASKED, max_tokens=LIMIT, response_format=form)
    assert json.loads(found.choices[0].message.content).keys() == {"city", "people"}


@check("responses, with the previous one")
def _():
    first = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=LIMIT)
    says_paris(first.output_text)
    more = client.responses.create(
        model=MODEL, input="Again?", previous_response_id=first.id, max_output_tokens=LIMIT
    )
    assert more.output_text


@check("responses stream, tools")
def _():
    tool = {"type": "function", "strict": True, **WEATHER}
    with client.responses.stream(
        model=MODEL, input=WARM, tools=[tool], tool_choice="required", max_output_tokens=LIMIT
    ) as stream:
        kinds = {event.type for event in stream}
        (call,) = stream.get_final_response().output
    assert "response.function_call_arguments.delta" in kinds
    assert json.loads(call.arguments)["city"]


@check("completions, models")
def _():
    assert client.completions.create(model=MODEL, prompt="1, 2, 3,", max_tokens=8).choices[0].text
    assert MODEL in [model.id for model in client.models.list()]
