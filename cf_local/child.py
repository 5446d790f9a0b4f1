"""Work that may end the process, done in a child: native code that meets what it cannot stand.

The child is a module that prints JSON objects, one per line. Where there is no Python to start one
(a bundle of PyInstaller), the caller has to do the work itself.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ILLEGAL_INSTRUCTION = (-4, 0xC000001D)  # SIGILL, and what Windows calls it


def can_run() -> bool:
    """Whether this program's executable is a Python that can run a module."""
    return not getattr(sys, "frozen", False) and bool(sys.executable)


def run(
    module: str, arguments: Sequence[str] = (), *, timeout_s: float = 120
) -> tuple[list[dict[str, Any]], str | None]:
    """What ``python -m module`` printed, and how it came to a bad end, None if it did not."""
    command = [sys.executable, "-P", "-m", module, *arguments]
    package = str(Path(__file__).parents[1])  # found in the child as it was found here
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUTF8": "1",
        "GGML_NO_BACKTRACE": "1",  # llama.cpp would start a debugger before it ends the process
    }
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,  # what is piped in is the user's question
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        return _records(error.stdout or b""), f"it did not end within {timeout_s:g} s"
    except OSError as error:
        return [], f"it could not be started: {error.strerror}"
    ended = how_it_ended(done.returncode, done.stderr) if done.returncode else None
    return _records(done.stdout), ended


def how_it_ended(status: int, stderr: bytes) -> str:
    """Why a process ended with this status, as far as it can be told."""
    lines = stderr.decode("utf-8", errors="replace").strip().splitlines()
    if status in _ILLEGAL_INSTRUCTION:
        return "it uses an instruction that this processor does not have"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"it was ended by {name}"
    return lines[-1] if lines else f"it ended with status {status}"


def emit(record: dict[str, Any]) -> None:
    """In the child: hand over a record."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def _records(raw: bytes) -> list[dict[str, Any]]:
    """The whole lines; what a crash cut off is left out."""
    records = []
    for line in raw.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
