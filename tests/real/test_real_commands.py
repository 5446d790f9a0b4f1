"""`ask`, `trace`, `plan` and `chat` with real models, as somebody types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import cf_local
from cf_local import trace
from cf_local.runtime.fusion import Fusion

from . import models
from .conftest import TIMEOUT_S, Run

pytestmark = pytest.mark.real

sys.path.insert(0, str(models.ROOT / "scripts"))
from dev import REAL_MODELS  # noqa: E402

ONE_CORE = ("--threads", "1")
NOTICE = f"Note: {models.GEMMA}: no chat template in the file; using 'User: / Assistant:'.\n"


# --- ask and trace: one answer by all three, with everything measured at the load ---------------


@pytest.fixture(scope="module")
def asked(run: Run) -> subprocess.CompletedProcess[str]:
    options = (
        "--json",
        "--all-scores",
        "--trace",
        "t.jsonl",
        "--max-tokens",
        "24",
        "--system",
        "Be brief.",
    )
    return run("ask", models.FRUITS, *models.options_for(models.SET_A), *options)


@pytest.fixture(scope="module")
def objects(asked: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in asked.stdout.splitlines()]


def test_the_base_model_is_told_of_once(asked: subprocess.CompletedProcess[str]) -> None:
    assert asked.returncode == 0
    assert asked.stderr.count(NOTICE) == 1
    assert "Traceback" not in asked.stderr


def test_json_has_a_line_for_every_step_and_one_for_the_answer(
    objects: list[dict[str, Any]],
) -> None:
    *steps, answer = objects
    assert {step["type"] for step in steps} == {"step"}
    assert (answer["type"], answer["mode"]) == ("answer", "cool")
    assert "".join(step["text"] for step in steps) == answer["text"] != ""
    assert {source["name"]: source["sha256"] for source in answer["sources"]} == {
        name: REAL_MODELS[name].sha256 for name in models.SET_A
    }
    disputed = [step for step in steps if len(step["candidates"]) > 1]
    assert disputed
    for step in disputed:
        assert all(set(each["scores"]) == set(models.SET_A) for each in step["candidates"])
        assert step["candidates"][step["winner"]]["sources"] == step["winners"]


def test_the_trace_holds_what_was_printed(
    asked: subprocess.CompletedProcess[str], work_folder: Path
) -> None:
    heading, *lines = (work_folder / "t.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(heading)["format"] == 1
    assert lines == asked.stdout.splitlines()
    (found,) = trace.read(work_folder / "t.jsonl")
    assert found.heading is not None
    assert found.heading.prompt == cf_local.chat(models.FRUITS, system="Be brief.")
    assert [source.n_ctx for source in found.sources] == [4096] * 3
    sizes = [source.size_bytes for source in found.sources]
    assert sizes == [models.path_of(name).stat().st_size for name in models.SET_A]


def test_trace_draws_it(
    asked: subprocess.CompletedProcess[str],
    objects: list[dict[str, Any]],
    run: Run,
    work_folder: Path,
) -> None:
    assert asked.returncode == 0
    done = run("trace", "t.jsonl")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "The page is t.html.\n")
    page = (work_folder / "t.html").read_text(encoding="utf-8")
    for name in models.SET_A:
        assert name in page
    assert models.FRUITS in page
    (figures,) = json.loads(run("trace", "t.jsonl", "--json").stdout)["answers"]
    assert figures["n_segments"] == len(objects) - 1
    assert figures["n_bytes"] == len(objects[-1]["text"].encode())


def test_ask_prints_words_as_they_come(
    command: list[str], environment: dict[str, str], work_folder: Path
) -> None:
    asks = ["ask", "Why is the sky blue?", *models.options_for(models.PAIR), *ONE_CORE]
    with subprocess.Popen(
        [*command, *asks, "--max-tokens", "40"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        cwd=work_folder,
        env=environment,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        parts = []
        while part := process.stdout.read(4096):
            parts.append(part)
        assert process.wait(TIMEOUT_S) == 0
    assert len(parts) > 5
    assert len(b"".join(parts).split()) > 20


def test_ask_obeys_a_schema_and_a_system_text(run: Run, work_folder: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 20}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    (work_folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    done = run(
        *("ask", "What is the capital of France?", "--system", "Answer in JSON."),
        *("--schema", "schema.json", "--max-tokens", "40", "--stats"),
        *(*models.options_for(models.PAIR), *ONE_CORE),
    )
    assert done.returncode == 0
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema)
    assert "Paris" in found["capital"]
    assert "ended by: stop" in done.stderr


# --- plan -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("names", [models.PAIR, models.SET_A], ids=["pair", "set A"])
def test_the_plan_is_what_loading_and_answering_takes(
    run: Run, environment: dict[str, str], work_folder: Path, names: tuple[str, ...]
) -> None:
    """As scripts/plan_figures.py does it: the peak of a process that loads the set and answers."""
    planned = json.loads(run("plan", "--json", *models.options_for(names)).stdout)
    assert planned["fits"] is True
    sources = planned["sources"]
    assert [source["source"] for source in sources] == list(names)
    needed = sum(sum(source["main"].values()) + source["copied"] for source in sources)
    # Only a longer answer looks ahead as far as the plan counts.
    task = {"models": [str(models.path_of(name)) for name in names], "n_prompt": 100}
    task["max_tokens"] = 80
    script = models.ROOT / "scripts" / "plan_figures.py"
    done = subprocess.run(
        [sys.executable, str(script), "--child", json.dumps(task)],
        capture_output=True, text=True, cwd=work_folder, env=environment, timeout=TIMEOUT_S,
        check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    estimate, measured = found["before"] + needed, found["measured"]
    assert abs(estimate - measured) <= max(100e6, 0.15 * measured), (estimate, measured)


# --- chat -------------------------------------------------------------------------------------

FIRST, LONG, SECOND = "What is the capital of France?", "Tell me a long story.", "And of Italy?"


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals on this system")
def test_a_chat_is_stopped_left_and_gone_on_with(
    environment: dict[str, str], work_folder: Path, pair: Fusion
) -> None:
    pytest.importorskip("pexpect")
    from cli.screen import Screen

    # Answers of other tests that were cut are kept as chats, too.
    environment = environment | {"CF_LOCAL_DATA": str(work_folder / "chats")}

    def opened(*arguments: str) -> Screen:
        options = (*models.options_for(models.PAIR), *ONE_CORE, "--no-speculation")
        screen = Screen(environment, (*options, "--max-tokens=400", *arguments), work_folder)
        screen.child.timeout = TIMEOUT_S
        return screen

    screen = opened()
    screen.prompt()
    screen.child.send(f"{LONG}\r")
    end_s = time.monotonic() + TIMEOUT_S
    while not any(talk.turns and talk.turns[0].answer for talk in screen.saved()):
        assert time.monotonic() < end_s, "nothing was saved"
        time.sleep(0.1)
    screen.child.sendintr()
    screen.prompt()
    assert "Paris" in screen.enter(FIRST)
    assert screen.leave() == 0

    screen = opened("-c")
    greeting = screen.prompt()
    assert "Continuing chat 1 (2 turns)" in greeting
    assert "Paris" in greeting
    assert "Rome" in screen.enter(SECOND)
    assert screen.leave() == 0
    (talk,) = screen.saved()
    assert [turn.question for turn in talk.turns] == [LONG, FIRST, SECOND]
    assert [turn.state for turn in talk.turns] == ["stopped", "done", "done"]
    assert 0 < len(talk.turns[0].answer.split()) < 200
    # Without what was said before nobody knows what is asked.
    settings = cf_local.Settings(max_tokens=20, speculation=False)
    assert "Rome" not in pair.answer(cf_local.chat(SECOND), settings).text


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_a_load_without_enough_memory_says_so(
    command: list[str], environment: dict[str, str], work_folder: Path
) -> None:
    import resource

    limit = 700_000_000  # enough for the program, but not for the weights besides
    done = subprocess.run(
        [*command, "ask", "hi", "--model", str(models.path_of(models.QWEN)), "--fit", "off"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=work_folder,
        env=environment,
        timeout=TIMEOUT_S,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 5
    assert "not enough memory" in done.stderr
    assert "Traceback" not in done.stderr
