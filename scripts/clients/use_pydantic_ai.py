"""Pydantic AI: an agent with a tool."""

from checks import LIMIT, MODEL, QUESTION, V1, WARM, check, get_weather, says_how_warm, says_paris
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

PROVIDER = OpenAIProvider(base_url=V1, api_key="none")
chat = OpenAIChatModel(MODEL, provider=PROVIDER)
responses = OpenAIResponsesModel(MODEL, provider=PROVIDER)
HOW = {"model_settings": {"max_tokens": LIMIT}, "usage_limits": UsageLimits(request_limit=5)}


class City(BaseModel):
    """A city."""

    city: str
    people: int


def run_agent(model):
    return says_how_warm(Agent(model, tools=[get_weather]).run_sync(WARM, **HOW).output)


@check("chat")
def _():
    says_paris(Agent(chat).run_sync(QUESTION, **HOW).output)


@check("an agent with a tool")
def _():
    return run_agent(chat)


@check("an agent with a tool, by responses")
def _():
    return run_agent(responses)


@check("structured output by a tool")
def _():
    assert isinstance(Agent(chat, output_type=City).run_sync(QUESTION, **HOW).output, City)
