"""LiteLLM, over OpenAI's, Anthropic's and Ollama's interfaces."""

import json

import litellm
from checks import ADDRESS, LIMIT, MODEL, QUESTION, V1, WARM, WEATHER, check, says_paris

ASKED = [{"role": "user", "content": QUESTION}]
OPENAI = {"model": f"openai/{MODEL}", "api_base": V1, "api_key": "none", "max_tokens": LIMIT}


@check("chat")
def _():
    says_paris(litellm.completion(messages=ASKED, **OPENAI).choices[0].message.content)


@check("chat stream")
def _():
    chunks = litellm.completion(messages=ASKED, stream=True, **OPENAI)
    says_paris("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


@check("tools")
def _():
    found = litellm.completion(
        messages=[{"role": "user", "content": WARM}], tool_choice="required",
        tools=[{"type": "function", "function": WEATHER}], **OPENAI,
    )  # fmt: skip
    assert json.loads(found.choices[0].message.tool_calls[0].function.arguments)["city"]


@check("as anthropic/MODEL")
def _():
    how = {"model": f"anthropic/{MODEL}", "api_base": ADDRESS, "api_key": "none"}
    found = litellm.completion(messages=ASKED, max_tokens=LIMIT, **how)
    says_paris(found.choices[0].message.content)


@check("as ollama_chat/MODEL")
def _():
    how = {"model": f"ollama_chat/{MODEL}", "api_base": ADDRESS}
    found = litellm.completion(messages=ASKED, max_tokens=LIMIT, **how)
    says_paris(found.choices[0].message.content)
