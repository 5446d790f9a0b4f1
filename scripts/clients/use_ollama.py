"""Ollama's package for Python."""

import json

from checks import ADDRESS, FORM, LIMIT, MODEL, QUESTION, WARM, check, get_weather, says_paris
from ollama import Client

client = Client(host=ADDRESS, timeout=300)
HOW = {"model": MODEL, "options": {"num_predict": LIMIT}}
ASKED = [{"role": "user", "content": QUESTION}]


@check("chat")
def _():
    says_paris(client.chat(messages=ASKED, **HOW).message.content)


@check("chat stream, generate")
def _():
    says_paris(
        "".join(part.message.content for part in client.chat(messages=ASKED, stream=True, **HOW))
    )
    says_paris(client.generate(prompt=QUESTION, **HOW).response)


@check("tools, loop")
def _():
    messages = [{"role": "user", "content": WARM}]
    reply = client.chat(messages=messages, tools=[get_weather], **HOW).message
    (call,) = reply.tool_calls
    result = get_weather(**call.function.arguments)
    messages += [reply, {"role": "tool", "tool_name": call.function.name, "content": result}]
    assert "19" in client.chat(messages=messages, **HOW).message.content


@check("structured output")
def _():
    found = client.chat(messages=ASKED, format=FORM, **HOW)
    assert json.loads(found.message.content).keys() == {"city", "people"}


@check("fill in the middle")
def _():
    model = "qwen2.5-coder-0.5b"
    assert "insert" in client.show(model).capabilities
    middle = client.generate(
        model, "def add(a, b):\n    ", "\n\nprint(add(1, 2))", options={"num_predict": 16}
    )
    assert "return a + b" in middle.response, middle.response


@check("models")
def _():
    assert f"{MODEL}:latest" in [model.model for model in client.list().models]
    assert client.ps().models
    assert "tools" in client.show(MODEL).capabilities
