"""llm, the command line tool, configured by `cf-local connect llm --write`."""

import json
import subprocess
import sys
from pathlib import Path

from checks import FORM, MODEL, QUESTION, WARM, check, says_paris

LLM = str(Path(sys.executable).with_name("llm"))
LIMIT = ["-o", "max_tokens", "64"]
FUNCTION = '''
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"19 degrees Celsius in {city}"
'''


def llm(*arguments):
    done = subprocess.run(
        [LLM, *arguments], capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@check("a question, streamed and not")
def _():
    says_paris(llm("-m", MODEL, *LIMIT, QUESTION))
    says_paris(llm("-m", MODEL, *LIMIT, "--no-stream", QUESTION))


@check("a conversation (-c)")
def _():
    assert llm("-c", *LIMIT, "Which river is there?").strip()


@check("tools (--functions)")
def _():
    more = ["--functions", FUNCTION, "--td", "--chain-limit", "5"]
    told = llm("-m", MODEL, *LIMIT, *more, WARM)
    assert "Tool call: get_weather" in told, told
    assert "19 degrees" in told.partition("\n")[0], told  # the answer comes on stdout, first
    return told


@check("structured output (--schema)")
def _():
    found = llm("-m", MODEL, *LIMIT, "--no-stream", "--schema", json.dumps(FORM), QUESTION)
    assert json.loads(found).keys() == {"city", "people"}
