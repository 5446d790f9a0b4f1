"""Calls of tools by a fusion and by each of its sources alone: 100 requests, 12 tools.

    python scripts/tool_figures.py --model FILE --model FILE [--requests 100] [--choice auto]

Prints, with Wilson's intervals of 95 %: answers with a call (one that was cut is none), calls that
parse and obey the schema of their tool, and the right function as the only one that is called. The
requests (tests/data/tool_requests.jsonl) were written for this.
"""

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema

import cf_local
from cf_local.evaluation.statistics import wilson
from cf_local.runtime.fusion import Fusion
from cf_local.structured.calls import calls_of
from cf_local.structured.tools import Tool
from cf_local.types import Chat, Message

REQUESTS = Path(__file__).parents[1] / "tests" / "data" / "tool_requests.jsonl"


def tool(name: str, description: str, optional: str = "", /, **parameters: Any) -> Tool:
    """A tool; a parameter is a type or a list of values, and required unless ``optional``."""
    properties = {
        key: {"enum": kind} if isinstance(kind, list) else {"type": kind}
        for key, kind in parameters.items()
    }
    required = [key for key in properties if key not in optional.split()]
    schema = {"type": "object", "properties": properties, "required": required}
    return Tool(name, description, schema)


TOOLS = (
    tool(
        "get_weather",
        "Get the weather or the forecast of a place.",
        "day unit",
        city="string",
        day="string",
        unit=["celsius", "fahrenheit"],
    ),
    tool("calculate", "Compute an arithmetic expression.", expression="string"),
    tool(
        "create_event",
        "Add an event to the user's calendar.",
        title="string",
        date="string",
        time="string",
    ),
    tool(
        "convert_units",
        "Convert a quantity from one unit into another.",
        value="number",
        from_unit="string",
        to_unit="string",
    ),
    tool("search_web", "Search the internet.", query="string"),
    tool("send_email", "Send an email.", "subject", to="string", subject="string", body="string"),
    tool("set_timer", "Start a timer.", "label", seconds="integer", label="string"),
    tool("translate", "Translate a text.", text="string", language="string"),
    tool("get_stock_price", "Get the current price of a share.", company="string"),
    tool("play_music", "Play music.", query="string"),
    tool(
        "find_restaurant",
        "Find places to eat in a city.",
        "cuisine",
        city="string",
        cuisine="string",
    ),
    tool("get_time", "Get the current time in a city.", city="string"),
)


def main() -> None:
    """Ask as many requests as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--choice", default="auto", help="auto or required")
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--threads", type=int, help="threads of each source")
    parser.add_argument("--model", action="append", required=True)
    given = parser.parse_args()
    lines = REQUESTS.read_text(encoding="utf-8").splitlines()[: given.requests]
    requests = [json.loads(line) for line in lines]
    options = cf_local.LoadOptions(n_threads=given.threads)
    print(f"{'':24} {'with a call':>20} {'all calls valid':>20} {'right function':>20}")
    with cf_local.load(models=given.model, options=options) as fusion:
        names = [source.info.name for source in fusion.sources]
        parts = [(name, fusion.of([name])) for name in names]
        for label, part in [("fusion", fusion), *parts] if len(parts) > 1 else parts:
            counts = Counter(fact for request in requests for fact in facts(part, request, given))
            n, n_called = len(requests), counts["called"]
            shown = (
                share(n_called, n),
                share(counts["valid"], n_called),
                share(counts["right"], n),
            )
            print(f"{label:24} " + " ".join(f"{text:>20}" for text in shown), flush=True)


def facts(fusion: Fusion, request: dict[str, str], given: argparse.Namespace) -> set[str]:
    """What holds for the answer to one request: "called", "valid", "right"."""
    chat = Chat((Message("user", request["question"]),), tools=TOOLS, tool_choice=given.choice)
    settings = replace(fusion.settings, max_tokens=given.max_tokens)
    form = settings.tool_form_of([source.info for source in fusion.sources])
    answer = fusion.answer(chat, settings)
    text = answer.text
    schemas = {tool.name: dict(tool.parameters) for tool in TOOLS}
    _, calls = calls_of(text, form, schemas)
    if calls and answer.finish_reason != "stop":
        print(f"cut: {text!r}")
        calls.pop()  # it may lack its end
    if not calls:
        return set()
    found = {"called"}
    if all(is_valid(call.arguments, schemas[call.name]) for call in calls):
        found.add("valid")
    else:
        print(f"invalid: {text!r}")
    return found | {"right"} if {call.name for call in calls} == {request["tool"]} else found


def is_valid(arguments: str, schema: dict[str, Any]) -> bool:
    """Whether the JSON text of arguments parses and obeys their schema."""
    try:
        jsonschema.validate(json.loads(arguments), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def share(n_right: int, n: int) -> str:
    """A count with its interval in percent."""
    if not n:
        return "0 of 0"
    low, high = wilson(n_right, n)
    return f"{n_right}/{n} ({100 * low:.0f}-{100 * high:.0f} %)"


if __name__ == "__main__":
    main()
