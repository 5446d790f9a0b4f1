"""`cf-local ask --trace` and `cf-local trace` end to end, on the built-in models."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from answers import agreed, disputed, traced
from cli.conftest import Run
from tiny_models import bpe_vocab, make_model

from cf_local import trace
from cf_local.types import Chat, Message

pytestmark = pytest.mark.model

QUESTION = "Tom has 23 apples and buys 45 more. How many apples does he have now?"


def write(folder: Path, name: str = "answer.jsonl") -> Path:
    path = folder / name
    trace.write(path, [traced([agreed("He has"), disputed(" 23", " 24")])])
    return path


@pytest.mark.parametrize("mode", ["cool", "rerank", "cool+r", "single"])
def test_a_trace_holds_what_json_prints_and_how_it_was_made(
    run: Run, work_folder: Path, mode: str
) -> None:
    options = ("--mode", mode, "--seed", "5", "--system", "Be brief.")
    done = run("ask", QUESTION, *options, "--trace", "t.jsonl", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    heading, *lines = (work_folder / "t.jsonl").read_bytes().splitlines(keepends=True)
    assert b"".join(lines) == done.stdout
    (found,) = trace.read(work_folder / "t.jsonl")
    assert found.heading is not None
    assert found.heading.prompt == Chat((Message("system", "Be brief."), Message("user", QUESTION)))
    assert found.heading.settings["mode"] == mode
    assert found.heading.settings["sampling"]["seed"] == 5
    assert set(found.heading.versions) == {"cf_local", "llama_cpp_python", "python", "platform"}
    assert json.loads(heading)["format"] == 1
    assert list(found.names) == (["ash"] if mode == "single" else ["ash", "birch", "cedar"])
    assert all(s.n_threads and s.n_ctx and s.size_bytes and s.sha256 for s in found.sources)
    assert all(s.weight and 0.9 < s.weight <= 1 for s in found.sources)  # of about one size
    trace.write(work_folder / "again.jsonl", [found])
    assert (work_folder / "again.jsonl").read_bytes() == (work_folder / "t.jsonl").read_bytes()


def test_the_answer_is_printed_as_ever(run: Run) -> None:
    assert run("ask", QUESTION, "--trace", "t.jsonl").stdout == run("ask", QUESTION).stdout


def test_a_wrong_place_is_told_before_the_models_are_loaded(run: Run, work_folder: Path) -> None:
    (work_folder / "notes.txt").write_text("mine", encoding="utf-8")
    for place in ("notes.txt", "none/t.jsonl", "."):
        done = run("ask", QUESTION, "--model", "nowhere.gguf", "--trace", place)
        assert (done.returncode, done.stdout) == (2, b"")
    assert (work_folder / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_prompt_that_does_not_fit_leaves_no_trace(run: Run, work_folder: Path) -> None:
    assert run("ask", QUESTION, "--context", "8", "--trace", "t.jsonl").returncode == 6
    assert list(work_folder.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send to a child")
def test_ctrl_c_traces_what_came(environment: dict[str, str], tmp_path: Path) -> None:
    how = {"seed": 1, "n_ctx": 30_000, "eog_bias": -60}
    endless = make_model(tmp_path / "endless.gguf", "llama", bpe_vocab(), **how)
    path = tmp_path / "t.jsonl"
    command = [sys.executable, "-m", "cf_local", "ask", "go", "--model", str(endless)]
    command += ["--context", "30000"]
    with subprocess.Popen(
        [*command, "--max-tokens", "100000", "--temperature", "2", "--trace", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        bufsize=0,  # or `communicate` would miss what lies in the buffer
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(8)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    (found,) = trace.read(path)
    assert found.answer is not None
    assert found.answer.finish_reason == "cancelled"
    assert found.text == (first + rest).decode().removesuffix("\n")


def test_the_page_lies_next_to_the_trace(run: Run, work_folder: Path) -> None:
    write(work_folder)
    done = run("trace", "answer.jsonl")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"The page is answer.html.\n"
    page = (work_folder / "answer.html").read_text(encoding="utf-8")
    assert "won by ash among 2 candidates" in page
    assert run("trace", "answer.jsonl").returncode == 0  # a page of ours is replaced


def test_a_file_that_is_no_page_is_replaced_only_by_force(run: Run, work_folder: Path) -> None:
    write(work_folder)
    (work_folder / "answer.html").write_text("<p>mine", encoding="utf-8")
    done = run("trace", "answer.jsonl")
    assert done.returncode == 2
    assert b"answer.html exists and is not a page that this command wrote" in done.stderr
    assert b"--force" in done.stderr
    assert (work_folder / "answer.html").read_text(encoding="utf-8") == "<p>mine"
    assert run("trace", "answer.jsonl", "--force").returncode == 0
    assert b"<!DOCTYPE" in (work_folder / "answer.html").read_bytes()


def test_pipes_on_both_sides(run: Run, work_folder: Path) -> None:
    printed = run("ask", QUESTION, "--json").stdout
    piped = run("trace", "-", stdin=printed)
    assert (piped.returncode, piped.stderr) == (0, b"")
    assert piped.stdout.startswith(b"<!DOCTYPE html>")
    run("trace", "-", "-o", "there.html", stdin=printed)
    assert (work_folder / "there.html").read_bytes() == piped.stdout


def test_figures_as_json(run: Run, work_folder: Path) -> None:
    write(work_folder)
    done = run("trace", "answer.jsonl", "--json")
    (figures,) = json.loads(done.stdout)["answers"]
    assert (figures["n_segments"], figures["wins"]) == (2, {"ash": 1, "birch": 0, "cedar": 0})
    assert not (work_folder / "answer.html").exists()
    run("trace", "answer.jsonl", "--json", "-o", "too.html")
    assert (work_folder / "too.html").exists()


def test_the_trace_itself_is_never_overwritten(run: Run, work_folder: Path) -> None:
    before = write(work_folder, "answer.html").read_bytes()
    for arguments in (["answer.html"], ["answer.html", "-o", "./answer.html", "--force"]):
        done = run("trace", *arguments)
        assert done.returncode == 2
        assert b"is the trace itself" in done.stderr
    assert (work_folder / "answer.html").read_bytes() == before


def test_a_file_that_is_no_trace_is_told_with_its_line(run: Run, work_folder: Path) -> None:
    path = write(work_folder)
    path.write_text(path.read_text(encoding="utf-8") + "oops\n", encoding="utf-8")
    done = run("trace", "answer.jsonl")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"Error: answer.jsonl, line 5: this is not JSON: Expecting value.\n"
    assert not (work_folder / "answer.html").exists()
    assert run("trace", "nowhere.jsonl").returncode == 2


def test_usage(run: Run) -> None:
    assert run("trace", "-", "--open", stdin=b"").returncode == 2
    assert b"--open" in run("trace", "--help").stdout
