"""The dialects of the server as tests speak them: one question, asked and read in each."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from answering import ADD, MUL
from serving import Reply

FUNCTIONS = [tool["function"] for tool in (ADD, MUL)]


@dataclass
class Said:
    """An answer, whatever dialect it came in; ``finish`` is in the words of the chat."""

    text: str = ""
    thinking: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str = ""
    n_tokens: tuple[int, int] = (0, 0)


class Spoken(ABC):
    """One dialect."""

    path: str
    lacks: frozenset[str] = frozenset()
    """Fields of requests that it does not have."""

    def body(
        self,
        text: str = "Well?",
        *,
        max_tokens: int = 500,
        stop: Sequence[str] = (),
        tools: bool = False,
        **more: Any,
    ) -> dict[str, Any]:
        """A request; ``more`` are fields that all dialects have in common, as ``stream``."""
        messages = [{"role": "user", "content": text}]
        own = self.own(messages, max_tokens, list(stop), more)
        return {"model": "builtin"} | own | more | ({"tools": self.tools()} if tools else {})

    @abstractmethod
    def own(
        self, messages: list[Any], max_tokens: int, stop: list[str], more: dict[str, Any]
    ) -> dict[str, Any]:
        """The fields of a request as this dialect names them; it may take some of ``more``."""

    def tools(self) -> list[Any]:
        """The tools as this dialect describes them."""
        return [ADD, MUL]

    @abstractmethod
    def whole(self, body: Any) -> Said:
        """What a whole response says."""

    @abstractmethod
    def stream(self, reply: Reply) -> Said:
        """What a stream says."""

    def error(self, reply: Reply) -> str:
        """The message of an error response, which has the shape of the dialect."""
        return str(reply.json["error"]["message"])


class SpokenChat(Spoken):
    path = "/v1/chat/completions"

    def own(
        self, messages: list[Any], max_tokens: int, stop: list[str], more: dict[str, Any]
    ) -> dict[str, Any]:
        usage = {"stream_options": {"include_usage": True}} if more.get("stream") else {}
        return {"messages": messages, "max_tokens": max_tokens, "stop": stop} | usage

    def whole(self, body: Any) -> Said:
        (choice,), message = body["choices"], body["choices"][0]["message"]
        said = Said(message["content"] or "", message.get("reasoning_content", ""))
        for call in message.get("tool_calls", ()):
            given = call["function"]
            said.calls.append((given["name"], json.loads(given["arguments"])))
        said.finish, usage = choice["finish_reason"], body["usage"]
        said.n_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        return said

    def stream(self, reply: Reply) -> Said:
        said, calls = Said(), []
        for event in reply.events:
            if usage := event["usage"]:
                said.n_tokens = usage["prompt_tokens"], usage["completion_tokens"]
            for choice in event["choices"]:
                delta, said.finish = choice["delta"], choice["finish_reason"]
                said.text += delta.get("content") or ""
                said.thinking += delta.get("reasoning_content") or ""
                for call in delta.get("tool_calls", ()):
                    if "id" in call:
                        calls.append([call["function"]["name"], ""])
                    calls[call["index"]][1] += call["function"]["arguments"]
        said.calls = [(name, json.loads(given)) for name, given in calls]
        return said


class SpokenMessages(Spoken):
    path = "/v1/messages"
    _FINISH = {  # noqa: RUF012 - nobody changes it
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "tool_use": "tool_calls",
    }

    def own(
        self, messages: list[Any], max_tokens: int, stop: list[str], more: dict[str, Any]
    ) -> dict[str, Any]:
        return {"messages": messages, "max_tokens": max_tokens, "stop_sequences": stop}

    def tools(self) -> list[Any]:
        return [
            {
                "name": function["name"],
                "description": function.get("description"),
                "input_schema": function["parameters"],
            }
            for function in FUNCTIONS
        ]

    def whole(self, body: Any) -> Said:
        usage = body["usage"]
        n_prompt = usage["input_tokens"] + usage["cache_read_input_tokens"]
        said = Said(finish=self._FINISH[body["stop_reason"]])
        said.n_tokens = n_prompt, usage["output_tokens"]
        for block in body["content"]:
            said.text += block.get("text", "")
            said.thinking += block.get("thinking", "")
            if block["type"] == "tool_use":
                said.calls.append((block["name"], block["input"]))
        return said

    def stream(self, reply: Reply) -> Said:
        message: dict[str, Any] = {}
        given: dict[int, str] = {}
        for event in typed_events(reply):
            match event["type"]:
                case "message_start":
                    message = event["message"]
                case "content_block_start":
                    assert event["index"] == len(message["content"])
                    message["content"].append(event["content_block"])
                case "content_block_delta":
                    block, delta = message["content"][event["index"]], event["delta"]
                    for key in ("text", "thinking", "signature"):
                        if key in delta:
                            block[key] += delta[key]
                    given[event["index"]] = given.get(event["index"], "")
                    given[event["index"]] += delta.get("partial_json", "")
                case "message_delta":
                    message |= event["delta"] | {"usage": event["usage"]}
        assert event["type"] == "message_stop"
        for index, block in enumerate(message["content"]):
            if block["type"] == "tool_use":
                block["input"] = json.loads(given[index])
        return self.whole(message)

    def error(self, reply: Reply) -> str:
        assert reply.json["type"] == "error"
        return super().error(reply)


def typed_events(reply: Reply) -> list[Any]:
    """The events of a stream in which each says its type twice."""
    found = []
    *events, rest = reply.body.decode().split("\n\n")
    assert rest == ""
    for event in events:
        if not event.startswith(":"):
            name, data = event.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    return found


class SpokenOllama(Spoken):
    path = "/api/chat"

    def own(
        self, messages: list[Any], max_tokens: int, stop: list[str], more: dict[str, Any]
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"num_predict": max_tokens, "stop": stop}
        if "temperature" in more:
            options["temperature"] = more.pop("temperature")
        return {"messages": messages, "options": options, "stream": False}

    def whole(self, body: Any) -> Said:
        return self._joined([body])

    def stream(self, reply: Reply) -> Said:
        return self._joined([json.loads(line) for line in reply.body.splitlines()])

    def _joined(self, lines: Sequence[Any]) -> Said:
        *_, last = lines
        said = Said(finish=last["done_reason"])
        said.n_tokens = last["prompt_eval_count"], last["eval_count"]
        for line in lines:
            assert line["done"] == (line is last)
            message = line["message"]
            said.text += message["content"]
            said.thinking += message.get("thinking", "")
            for call in message.get("tool_calls", ()):
                said.calls.append((call["function"]["name"], call["function"]["arguments"]))
        if said.calls and said.finish == "stop":
            said.finish = "tool_calls"  # which Ollama does not tell apart
        return said

    def error(self, reply: Reply) -> str:
        return str(reply.json["error"])


class SpokenResponses(Spoken):
    path = "/v1/responses"
    lacks = frozenset({"stop"})

    def own(
        self, messages: list[Any], max_tokens: int, stop: list[str], more: dict[str, Any]
    ) -> dict[str, Any]:
        assert not stop
        return {"input": messages, "max_output_tokens": max_tokens}

    def tools(self) -> list[Any]:
        return [{"type": "function", **function} for function in FUNCTIONS]

    def whole(self, body: Any) -> Said:
        said, usage = Said(), body["usage"]
        said.n_tokens = usage["input_tokens"], usage["output_tokens"]
        assert usage["total_tokens"] == sum(said.n_tokens)
        for item in body["output"]:
            is_last = item is body["output"][-1]
            assert item["status"] == (body["status"] if is_last else "completed")
            said.text += "".join(p["text"] for p in item.get("content", ()) if "annotations" in p)
            if item["type"] == "reasoning":
                said.thinking += item["content"][0]["text"]
            if item["type"] == "function_call":
                said.calls.append((item["name"], json.loads(item["arguments"])))
        said.finish = "tool_calls" if said.calls else "stop"
        if body["status"] == "incomplete":
            assert body["incomplete_details"] == {"reason": "max_output_tokens"}
            said.finish = "length"
        return said

    def stream(self, reply: Reply) -> Said:
        created, running, *events, last = typed_events(reply)
        numbers = [event["sequence_number"] for event in (created, running, *events, last)]
        assert numbers == list(range(len(numbers)))
        assert created["type"] == "response.created"
        assert running["type"] == "response.in_progress"
        assert last["type"] == f"response.{last['response']['status']}"
        items: list[Any] = []
        for event in events:
            kind = event["type"].removeprefix("response.")
            if kind == "output_item.added":
                assert event["output_index"] == len(items)
                items.append(event["item"])
            elif kind == "content_part.added":
                items[-1]["content"].append(event["part"])
            elif kind in ("output_text.delta", "reasoning_text.delta"):
                items[-1]["content"][event["content_index"]]["text"] += event["delta"]
            elif kind == "function_call_arguments.delta":
                items[-1]["arguments"] += event["delta"]
            elif kind == "output_item.done":
                assert event["item"] == items[-1] | {"status": event["item"]["status"]}
        done = [event["item"] for event in events if event["type"].endswith("item.done")]
        assert last["response"]["output"] == done
        return self.whole(last["response"])


DIALECTS = (SpokenChat(), SpokenMessages(), SpokenResponses(), SpokenOllama())
