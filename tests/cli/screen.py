"""A chat in a real pseudo-terminal, for tests: types, waits for the prompt, reads the database."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pexpect

from cf_local.chats.database import ChatStore
from cf_local.chats.transcript import Transcript

PROMPT = re.compile(r"\x1b\[\?2004h[^\n]*?>[^\n]*?\x1b\[\?25h")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\x08\r]")


class Screen:
    """A chat process with line editing; ``env`` names its data folder as CF_LOCAL_DATA."""

    def __init__(self, env: dict[str, str], arguments: Sequence[str] = (), cwd: Path | None = None):
        self._env = env
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "cf_local", "chat", *arguments],
            env=env | {"TERM": "xterm-256color"},
            cwd=cwd,
            encoding="utf-8",
            codec_errors="replace",
            dimensions=(30, 100),
            timeout=20,
        )
        self.child.delaybeforesend = None

    def prompt(self) -> str:
        """Wait until a line can be typed; what was shown until then, without escape codes."""
        self.child.expect(PROMPT)
        return plain(self.child.before)

    def enter(self, line: str) -> str:
        """Type a line, wait for the next prompt; what was shown in between."""
        self.child.send(line + "\r")
        return self.prompt()

    def paste(self, text: str) -> None:
        """Paste a long text, as terminals do; what it shows meanwhile is read, too."""
        self.child.send("\x1b[200~")
        for at in range(0, len(text), 1000):
            self.child.send(text[at : at + 1000])
            with contextlib.suppress(pexpect.TIMEOUT):
                while True:
                    self.child.read_nonblocking(100_000, timeout=0.02)
        self.child.send("\x1b[201~\r")

    def leave(self) -> int | None:
        """Press Ctrl-D and wait for the end; the exit status."""
        self.child.send("\x04")
        self.child.expect(pexpect.EOF)
        self.child.close()
        return self.child.exitstatus

    def kill(self) -> None:
        """End it as a crash would."""
        self.child.kill(signal.SIGKILL)
        self.child.close(force=True)

    def saved(self) -> list[Transcript]:
        """All chats in the database, the last changed first."""
        with ChatStore(Path(self._env["CF_LOCAL_DATA"]) / "conversations.db") as store:
            return [store.load(info.number)[0] for info in store.chats()]


def plain(text: str) -> str:
    """Text as it was shown, without escape codes."""
    return ESCAPES.sub("", text)
