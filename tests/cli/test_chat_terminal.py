"""`cf-local chat` in a real terminal: Ctrl-C stops an answer, keeps what came and asks again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("pty", reason="no pseudo-terminals on this system")
pytest.importorskip("gguf")

import pty

from tiny_models import bpe_vocab, make_model


class Terminal:
    """A chat process behind a pseudo-terminal."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read_until(self, text: bytes, start: int = 0, timeout_s: float = 60) -> None:
        end = time.monotonic() + timeout_s
        while text not in self.seen[start:]:
            assert time.monotonic() < end, self.seen
            try:
                self.seen += os.read(self._master, 4096)
            except OSError:  # the other end is closed
                break
        assert text in self.seen[start:], self.seen

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        return self._process.wait(timeout=60)


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(
    environment: dict[str, str], tmp_path: Path
) -> None:
    endless = make_model(tmp_path / "endless.gguf", "llama", bpe_vocab(), seed=1, eog_bias=-60)
    command = [sys.executable, "-m", "cf_local", "chat", "--model", str(endless)]
    # A terminal that can do nothing but show text; test_chat_screen.py has the others.
    environment["TERM"] = "dumb"
    terminal = Terminal([*command, "--temperature=2", "--max-tokens=100000"], environment)
    terminal.read_until(b"> ")
    for _ in range(2):
        start = len(terminal.seen)
        terminal.type("go on\n")
        terminal.read_until(b" ", start + len("go on\r\n") + 20)  # some of the answer came
        terminal.interrupt()
        terminal.read_until(b"\n> ", start)
    terminal.type("/bye\n")
    assert terminal.wait() == 0
    assert b"Traceback" not in terminal.seen
