"""A headless Firefox driven by WebDriver BiDi: pages in an engine that is no Chromium."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from browser import Tab
from websockets.sync.client import ClientConnection, connect

FIREFOX = next(filter(None, map(shutil.which, ("firefox", "firefox-esr"))), None)
_TIMEOUT_S = 60.0
_KEYS = {"Tab": "\ue004", "Enter": "\ue006", "Escape": "\ue00c"}
_QUIET = """user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,");
"""


class FirefoxPage(Tab):
    """One tab. ``problems`` (console messages and exceptions) are gathered."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._id = 0
        self.problems: list[str] = []
        self.call("session.new", capabilities={})
        self._tab = self.call("browsingContext.getTree")["contexts"][0]["context"]
        self.call("session.subscribe", events=["log.entryAdded"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        self._connection.send(json.dumps(message))
        while True:
            found = json.loads(self._connection.recv(timeout=_TIMEOUT_S))
            if found.get("method") == "log.entryAdded":
                self.problems.append(str(found["params"].get("text")))
            if found.get("id") == self._id:
                if found["type"] == "error":
                    raise RuntimeError(f"{method}: {found['message']}")
                return dict(found["result"])

    def visit(self, url: str) -> float:
        """Load an address; returns the seconds until it had loaded."""
        start = time.monotonic()
        self.call("browsingContext.navigate", context=self._tab, url=url, wait="complete")
        return time.monotonic() - start

    def reload(self) -> None:
        """Load the page again, to the end: leaving it meanwhile would be a problem."""
        self.call("browsingContext.reload", context=self._tab, wait="complete")

    def eval(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of what it promises."""
        found = self.call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self._tab},
            awaitPromise=True,
        )
        if found["type"] == "exception":
            raise RuntimeError(f"{expression}: {found['exceptionDetails']['text']}")
        value = found["result"].get("value")
        return None if value is None else json.loads(value)

    def type(self, text: str) -> None:
        """Type a text where the keyboard is."""
        self._keys(list(text))

    def press(self, key: str) -> None:
        """Press and release a key."""
        self._keys([_KEYS.get(key, key)])

    def resize(self, width: int, height: int) -> None:
        """Pretend to be another screen."""
        size = {"width": width, "height": height}
        self.call("browsingContext.setViewport", context=self._tab, viewport=size)

    def screenshot(self, path: Path) -> None:
        """Write what is seen as a PNG."""
        found = self.call("browsingContext.captureScreenshot", context=self._tab)
        path.write_bytes(base64.b64decode(found["data"]))

    def _keys(self, keys: list[str]) -> None:
        pressed = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": pressed}
        self.call("input.performActions", context=self._tab, actions=[source])


@contextlib.contextmanager
def firefox(folder: Path) -> Iterator[FirefoxPage]:
    """A page in a browser of its own, with its profile in ``folder``."""
    assert FIREFOX is not None
    (folder / "user.js").write_text(_QUIET, encoding="utf-8")
    process = subprocess.Popen(
        [FIREFOX, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with connect(f"{_address(process)}/session", max_size=None, proxy=None) as connection:
            yield FirefoxPage(connection)
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    """Where it listens, which it writes once it does."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
            return found.group(1)
    raise RuntimeError("Firefox ended before it listened")
