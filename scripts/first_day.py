"""A first day, as a newcomer has it: real models, a real terminal, real browsers, an empty home.

    python scripts/first_day.py OUT [--model FILE ...] [--question TEXT]

From a folder with three GGUF files to a fused answer by `ask`, in the chat and on the page, in
Chromium and in Firefox. Prints what was typed and how many seconds each step took. OUT gets what
was seen: the terminal as text and as pictures, the page in several sizes and themes.
Needs the extra `dev`, Chromium, and the models of `python scripts/dev.py models`.
"""

import argparse
import html
import os
import re
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pyte

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import CHROMIUM, Page, browser  # noqa: E402  # needs the path above
from firefox import FIREFOX, firefox  # noqa: E402

MODELS = ("smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b")
QUESTION = "What makes a good friend? Answer in two sentences."
N_COLUMNS, N_LINES = 100, 40
PATIENCE_S = 600.0
WHITE = "#e6e6e6"
ANSI = {
    "black": "#4d4d4d", "red": "#ff7b72", "green": "#7ee787", "brown": "#e3b341",
    "blue": "#79c0ff", "magenta": "#d2a8ff", "cyan": "#76e3ea", "white": WHITE,
}  # fmt: skip
PICTURE = f"""<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0 }}
pre {{ margin: 0; padding: 12px; overflow: hidden; font: 14px/1.35 monospace }}
pre {{ background: #161b22; color: {WHITE} }}
</style><pre>ROWS</pre>"""
ANSWERED = "document.querySelector('.answer[aria-busy=false]')"


class Terminal:
    """A shell in a pseudo-terminal, and what its screen shows."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._screen = pyte.HistoryScreen(N_COLUMNS, N_LINES, history=5000, ratio=0.001)
        self._stream = pyte.Stream(self._screen)
        self._child = pexpect.spawn(
            "bash",
            ["--norc", "--noprofile", "-i"],
            cwd=str(folder),
            env=env
            | {"PS1": "$ ", "TERM": "xterm-256color", "BASH_SILENCE_DEPRECATION_WARNING": "1"},
            encoding="utf-8",
            codec_errors="replace",
            dimensions=(N_LINES, N_COLUMNS),
        )
        self.wait(lambda: self.line == "$")

    @property
    def line(self) -> str:
        """The line of the cursor."""
        return str(self._screen.display[self._screen.cursor.y]).rstrip()

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def type(self, text: str) -> None:
        """Type a text, then Enter."""
        self._child.send(text + "\r")

    def press(self, key: str) -> None:
        """Press a key with Ctrl."""
        self._child.sendcontrol(key)

    def wait(self, holds: Callable[[], bool]) -> float:
        """Read what comes until something holds; returns the seconds."""
        start = time.monotonic()
        while not holds():
            if time.monotonic() - start > PATIENCE_S:
                raise TimeoutError(f"The terminal shows:\n{self.text}")
            try:
                self._stream.feed(self._child.read_nonblocking(65536, timeout=0.02))
            except pexpect.TIMEOUT:
                continue
        return time.monotonic() - start

    def run(self, command: str) -> float:
        """Run a command to its end; returns the seconds."""
        self.type(command)
        self.wait(lambda: command[:20] in self.text)
        return self.wait(lambda: self.line == "$")

    def save(self, path: Path, page: Page) -> None:
        """Write everything that was shown, as text and as a picture; start an empty screen."""
        lines = [*self._screen.history.top, *(self._screen.buffer[y] for y in range(N_LINES))]
        shown = ["".join(row[x].data for x in range(N_COLUMNS)).rstrip() for row in lines]
        while shown and shown[-1] in ("", "$"):
            shown.pop()
        path.with_suffix(".txt").write_text("\n".join(shown) + "\n", "utf-8")
        rows = "\n".join(map(_row, lines[: len(shown)]))
        path.with_suffix(".html").write_text(PICTURE.replace("ROWS", rows), "utf-8")
        page.resize(880, min(16000, 24 + 19 * len(shown)))
        page.open(path.with_suffix(".html"))
        page.screenshot(path.with_suffix(".png"))
        path.with_suffix(".html").unlink()
        self._screen.history.top.clear()
        self._child.send("\x0c")  # clears the screen
        self.wait(lambda: self.text == "$")


def _row(row: "dict[int, pyte.screens.Char]") -> str:
    """A line of the terminal as HTML."""
    parts = []
    for x in range(N_COLUMNS):
        char = row[x]
        colour = ANSI.get(char.fg.removeprefix("bright"), f"#{char.fg}")
        style = f"color:{WHITE if char.fg == 'default' else colour}"
        style += ";font-weight:bold" if char.bold else ""
        style += ";text-decoration:underline" if char.underscore else ""
        parts.append(f'<span style="{style}">{html.escape(char.data)}</span>')
    return "".join(parts).rstrip()


class Day:
    """What was done so far; prints it."""

    def __init__(self, out: Path, page: Page) -> None:
        self.out, self.page = out, page
        self.n_commands = 0

    def note(self, what: str, seconds: float, *, is_command: bool = False) -> None:
        """Print a step with its seconds."""
        self.n_commands += is_command
        print(f"{seconds:7.1f} s  {what}", flush=True)

    def saw(self, name: str) -> Path:
        """Where a picture belongs."""
        return self.out / f"{name}.png"


def main() -> None:
    """Parse the command line and have the day."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, action="append", dest="models")
    parser.add_argument("--question", default=QUESTION)
    given = parser.parse_args()
    models = given.models or [ROOT / ".cache" / "models" / f"{name}.gguf" for name in MODELS]
    missing = [str(path) for path in models if not path.is_file()]
    if missing or CHROMIUM is None:
        sys.exit(
            f"Missing: {', '.join(missing) or 'Chromium'}; see `python scripts/dev.py models`."
        )
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, browser(Path(name) / "chromium") as page:
        folder = Path(name) / "models"
        folder.mkdir()
        for path in models:
            (folder / path.name).symlink_to(path.resolve())
        day = Day(given.out, page)
        terminal = Terminal(folder, _environment(Path(name)))
        in_the_terminal(day, terminal, given.question)
        with served(day, terminal) as url:
            on_the_page(day, url, given.question)
            in_firefox(day, url, given.question, Path(name) / "firefox")
        print(f"{day.n_commands} commands; what was seen is in {given.out}")


def _environment(home: Path) -> dict[str, str]:
    """The environment of somebody who has nothing but the command."""
    dropped = ("NO_COLOR", "HF_HOME", "HF_HUB_CACHE", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CF_LOCAL_")}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {k: v for k, v in kept.items() if k not in dropped} | {"HOME": str(home)}


def in_the_terminal(day: Day, terminal: Terminal, question: str) -> None:
    """The models that lie here, a default fusion, a first answer, a chat."""
    terminal.run("ls -lhL")
    terminal.type("cf-local setup")
    asked_s = terminal.wait(lambda: "[Y/n]" in terminal.text)
    terminal.type("")
    seconds = asked_s + terminal.wait(lambda: terminal.line == "$")
    day.note("cf-local setup, and Enter", seconds, is_command=True)
    terminal.save(day.saw("1-setup"), day.page)
    command = f"cf-local ask {shlex.quote(question)} --show-winners"
    day.note(command, terminal.run(command), is_command=True)
    terminal.save(day.saw("2-ask"), day.page)
    terminal.type("cf-local chat")
    is_asked = re.compile(r"^>\s*$")
    day.note(
        "cf-local chat", terminal.wait(lambda: bool(is_asked.match(terminal.line))), is_command=True
    )
    for line in (question, "And what if it snows?", "/why #2", "/stats", "/help"):
        terminal.type(line)
        terminal.wait(lambda line=line: line[:30] in terminal.text)
        seconds = terminal.wait(lambda: bool(is_asked.match(terminal.line)))
        day.note(f"> {line}", seconds)
    terminal.type("/bye")
    terminal.wait(lambda: terminal.line == "$")
    terminal.save(day.saw("3-chat"), day.page)


@contextmanager
def served(day: Day, terminal: Terminal) -> Iterator[str]:
    """The page's address while `cf-local serve` runs in the terminal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    terminal.type(f"cf-local serve --port {port}")
    seconds = terminal.wait(lambda: f"http://127.0.0.1:{port}" in terminal.text)
    day.note("cf-local serve", seconds, is_command=True)
    yield f"http://127.0.0.1:{port}/"
    terminal.press("c")
    terminal.wait(lambda: terminal.line == "$")
    terminal.save(day.saw("4-serve"), day.page)


def on_the_page(day: Day, url: str, question: str) -> None:
    """A question on the page, then the answer in all sizes and themes."""
    page = day.page
    zoom(page, 1280, 900)
    day.note("the page in Chromium", page.visit(url))
    page.wait("document.querySelector('.picker:enabled')", PATIENCE_S)
    page.screenshot(day.saw("5-page-empty"))
    page.eval("document.querySelector('#question').focus()")
    page.type(question)
    start = time.monotonic()
    page.press("Enter", "\r")
    page.wait("document.querySelectorAll('.text .s').length > 12", PATIENCE_S)
    day.note("the first words on the page", time.monotonic() - start)
    page.screenshot(day.saw("5-page-writing"))
    page.wait(ANSWERED, PATIENCE_S)
    day.note("the whole answer on the page", time.monotonic() - start)
    looks = {
        "desktop-light": (1280, 900, 1, False),
        "desktop-dark": (1280, 900, 1, True),
        "zoom-200": (640, 450, 2, False),
        "phone": (390, 844, 2, False),
        "phone-dark": (390, 844, 2, True),
    }
    for name, (width, height, scale, dark) in looks.items():
        zoom(page, width, height, scale, dark=dark)
        page.screenshot(day.saw(f"6-{name}"))
        page.eval("document.querySelector('.text .s.w').click()")
        page.wait("document.querySelector('.card')")
        page.screenshot(day.saw(f"6-{name}-card"))
        page.eval("document.querySelector('[aria-label=\"Close details\"]').click()")
        page.eval(
            "document.querySelector('[aria-label=\"Settings of this conversation\"]').click()"
        )
        page.wait("document.querySelector('dialog[open]')")
        page.screenshot(day.saw(f"6-{name}-settings"))
        page.press("Escape")
        page.wait("!document.querySelector('dialog')")
    if page.problems:
        print("Chromium complains:", *page.problems, sep="\n  ")


def zoom(page: Page, width: int, height: int, scale: float = 1, *, dark: bool = False) -> None:
    """Pretend to be a screen of so many CSS pixels."""
    page.resize(width, height, dark=dark)
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=height, deviceScaleFactor=scale, mobile=width < 600,
    )  # fmt: skip
    page.eval("new Promise((done) => setTimeout(done, 300))")


def in_firefox(day: Day, url: str, question: str, profile: Path) -> None:
    """The same in Firefox, if it is there."""
    if FIREFOX is None:
        print("No Firefox found.")
        return
    profile.mkdir()
    with firefox(profile) as page:
        page.resize(1280, 900)
        day.note("the page in Firefox", page.visit(url))
        page.wait("document.querySelector('.picker:enabled')", PATIENCE_S)
        page.eval("document.querySelector('#question').focus()")
        page.type(question)
        start = time.monotonic()
        page.press("Enter")
        page.wait("document.querySelectorAll('.text .s').length > 5", PATIENCE_S)
        day.note("the first words in Firefox", time.monotonic() - start)
        page.wait(ANSWERED, PATIENCE_S)
        day.note("the whole answer in Firefox", time.monotonic() - start)
        page.eval("document.querySelector('.text .s.w')?.click()")
        page.screenshot(day.saw("7-firefox"))
        page.resize(390, 844)
        page.screenshot(day.saw("7-firefox-phone"))
        if page.problems:
            print("Firefox complains:", *page.problems, sep="\n  ")


if __name__ == "__main__":
    main()
