"""`cf-local calibrate` on the built-in models: from questions to an answer of the new fusion."""

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from cli.conftest import Run

import cf_local
from cf_local.builtin.problems import generate

pytestmark = pytest.mark.model

SAME = ("--no-overlap", "--threads", "1")
SMALL = ("calibrate", "builtin", "--limit", "24", *SAME)


@pytest.fixture
def user_file(run: Run) -> Path:
    return Path(json.loads(run("list", "--json").stdout)["user_file"])


def test_calibrate_then_ask(run: Run, user_file: Path) -> None:
    user_file.parent.mkdir(parents=True)
    user_file.write_text('# mine\n[fusions.two]  # these\nsources = ["ash", "birch"]\n')
    done = run(*SMALL, "--limit", "48")
    assert done.returncode == 0, done.stderr
    out, err = done.stdout.decode(), done.stderr.decode()
    assert out.splitlines()[0].split() == ["search", "half", "right", "(95%)", "questions"]
    assert "Recommended: cool. Confirmed: on 24 questions" in out
    assert "answers, in about" in err
    assert f"Written to {user_file}: cf-local ask --fusion calibrated" in err
    text = user_file.read_text()
    assert text.startswith('# mine\n[fusions.two]  # these\nsources = ["ash", "birch"]\n')
    assert "# Written by `cf-local calibrate`" in text
    fusion = tomllib.loads(text)["fusions"]["calibrated"]
    assert (fusion["sources"], fusion["mode"]) == (["ash", "birch", "cedar"], "cool")
    assert fusion["description"].startswith("Calibrated 2")

    asked = run("ask", "What is 7 times 8?", "--fusion", "calibrated", *SAME)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
    again = run("calibrate", "builtin", "--name", "two")
    assert again.returncode == 2
    assert b"There is already a fusion 'two'" in again.stderr


def test_the_floor_is_written_as_a_source_alone(
    run: Run, work_folder: Path, user_file: Path
) -> None:
    # Both sources are the same model: no fusion can be better.
    (work_folder / "twin.gguf").write_bytes(
        (Path(cf_local.__file__).parent / "builtin" / "ash.gguf").read_bytes()
    )
    done = run(*SMALL, "--model", "ash", "--model", "twin.gguf", "--name", "floor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["is_fused"], found["recommended"]) == (False, "ash")
    assert found["fusion"]["mode"] == "single"
    assert found["written_to"] == str(user_file)
    assert found["alone"]["ash"]["n"] == 24
    fusion = tomllib.loads(user_file.read_text())["fusions"]["floor"]
    assert (fusion["sources"], fusion["mode"]) == (["ash"], "single")
    assert "no fusion was better beyond chance" in fusion["description"]
    asked = run("ask", "What is 7 times 8?", "--fusion", "floor", *SAME)
    assert asked.returncode == 0, asked.stderr


def test_dry_run_files_and_resume(run: Run, work_folder: Path, user_file: Path) -> None:
    builtin = Path(cf_local.__file__).parent / "builtin"
    for name in ("birch", "cedar"):
        (work_folder / f"my {name}.gguf").write_bytes((builtin / f"{name}.gguf").read_bytes())
    models = ("--model", "ash", "--model", "my birch.gguf", "--model", "my cedar.gguf")
    arguments = (*SMALL, *models, "--out", "run", "--json")
    done = run(*arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not user_file.exists()
    found = json.loads(done.stdout)
    assert found["written_to"] is None
    n_lines = len((work_folder / "run" / "results.jsonl").read_text().splitlines())

    again = run(*arguments, "--resume")
    assert again.returncode == 0, again.stderr
    resumed = json.loads(again.stdout)
    assert resumed | {"written_to": None} == found
    assert len((work_folder / "run" / "results.jsonl").read_text().splitlines()) == n_lines
    sources = tomllib.loads(user_file.read_text())["sources"]
    assert sources["my-birch"] == {"file": str(work_folder / "my birch.gguf")}
    other_seed = run(*arguments, "--resume", "--seed", "1")
    assert other_seed.returncode == 2
    assert b"a different evaluation" in other_seed.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send to a child")
def test_interrupted_it_says_what_was_found(
    work_folder: Path, environment: dict[str, str], user_file: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cf_local", *SMALL, "--limit", "100", "--out", "run"],
        cwd=work_folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    path, end = work_folder / "run" / "results.jsonl", time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < 200:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"birch alone" in stderr
    assert b"Run the same command with --resume to continue" in stderr
    assert b"Traceback" not in stderr
    assert not user_file.exists()


def test_on_reference_texts(run: Run, work_folder: Path, user_file: Path) -> None:
    lines = [
        {"prompt": problem.question, "reference": problem.answer, "group": "ab"[i % 2]}
        for i, problem in enumerate(generate(24, seed=5, split="test"))
    ]
    (work_folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ("calibrate", "references:t.jsonl", "--out", "run", *SAME)
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.decode().splitlines()
    assert head.split() == ["search", "half", "right", "(95%)", "words"]
    assert len(rows) == 12 + 3 + 2
    assert rows[-2] == "and 36 more ways to fuse (--json has all)"
    assert rows[-1].startswith("Recommended: cool. Confirmed: on ")
    fusion = tomllib.loads(user_file.read_text())["fusions"]["calibrated"]
    assert fusion["sources"] == ["ash", "birch", "cedar"]
    assert (fusion["mode"], fusion["score"], fusion["weights"]) == ("cool", "mixture", "size")
    assert "words of the reference texts" in fusion["description"]
    assert "12 texts to search, 12 to confirm" in user_file.read_text()
    asked = run("ask", "What is 7 times 8?", "--fusion", "calibrated", *SAME)
    assert asked.returncode == 0, asked.stderr

    # The saved walks serve `eval`, too.
    shown = run("eval", "references:t.jsonl", "--out", "run", "--resume", "--json", *SAME)
    assert b"24 of 24 texts are already saved" in shown.stderr
    again = run(*arguments, "--resume", "--json", "--dry-run")
    found = json.loads(again.stdout)
    assert (found["unit"], found["n_search"], found["is_fused"]) == ("words", 12, True)
    assert len(found["tried"]) == 3 + 48


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("references:t.jsonl", "--max-tokens", "9"), b"--max-tokens: on reference texts"),
        (("references:t.jsonl",), b"1 texts are too few"),
        (("references:t.jsonl", "--model", "ash"), b"name two or more"),
        (("references:none.jsonl",), b"none.jsonl cannot be read"),
    ],
)
def test_wrong_use_of_texts(
    run: Run, work_folder: Path, arguments: tuple[str, ...], part: bytes
) -> None:
    (work_folder / "t.jsonl").write_text('{"prompt": "?", "reference": "x"}\n')
    done = run("calibrate", *arguments)
    assert done.returncode == 2
    assert part in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("builtin", "--resume"), b"--resume needs the folder"),
        (("builtin", "--name", "builtin"), b"There is already a fusion 'builtin'"),
        (("builtin", "--limit", "10"), b"10 questions are too few"),
        (("builtin", "--model", "ash"), b"name two or more"),
        (("nonsense",), b"Unknown task 'nonsense'"),
    ],
)
def test_wrong_use(run: Run, arguments: tuple[str, ...], part: bytes) -> None:
    done = run("calibrate", *arguments)
    assert done.returncode == 2
    assert part in done.stderr
    assert b"Traceback" not in done.stderr
