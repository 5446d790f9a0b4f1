"""The commands with ``--ray``: the same answers, and the plan for the nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

QUESTION = "Tom has 23 apples and buys 45 more. How many apples does he have now?"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cf_local", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_ask_prints_the_same_answer_and_nothing_of_ray(ray_nodes: Any) -> None:
    given = ("ask", QUESTION, "--max-tokens", "40", "--no-save")
    near, far = run(*given), run(*given, "--ray", ray_nodes.address)
    assert far.returncode == 0, far.stderr
    assert far.stdout == near.stdout != ""
    assert "ray" not in far.stderr.lower()


def test_plan_shows_sources_and_nodes(ray_nodes: Any) -> None:
    shown = run("plan", "--ray", ray_nodes.address)
    assert shown.returncode == 0, shown.stderr
    sources, nodes = shown.stdout.split("\n\n")
    assert [line.split()[0] for line in sources.splitlines()] == ["source", "ash", "birch", "cedar"]
    assert {line.split()[1] for line in sources.splitlines()[1:]} == {"a", "b"}
    assert {"a", "b"} <= {line.split()[0] for line in nodes.splitlines()}
    assert "trusted network" in shown.stderr
    found = json.loads(run("plan", "--ray", ray_nodes.address, "--json").stdout)
    assert [each["source"] for each in found["sources"]] == ["ash", "birch", "cedar"]
    assert all(each["arrangement"]["n_ctx"] == 512 for each in found["sources"])


def test_a_plan_that_cannot_be_followed_ends_with_an_error(ray_nodes: Any) -> None:
    ended = run("plan", "--ray", ray_nodes.address, "--model", "/nowhere/model.gguf")
    assert ended.returncode == 1
    assert "cannot be loaded" in ended.stdout
    assert "/nowhere/model.gguf" in ended.stderr
