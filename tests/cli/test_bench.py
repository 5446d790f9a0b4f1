"""`cf-local bench` runs and reports; what it measures is no test's business."""

import json
from pathlib import Path

import pytest
from cli.conftest import Run

pytestmark = pytest.mark.model


def test_reports_every_way_to_answer(run: Run, work_folder: Path) -> None:
    done = run("bench", "--n", "2", "--json", "--picture", "bench.svg")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["n_prompts"] == 2
    assert [case["name"] for case in report["cases"]] == [
        "ash alone", "birch alone", "cedar alone", "cool, no speculation", "cool", "cool+r",
    ]  # fmt: skip
    assert all(case["bytes_per_s"] > 0 for case in report["cases"])
    slowest = next(case for case in report["cases"] if case["name"] == report["slowest"])
    assert slowest["ratio"] == 1
    assert all(case["passes_per_segment"]["ash"] > 0 for case in report["cases"][3:])
    assert (work_folder / "bench.svg").read_text().startswith("<svg")


def test_prompts_that_cannot_be_used(run: Run, work_folder: Path) -> None:
    (work_folder / "empty.txt").write_text("\n\n")
    for name in ("empty.txt", "nowhere.txt"):
        done = run("bench", "--prompts", name)
        assert done.returncode == 2
        assert name.encode() in done.stderr
        assert b"Traceback" not in done.stderr


def test_takes_prompts_from_a_file(run: Run, work_folder: Path) -> None:
    (work_folder / "prompts.txt").write_text("What is 7 times 8?\n\nWhat is 34 minus 22?\n")
    done = run("bench", "--prompts", "prompts.txt", "--model", "ash", "--model", "birch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"2 prompts, ratios to ")
