"""axe looks over the page: no serious findings, in both themes, on a phone, and when it is long."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Page, browser
from serving import Served, serving, slow

AXE = Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found"),
    pytest.mark.skipif(os.name == "nt", reason="the pipe to the browser is a POSIX one"),
]

ANSWER = """# Head\n\nSome **bold** `code`, $x^2$ and a [link](https://example.org).\n
1. one\n2. two\n
- [x] done\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n> quoted\n\n```py\nx = 1  # one\n```"""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
FOUND = f"""axe.run(document, {{ runOnly: {RULES} }}).then(({{ violations }}) =>
    violations.map(({{ id, impact, nodes }}) => [id, impact, nodes[0].html]))"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.call("Page.setBypassCSP", enabled=True)  # axe adds styles
        yield page


@pytest.fixture(scope="module")
def server(tab: Page) -> Iterator[Served]:  # after the browser, which is started by a fork
    with serving(slow()) as served:
        yield served


def findings(page: Page) -> list[Any]:
    return [one for one in page.eval(FOUND) if one[1] in ("serious", "critical")]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_axe_finds_nothing_serious(
    tab: Page, server: Served, tmp_path: Path, width: int, dark: bool
) -> None:
    tab.resize(width, 1600, dark=dark)
    tab.visit(server.url)
    tab.wait("document.querySelector('.picker:enabled') && document.querySelector('.examples')")
    tab.eval(AXE.read_text("utf-8"))
    assert findings(tab) == []
    file = tmp_path / "chat.json"
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ANSWER}]
    file.write_text(json.dumps({"messages": said}), "utf-8")
    if width < 600:
        tab.eval("document.querySelector('[aria-label=Conversations]').click()")
        tab.wait("document.querySelector('.drawer')")
    document = tab.call("DOM.getDocument")["root"]["nodeId"]
    chosen = ".sidebar input[type=file]"
    field = tab.call("DOM.querySelector", nodeId=document, selector=chosen)
    tab.call("DOM.setFileInputFiles", files=[str(file)], nodeId=field["nodeId"])
    tab.wait("document.querySelector('.text math') && document.querySelector('.c-comment')")
    if width < 600:
        tab.eval("document.querySelector('.drawer').close()")
    assert findings(tab) == []
    for label in ("Settings of this conversation", "Model: builtin"):
        tab.eval(f"document.querySelector('[aria-label=\"{label}\"]').click()")
        tab.wait("document.querySelector('dialog[open]')")
        tab.eval("document.querySelectorAll('dialog details').forEach((one) => (one.open = true))")
        assert findings(tab) == []
        tab.press("Escape")
        tab.wait("!document.querySelector('dialog')")
