"""`cf-local eval` on the built-in models: killed, interrupted, gone on with, reported."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Run

pytestmark = pytest.mark.model

# Without speculation and threads the texts are the same each time, to the last near tie.
SAME = ("--no-speculation", "--threads", "1", "--no-overlap")
SIX = ("eval", "builtin", "--limit", "6", "--seed", "4", "--json", *SAME)
N_ANSWERS = 6 * 6


def timeless(stdout: bytes) -> dict[str, Any]:
    """The summary without what differs from run to run."""
    summary: dict[str, Any] = json.loads(stdout)
    for row in summary["rows"]:
        assert row.pop("bytes_per_s") > 0
    return summary


def stopped_midway(how: int, folder: Path, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    """A run that got a signal after some answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cf_local", *SIX, "--out", "run"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    path, end = folder / "run" / "results.jsonl", time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < 8:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(how)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(
    run: Run, work_folder: Path, environment: dict[str, str]
) -> None:
    process = stopped_midway(signal.SIGKILL, work_folder, environment)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    path = work_folder / "run" / "results.jsonl"
    before = path.read_bytes()
    before = before[: before.rfind(b"\n") + 1]
    assert 8 <= before.count(b"\n") < N_ANSWERS
    path.write_bytes(before + b'{"item": "4-3", "gro')  # what a kill within a write leaves

    resumed = run(*SIX, "--out", "run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert b"the last saved answer is incomplete" in resumed.stderr
    n_before = len(before.splitlines())
    assert f"{n_before} of 36 answers are already saved".encode() in resumed.stderr
    after = path.read_bytes()
    assert after.startswith(before)
    pairs = [(r["item"], r["variant"]) for r in map(json.loads, after.splitlines())]
    assert len(pairs) == len(set(pairs)) == N_ANSWERS
    at_once = run(*SIX)
    assert at_once.returncode == 0, at_once.stderr
    assert timeless(resumed.stdout) == timeless(at_once.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send to a child")
def test_ctrl_c_says_how_to_go_on(work_folder: Path, environment: dict[str, str]) -> None:
    process = stopped_midway(signal.SIGINT, work_folder, environment)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Interrupted after" in stderr
    assert b"Run the same command with --resume to continue" in stderr
    assert b"Traceback" not in stderr
    assert json.loads(stdout)["n_items"] >= 1  # what had been answered by all


def test_table_report_and_folder(run: Run, work_folder: Path) -> None:
    done = run(
        "eval", "builtin", "--limit", "4", "--out", "run", "--report", "r.html",
        "--mode", "cool", "--variant", "cool score=nll weight.ash=2", *SAME,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    head, columns, *rows = done.stdout.decode().splitlines()
    assert head.startswith("builtin: 4 questions; won/lost and p against ")
    assert columns.split() == ["right", "(95%)", "won/lost", "p", "bytes/s", "wins"]
    names = ["ash ", "birch ", "cedar ", "cool ", "cool score=nll weight.ash=2 "]
    assert [row[: len(name)] for row, name in zip(rows, names, strict=True)] == names
    page = (work_folder / "r.html").read_text(encoding="utf-8")
    assert page.lstrip().startswith("<!DOCTYPE html>")
    assert "cool score=nll weight.ash=2" in page
    about = json.loads((work_folder / "run" / "run.json").read_text())
    assert [len(model["sha256"]) for model in about["models"]] == [64, 64, 64]
    items = (work_folder / "run" / "items.jsonl").read_text().splitlines()
    assert "content" in items[0]

    again = run("eval", "builtin", "--limit", "4", "--out", "run", "--resume", *SAME)
    assert again.returncode == 2
    assert b"holds a different evaluation" in again.stderr
    again = run("eval", "builtin", "--limit", "4", "--out", "run", *SAME)
    assert again.returncode == 2
    assert b"--resume" in again.stderr


def test_questions_of_ones_own(run: Run, work_folder: Path) -> None:
    lines = [
        {"prompt": "What is 7 times 8?", "answer": 56, "group": "a"},
        {"prompt": "apples " * 3000, "answer": "x"},
    ]
    (work_folder / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run("eval", "q.jsonl", "--only", "birch", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["n_no_room"] == 1
    assert row["groups"]["a"]["value"] == 1

    (work_folder / "q.jsonl").write_text('{"prompt": "?"}\n')
    done = run("eval", "q.jsonl")
    assert done.returncode == 2
    assert b"q.jsonl, line 1: there is no answer" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("builtin", "--resume"), b"--resume needs the folder"),
        (("builtin", "--report", "none/r.html"), b"there is no folder none"),
        (("nonsense",), b"There is no task 'nonsense'"),
        (("builtin", "--variant", "cold"), b"did you mean 'cool'?"),
        (("builtin", "--only", "oak"), b"There is no source 'oak'"),
    ],
)
def test_wrong_use(run: Run, arguments: tuple[str, ...], part: bytes) -> None:
    done = run("eval", *arguments)
    assert done.returncode == 2
    assert part in done.stderr
    assert b"Traceback" not in done.stderr
