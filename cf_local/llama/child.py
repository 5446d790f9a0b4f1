"""Runs work that may end the process in a child: native code may crash on bad input.

The child is a module that prints JSON objects, one per line. Where there is no Python to start a
child with (in a PyInstaller bundle), the caller has to do the work itself.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cf_local.errors import Cancelled
from cf_local.progress import IsCancelled, never

_ASK_S = 0.05  # between two checks for cancellation
_ILLEGAL_INSTRUCTION = (-4, 0xC000001D)  # SIGILL, and what Windows calls it


def can_run() -> bool:
    """Whether this program's executable is a Python that can run a module."""
    return not getattr(sys, "frozen", False) and bool(sys.executable)


def run(
    module: str,
    arguments: Sequence[str] = (),
    *,
    timeout_s: float = 120,
    is_cancelled: IsCancelled = never,
) -> tuple[list[dict[str, Any]], str | None]:
    """What ``python -m module`` printed, and why it failed; None if it did not fail.

    Raises Cancelled once ``is_cancelled`` turns true.
    """
    try:
        # Its own session: Ctrl-C in the terminal reaches only us, and we then end the child.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,  # stdin may hold the user's question
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
        )
    except OSError as error:
        return [], f"it could not be started: {error.strerror}"
    with process:
        try:
            return _result_of(process, timeout_s, is_cancelled)
        finally:
            process.kill()  # does nothing if it has ended


def _environment() -> dict[str, str]:
    package = str(Path(__file__).parents[2])  # the child finds it as we did
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUTF8": "1",
        "GGML_NO_BACKTRACE": "1",  # llama.cpp would start a debugger before it ends the process
    }


def _result_of(
    process: subprocess.Popen[bytes], timeout_s: float, is_cancelled: IsCancelled
) -> tuple[list[dict[str, Any]], str | None]:
    end = time.monotonic() + timeout_s
    while True:
        try:
            stdout, stderr = process.communicate(timeout=_ASK_S)
        except subprocess.TimeoutExpired as error:
            if is_cancelled():
                raise Cancelled("Reading a model file was cancelled.") from None
            if time.monotonic() > end:
                return _records(error.stdout or b""), f"it did not finish within {timeout_s:g} s"
        else:
            ended = how_it_ended(process.returncode, stderr) if process.returncode else None
            return _records(stdout), ended


def how_it_ended(status: int, stderr: bytes) -> str:
    """Why a process ended with this status, as far as known."""
    lines = stderr.decode("utf-8", errors="replace").strip().splitlines()
    if status in _ILLEGAL_INSTRUCTION:
        return "it uses an instruction that this processor does not have"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"it was killed by {name}"
    return lines[-1] if lines else f"it exited with status {status}"


def emit(record: dict[str, Any]) -> None:
    """In the child: send a record to the parent."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def _records(raw: bytes) -> list[dict[str, Any]]:
    """Records from complete lines; a line that a crash cut off is left out."""
    records = []
    for line in raw.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
