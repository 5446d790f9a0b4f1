"""Standard streams that are closed or full, and files that cannot be read: a line, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="closes file descriptors")
QUESTION = "What is 7 times 8?"
FULL = Path("/dev/full")


def shell(
    redirection: str, *arguments: str, environment: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess[bytes]:
    words = " ".join(f"'{word}'" for word in (sys.executable, "-m", "cf_local", *arguments))
    return subprocess.run(
        ["sh", "-c", f"{words} {redirection}"],
        capture_output=True,
        cwd=cwd,
        env=environment,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("redirection", ["2>&-", "<&-", "2>/dev/full", "<&- 2>&-"])
def test_the_answer_comes_where_it_can(
    redirection: str, environment: dict[str, str], work_folder: Path
) -> None:
    done = shell(redirection, "ask", QUESTION, environment=environment, cwd=work_folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"56" in done.stdout


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", [("ask", QUESTION), ("ask", QUESTION, "--json"), ("list",)])
def test_a_full_disk_is_a_line(
    command: tuple[str, ...], environment: dict[str, str], work_folder: Path
) -> None:
    done = shell(">/dev/full", *command, environment=environment, cwd=work_folder)
    assert done.returncode == 1
    assert done.stderr == b"Error: the output cannot be written: No space left on device.\n"


def test_no_output_is_said(environment: dict[str, str], work_folder: Path) -> None:
    done = shell(">&-", "ask", QUESTION, environment=environment, cwd=work_folder)
    assert done.returncode == 0
    assert done.stderr == b"Note: standard output is closed; nothing is printed.\n"


def test_without_a_question_and_without_input_something_is_asked_for(
    environment: dict[str, str], work_folder: Path
) -> None:
    done = shell("<&-", "ask", environment=environment, cwd=work_folder)
    assert done.returncode == 2
    assert b"The prompt is empty" in done.stderr


def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    """What llama.cpp writes to standard error would end up in it."""
    code = (
        "import os, sys\n"
        "os.close(2)\n"
        "from cf_local.cli.main import _open_closed_streams\n"
        "_open_closed_streams()\n"
        "print(os.open(os.devnull, os.O_RDONLY))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 2


def test_a_token_that_is_not_text_is_a_problem_of_the_hub_alone(
    run: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_bytes(b"hf_\xff")
    env = {"HF_HOME": str(tmp_path / "hf")}
    doctor = run("doctor", env=env)
    assert doctor.returncode == 1
    assert b"token cannot be read: it is not text" in doctor.stdout.replace(b"\n", b" ") or (
        b"cannot be read: it is not text" in doctor.stdout
    )
    assert b"the built-in models load" in doctor.stdout  # it goes on
    pull = run("pull", "some/repo", env=env)
    assert pull.returncode == 2
    assert pull.stderr.count(b"\n") == 1
    assert b"hf auth login" in pull.stderr
    assert run("ask", QUESTION, env=env).returncode == 0
