"""The desktop example as its user starts it: a process, with keys from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from desk import EXAMPLE, ROOT, Screen, main, tk  # type: ignore[attr-defined]

import cf_local

pytestmark = pytest.mark.model

QUESTION = "Tom has 23 apples and buys 45 more. How many apples does he have now?"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(screen: Screen, tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []
    environment = {
        **os.environ,
        "DISPLAY": screen.display,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }

    def start_program(*arguments: str, **changes: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(EXAMPLE / "app.py"), *arguments]
        process = subprocess.Popen(
            command,
            env=environment | changes,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start_program
    for process in running:
        process.kill()
        process.communicate()


def copied(screen: Screen, wanted: str, timeout_s: float = 60) -> str:
    """What Ctrl+Shift+C puts on the clipboard, once it is what is wanted or time is up."""
    reader = tk.Tk(screenName=screen.display)
    reader.withdraw()
    end, seen = time.monotonic() + timeout_s, ""
    while seen != wanted and time.monotonic() < end:
        screen.press("ctrl+shift+c")
        try:
            seen = reader.clipboard_get()
        except tk.TclError:  # nothing there yet
            time.sleep(0.1)
    reader.destroy()
    return seen


def ended(process: subprocess.Popen[str], timeout_s: float = 30) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=timeout_s)
    return process.returncode, stdout, stderr


def test_a_question_is_typed_and_its_answer_copied(start: Start, screen: Screen) -> None:
    with cf_local.load() as fusion:
        wanted = fusion.answer(cf_local.chat(QUESTION)).text
    program = start()
    screen.focus_program(program)
    screen.type(QUESTION)
    end = time.monotonic() + 60
    while time.monotonic() < end:  # Enter does nothing while models load
        screen.press("Return")
        if copied(screen, wanted, timeout_s=2) == wanted:
            break
    assert copied(screen, wanted) == wanted
    screen.press("ctrl+q")
    assert ended(program) == (0, "", "")


def test_closing_while_it_loads_exits_cleanly(start: Start, screen: Screen) -> None:
    program = start()
    screen.focus_program(program)
    screen.press("ctrl+q")
    assert ended(program) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_writes_exits_cleanly(
    start: Start, screen: Screen, endless_models: list[str], number: signal.Signals
) -> None:
    models = [part for path in endless_models for part in ("--model", path)]
    program = start(*models, "--temperature=2")
    screen.focus_program(program)
    screen.type("go on")
    end = time.monotonic() + 60
    while not copied(screen, "more than nothing", timeout_s=0.2):  # it has loaded, and writes
        assert time.monotonic() < end
        screen.press("Return")
    program.send_signal(number)
    assert ended(program) == (0, "", "")


def test_without_a_screen_it_says_so(start: Start) -> None:
    status, stdout, stderr = ended(start(DISPLAY=":9999"))
    assert (status, stdout) == (1, "")
    assert stderr.startswith("Error: no window can be opened: ")
    assert len(stderr.splitlines()) == 1


def test_ask_needs_no_screen(start: Start) -> None:
    with cf_local.load() as fusion:
        wanted = fusion.answer(cf_local.chat(QUESTION)).text
    assert ended(start("--ask", QUESTION, DISPLAY="")) == (0, wanted + "\n", "")


def test_ask_ends_with_the_exit_code_of_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone.gguf"
    assert main(["--ask", "Hello", "--model", str(gone)]) == 3
    assert str(gone) in capsys.readouterr().err
    assert main(["--ask", "Hello", "--temperature=-1"]) == 2
    assert "temperature" in capsys.readouterr().err
