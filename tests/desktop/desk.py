"""A virtual screen, real key events, and the example's window on it; skips without Tk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

tk = pytest.importorskip("tkinter", reason="this Python has no Tk")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "desktop"
sys.path.append(str(EXAMPLE))  # as it is for the program itself

from app import main  # noqa: E402
from window import Window  # noqa: E402
from worker import Worker  # noqa: E402

from cf_local import Sampling  # noqa: E402

__all__ = ["EXAMPLE", "ROOT", "Desk", "Screen", "main", "tk"]


class Screen:
    """A display that nobody sees, and its keyboard."""

    def __init__(self, display: str) -> None:
        self.display = display

    def xdotool(self, *arguments: str) -> str:
        done = subprocess.run(
            ["xdotool", *arguments],
            env=os.environ | {"DISPLAY": self.display},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    def type(self, text: str) -> None:
        self.xdotool("type", "--delay", "1", text)

    def press(self, key: str) -> None:
        self.xdotool("key", key)

    def focus_program(self, process: subprocess.Popen[str], timeout_s: float = 60) -> None:
        """Wait for a program's window, and let keys go into it: there is no window manager."""
        end = time.monotonic() + timeout_s
        while not (found := self.xdotool("search", "--onlyvisible", "--name", "^cf-local$")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "no window came"
            time.sleep(0.05)
        self.xdotool("windowfocus", found.split()[-1])


class Desk:
    """The window in this process: its main loop runs while we wait for something in it."""

    def __init__(self, screen: Screen, temperature: float = 0.0) -> None:
        self.root = tk.Tk(screenName=screen.display, className="cf-local")
        self.worker = Worker()
        self.window = Window(self.root, self.worker, sampling=Sampling(temperature))
        self.view, self.controls = self.window.view, self.window.controls
        self.longest_gap_s = 0.0
        self._last_beat_s = time.perf_counter()
        self._beat()
        self.root.update()
        self.root.focus_force()
        self.controls.focus_question()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest_gap_s = max(self.longest_gap_s, now - self._last_beat_s)
        self._last_beat_s = now
        self._next_beat = self.root.after(5, self._beat)

    def watch(self) -> None:
        """Forget the gaps that were: those between two waits are the test's own."""
        self._last_beat_s, self.longest_gap_s = time.perf_counter(), 0.0

    def until(self, condition: Callable[[], bool], timeout_s: float = 60) -> None:
        """Let the window live until something is true."""
        end = time.monotonic() + timeout_s
        self.watch()

        def look() -> None:
            if condition() or time.monotonic() > end:
                self.root.quit()
            else:
                self.root.after(2, look)

        self.root.after(0, look)
        self.root.mainloop()
        assert condition(), (self.window.state, self.controls.status.get(), self.view.content)

    def until_idle(self) -> None:
        self.until(lambda: self.window.state == "idle")

    def ask(self, question: str) -> str:
        """Send a question without keys; returns the answer that is shown."""
        self.controls.question.set(question)
        self.window.send()
        assert self.window.state == "writing"
        self.until_idle()
        return self.view.answer

    def close(self) -> None:
        """Close it as the user does; the main loop ends by itself."""
        self.root.after_cancel(self._next_beat)
        self.window.close()
        self.root.mainloop()
        assert not self.worker.is_alive
