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
    assert b"q.jsonl, line 1: the answer is missing" in done.stderr


# ---- Along reference texts -----------------------------------------------------------------------

SEVEN_EIGHT = "7 * 8 = 56. The answer is 56."


@pytest.fixture
def texts(work_folder: Path) -> str:
    """A task of four short texts, in two groups."""
    path = work_folder / "texts.jsonl"
    lines = [
        {"prompt": "What is 7 times 8?", "reference": SEVEN_EIGHT, "group": "mul"},
        {"prompt": "What is 9 times 6?", "reference": "9 * 6 = 54.", "group": "mul"},
        {"prompt": "What is 3 plus 4?", "reference": "3 + 4 = 7. The answer is 7.", "group": "add"},
        {"prompt": "What is 8 plus 8?", "reference": "Sixteen.", "group": "add"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"references:{path.name}"


def test_along_reference_texts(run: Run, work_folder: Path, texts: str) -> None:
    arguments = ("eval", texts, "--out", "run", *SAME)
    done = run(*arguments, "--variant", "cool score=nll weights=equal", "--report", "r.html")
    assert done.returncode == 0, done.stderr
    head, columns, *rows, ceiling, agreed = done.stdout.decode().splitlines()
    assert head.startswith("texts.jsonl: 30 words of 4 texts; won/lost and p against ")
    assert columns.split() == ["right", "(95%)", "won/lost", "p", "wins"]
    names = ["ash ", "birch ", "cedar ", "cool ", "cool score=nll weights=equal "]
    assert [row[: len(name)] for row, name in zip(rows, names, strict=True)] == names
    assert ceiling.startswith("any source right, the ceiling of fusing: ")
    assert agreed.startswith("all sources agree on ")
    page = (work_folder / "r.html").read_text(encoding="utf-8")
    assert "30 words of 4 texts" in page

    # What was read serves new variants.
    walks = (work_folder / "run" / "walks.jsonl").read_bytes()
    more = ("--variant", "cool sources=ash,birch", "--json", "--resume")
    again = run(*arguments, *more)
    assert again.returncode == 0, again.stderr
    assert b"4 of 4 texts are already saved" in again.stderr
    assert (work_folder / "run" / "walks.jsonl").read_bytes() == walks
    found = json.loads(again.stdout)
    assert (found["n_items"], found["n_words"], found["n_cut"]) == (4, 30, 0)
    assert [row["variant"] for row in found["rows"]][3:] == ["cool", "cool sources=ash,birch"]
    cool = found["rows"][3]["accuracy"]
    assert cool["value"] <= found["ceiling"]["value"] < 1
    assert cool["n"] == 30
    (work_folder / "run" / "walks.jsonl").write_bytes(walks[:-9])  # a kill within a write
    once_more = run(*arguments, *more)
    assert b"the last saved text is incomplete" in once_more.stderr
    assert once_more.stdout == again.stdout

    other = run(*arguments, "--segments", "shortest", "--resume")
    assert other.returncode == 2
    assert b"holds a different evaluation: segments is" in other.stderr


def test_some_of_the_ways_and_a_prompt_that_does_not_fit(
    run: Run, work_folder: Path, texts: str
) -> None:
    done = run("eval", texts, "--only", "ash", "--limit", "1", "--json", *SAME)
    assert done.returncode == 0, done.stderr
    assert [row["variant"] for row in json.loads(done.stdout)["rows"]] == ["ash"]
    with (work_folder / "texts.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "apples " * 3000, "reference": "No."}) + "\n")
    done = run("eval", texts, "--mode", "single", *SAME)
    assert done.returncode == 0, done.stderr
    assert b"texts whose prompt does not fit (--context), left out: 1" in done.stdout
    assert b"cool" not in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send to a child")
def test_ctrl_c_along_a_text(work_folder: Path, environment: dict[str, str], run: Run) -> None:
    lines = [{"prompt": f"What is {n} times 8?", "reference": SEVEN_EIGHT * 8} for n in range(99)]
    (work_folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    process = subprocess.Popen(
        [sys.executable, "-m", "cf_local", "eval", "references:t.jsonl", "--out", "run", *SAME],
        cwd=work_folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    path, end = work_folder / "run" / "walks.jsonl", time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert b"of 99 texts. They are saved in run. Run the same command with --resume" in stderr
    assert b"Traceback" not in stderr
    assert stdout.startswith(b"t.jsonl: ")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--variant", "rerank"), b"mode rerank cannot be measured on reference texts"),
        (("--variant", "cool segments=shortest"), b"segments cannot be measured"),
        (("--variant", "cool weight.ash=0 weight.birch=0 weight.cedar=0"), b"weights are zero"),
        (("--mode", "cool+r"), b"--mode: not for reference texts"),
        (("--temperature", "1", "--max-tokens", "9"), b"--max-tokens, --temperature: not for"),
        (("--segments", "sentence"), b"words are compared, not sentences"),
        (("--only", "oak"), b"'oak'"),
    ],
)
def test_what_texts_cannot_show(
    run: Run, texts: str, arguments: tuple[str, ...], part: bytes
) -> None:
    done = run("eval", texts, *arguments)
    assert done.returncode == 2
    assert part in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("builtin", "--resume"), b"--resume needs the folder"),
        (("builtin", "--report", "none/r.html"), b"the folder none does not exist"),
        (("nonsense",), b"Unknown task 'nonsense'"),
        (("builtin", "--variant", "cold"), b"did you mean 'cool'?"),
        (("builtin", "--only", "oak"), b"No source is named 'oak'"),
    ],
)
def test_wrong_use(run: Run, arguments: tuple[str, ...], part: bytes) -> None:
    done = run("eval", *arguments)
    assert done.returncode == 2
    assert part in done.stderr
    assert b"Traceback" not in done.stderr
