"""A headless Chromium driven over a pipe by the DevTools protocol, with nothing but Python."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
)  # fmt: skip
_TIMEOUT_S = 60.0


class Tab:
    """What all browsers can do."""

    def eval(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of what it promises."""
        raise NotImplementedError

    def wait(self, expression: str, timeout_s: float = 20.0) -> None:
        """Until a JavaScript expression is true; an element is."""
        end = time.monotonic() + timeout_s
        while not self.eval(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"still not true: {expression}")
            time.sleep(0.02)


class Page(Tab):
    """One tab. ``requests`` and ``problems`` (console errors, exceptions) are gathered."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer = b""
        self._id = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.events: dict[str, dict[str, Any]] = {}  # the last of each other kind
        self.path = Path()  # of the file that a test opened
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        self._id += 1
        message: dict[str, Any] = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        wanted = self._id
        while True:
            found = self._next()
            if found.get("id") == wanted:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return dict(found["result"])

    def open(self, path: Path, fragment: str = "") -> float:
        """Load a file; returns the seconds until it had loaded."""
        return self.visit(path.as_uri() + fragment)

    def visit(self, url: str) -> float:
        """Load an address; returns the seconds until it had loaded."""
        start = time.monotonic()
        self.call("Page.navigate", url=url)
        while self.eval("document.readyState") != "complete":
            time.sleep(0.01)
        return time.monotonic() - start

    def reload(self) -> None:
        """Load the page again, to the end: what is looked at next is the new one."""
        self.eval("window.isOld = true")
        self.call("Page.reload")
        self.wait("!window.isOld && document.readyState === 'complete'", _TIMEOUT_S)

    def eval(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of what it promises."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def type(self, text: str) -> None:
        """Put text in where the keyboard is, as an input method would."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Press the middle of an element with the mouse."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        at = self.eval(f"(b => ({{x: b.x + b.width / 2, y: b.y + b.height / 2}}))({box})")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def press(self, key: str, text: str = "", *, shift: bool = False) -> None:
        """Press and release a key."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        how: dict[str, Any] = {"key": key, "code": key}
        how |= {"windowsVirtualKeyCode": codes.get(key, 0), "modifiers": 8 if shift else 0}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **down, **how)
        self.call("Input.dispatchKeyEvent", type="keyUp", **how)

    def resize(self, width: int, height: int, *, dark: bool = False, script: bool = True) -> None:
        """Pretend to be another screen, system theme, or a browser without JavaScript."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)

    def screenshot(self, path: Path) -> None:
        """Write what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _next(self) -> dict[str, Any]:
        """The next message; events are noted."""
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], _TIMEOUT_S)[0]:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self._read, 1 << 16)
            if not chunk:
                raise RuntimeError("the browser has gone")
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        match message.get("method"), message.get("params", {}):
            case "Network.requestWillBeSent", event:
                self.requests.append(event["request"]["url"])
            case "Runtime.exceptionThrown", event:
                self.problems.append(str(event["exceptionDetails"]))
            case "Runtime.consoleAPICalled", event:
                self.problems.append(str(event["args"]))
            case "Log.entryAdded", event:
                self.problems.append(event["entry"]["text"])
            case str(kind), event:
                self.events[kind] = event
        return message


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, with its profile in ``folder``."""
    assert CHROMIUM is not None
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()

    def as_3_and_4() -> None:
        read, write = os.dup(to_browser), os.dup(from_browser)
        os.dup2(read, 3)
        os.dup2(write, 4)

    process = subprocess.Popen(
        [CHROMIUM, *_FLAGS, f"--user-data-dir={folder}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=as_3_and_4,  # no threads here
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(ours_in, ours_out)
    finally:
        os.close(ours_out)  # the browser ends when its pipe does
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(ours_in)
