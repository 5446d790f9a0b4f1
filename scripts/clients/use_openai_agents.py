"""OpenAI's Agents SDK: an agent with a tool, by chat and by responses."""

import asyncio

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from checks import LIMIT, MODEL, QUESTION, V1, WARM, check, get_weather, says_how_warm, says_paris
from openai import AsyncOpenAI

set_tracing_disabled(True)


def agent(kind, **more):
    client = AsyncOpenAI(base_url=V1, api_key="none", max_retries=0, timeout=300)
    model = kind(model=MODEL, openai_client=client)
    settings = ModelSettings(max_tokens=LIMIT)
    return Agent(name="A", model=model, model_settings=settings, **more)


def run(agent, text):
    return asyncio.run(Runner.run(agent, text, max_turns=5)).final_output


def run_with_tool(kind):
    return says_how_warm(run(agent(kind, tools=[function_tool(get_weather)]), WARM))


@check("chat")
def _():
    says_paris(run(agent(OpenAIChatCompletionsModel), QUESTION))


@check("an agent with a tool, by chat")
def _():
    return run_with_tool(OpenAIChatCompletionsModel)


@check("responses")
def _():
    says_paris(run(agent(OpenAIResponsesModel), QUESTION))


@check("an agent with a tool, by responses")
def _():
    return run_with_tool(OpenAIResponsesModel)
