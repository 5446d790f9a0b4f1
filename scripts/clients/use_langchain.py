"""LangChain's langchain-openai."""

from checks import LIMIT, MODEL, QUESTION, V1, WARM, check, get_weather, says_paris, was_called
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

model = ChatOpenAI(model=MODEL, base_url=V1, api_key="none", max_tokens=LIMIT, max_retries=0)
weather = tool(get_weather)


class City(BaseModel):
    """A city."""

    city: str
    people: int


@check("chat")
def _():
    says_paris(model.invoke(QUESTION).content)


@check("chat stream")
def _():
    says_paris("".join(chunk.content for chunk in model.stream(QUESTION)))


@check("bind_tools, loop")
def _():
    messages = [HumanMessage(WARM)]
    reply = model.bind_tools([weather], tool_choice="any").invoke(messages)
    (call,) = reply.tool_calls
    messages += [reply, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
    was_called()
    answer = model.bind_tools([weather], tool_choice="none").invoke(messages)
    assert "19" in answer.content, answer.content


@check("structured output by function calling")
def _():
    form = model.with_structured_output(City, method="function_calling")
    assert isinstance(form.invoke(QUESTION), City)


@check("structured output by schema")
def _():
    form = model.with_structured_output(City, method="json_schema")
    assert isinstance(form.invoke(QUESTION), City)
