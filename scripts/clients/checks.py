"""What the programs of this folder share; each runs in the environment of its client."""

import json
import os
import traceback

ADDRESS, MODEL = os.environ["CF_ADDRESS"], os.environ["CF_MODEL"]
V1 = f"{ADDRESS}/v1"
QUESTION = "What is the capital of France?"
WARM = "How warm is it in Paris now?"
LIMIT = 64
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city."}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
FORM = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
CALLED = []


def get_weather(city: str) -> str:
    """Say what the weather of a city is.

    Args:
        city: The city.

    """
    CALLED.append(city)
    return f"19 degrees Celsius in {city}"


def says_paris(text):
    """Fail unless the answer is right."""
    assert "Paris" in text, f"no Paris: {text!r}"


def was_called():
    """Fail unless the tool was called since the last time."""
    assert CALLED, "the tool was not called"
    CALLED.clear()


def says_how_warm(text):
    """Fail unless the tool was called, and the answer has its result."""
    n_calls = len(CALLED)
    was_called()
    assert "19" in text, f"not 19 degrees: {text!r}"
    return f"{text!r} after {n_calls} calls"


def check(title):
    """Run a function at once, and print how it went."""

    def run(work):
        CALLED.clear()
        try:
            said, ok = work(), True
        except Exception as error:  # noqa: BLE001 - whatever a client raises is the result
            said, ok = f"{type(error).__name__}: {error}", False
            traceback.print_exc()
        print(json.dumps({"check": title, "ok": ok, "said": str(said or "")[:300]}), flush=True)

    return run
