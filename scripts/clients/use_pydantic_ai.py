"""Pydantic AI: an agent with a tool."""

from checks import LIMIT, MODEL, QUESTION, V1, WARM, check, get_weather, says_paris, was_called
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

PROVIDER = OpenAIProvider(base_url=V1, api_key="none")
chat = OpenAIChatModel(MODEL, provider=PROVIDER)
responses = OpenAIResponsesModel(MODEL, provider=PROVIDER)
HOW = {"model_settings": {"max_tokens": LIMIT}, "usage_limits": UsageLimits(request_limit=3)}


class City(BaseModel):
    """A city."""

    city: str
    people: int


def run_agent(model):
    try:
        answer = Agent(model, tools=[get_weather]).run_sync(WARM, **HOW).output
    except UsageLimitExceeded:  # a model of this size may go on calling
        answer = "called again and again"
    was_called()
    return answer


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
