"""The page of a trace in a real browser: by keyboard, without a network, without JavaScript."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from answers import agreed, disputed, traced
from browser import CHROMIUM, Page, browser

from cf_local.trace import page as report

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found"),
    pytest.mark.skipif(os.name == "nt", reason="the pipe to the browser is a POSIX one"),
]

STEPS = [
    agreed("He has"),
    disputed(" 23", " 24"),
    agreed(" or"),
    disputed(" </script><script>alert(1)</script>", " 25", winner=0),
    agreed(".", ends=True),
]
PANEL = "document.querySelector('#panel')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def opened(tab: Page, tmp_path: Path) -> Page:
    tab.problems.clear()
    tab.requests.clear()
    tab.resize(1280, 900)
    path = tmp_path / "page.html"
    path.write_text(report.render([traced(STEPS)]), encoding="utf-8", newline="\n")
    tab.path = path
    tab.open(path)
    return tab


def shown(page: Page) -> str:
    """What the panel says, on one line."""
    return " ".join(str(page.eval(f"{PANEL}.innerText")).split())


def test_it_opens_without_errors_and_without_a_request(opened: Page) -> None:
    assert opened.problems == []
    assert [u for u in opened.requests if not u.startswith(("file:", "data:,"))] == []
    assert opened.eval("document.querySelectorAll('script').length") == 1
    assert shown(opened).startswith("Most disputed. Step 2 of 5")
    assert opened.eval("document.activeElement === document.body")  # nobody's focus was moved


def test_the_most_disputed_word_is_open_at_first(tab: Page, tmp_path: Path) -> None:
    steps = [disputed("a", "b"), disputed(" c", " d", winner=1), agreed(" e")]
    paths = [tmp_path / name for name in ("wide.html", "linked.html", "phone.html")]
    for path in paths:
        path.write_text(report.render([traced(steps)]), encoding="utf-8", newline="\n")
    tab.resize(1280, 900)
    tab.open(paths[0])
    assert shown(tab).startswith("Most disputed. Step 2 of 3")
    assert tab.eval("document.querySelector('.answer .on').id") == "s2"
    tab.open(paths[1], "#s3")  # who asks for another word gets that one
    assert shown(tab).startswith("Step 3 of 3")
    tab.resize(390, 700)  # a phone has no room for it: the word is a link there
    tab.open(paths[2])
    assert tab.eval(f"getComputedStyle({PANEL}).display") == "none"
    tab.eval("document.querySelector('.hot a').click()")
    tab.wait(f"{PANEL}.classList.contains('open')")
    assert shown(tab).startswith("Step 2 of 3")


@pytest.mark.parametrize("script", [True, False])
def test_the_second_view_shades_by_disagreement(opened: Page, script: bool) -> None:
    def style(of: str, what: str) -> str:
        element = f"document.querySelector('.answer .s[data-s={of}]')"
        return str(opened.eval(f"getComputedStyle({element})['{what}']"))

    opened.resize(1280, 900, script=script)
    opened.open(opened.path)
    opened.resize(1280, 900)
    before = style("s2", "backgroundColor")
    opened.eval("document.querySelector('.as-heat').click()")
    assert style("s2", "backgroundColor") not in (before, "rgba(0, 0, 0, 0)")
    assert style("s2", "textDecorationThickness") == "2px"  # so it is told without colour, too
    assert style("s1", "backgroundColor") == "rgba(0, 0, 0, 0)"
    assert opened.eval("getComputedStyle(document.querySelector('.key.heat')).display") == "flex"
    assert opened.eval("getComputedStyle(document.querySelector('.key.who')).display") == "none"
    assert opened.eval("document.documentElement.scrollWidth") <= 1280


def test_details_appear_by_keyboard(opened: Page) -> None:
    for _ in range(9):
        opened.press("Tab")
        if opened.eval("document.activeElement.classList.contains('s')"):
            break
    assert shown(opened).startswith("Step 2 of 5")
    assert "␣24 BC 2.500 1.500 2.500 3.500" in shown(opened)
    assert opened.eval("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    opened.press("ArrowRight")
    assert shown(opened).startswith("Step 3 of 5")
    assert "all agreed" in shown(opened)
    opened.press("ArrowDown")
    assert shown(opened).startswith("Step 4 of 5")
    opened.press("ArrowUp")
    assert shown(opened).startswith("Step 2 of 5")
    opened.press("End")
    assert shown(opened).startswith("Step 5 of 5")
    opened.press("ArrowRight")  # there is no further one
    opened.press("Home")
    assert shown(opened).startswith("Step 1 of 5")
    opened.press("Enter", "\r")
    assert opened.eval("location.hash") == "#s1"
    opened.press("Escape")
    assert "Point at a segment" in shown(opened)
    assert opened.eval("document.activeElement.classList.contains('s')")
    assert opened.problems == []


def test_a_pointer_shows_and_a_click_keeps(opened: Page) -> None:
    def at(n: int) -> dict[str, float]:
        box = f"document.querySelectorAll('.answer .s')[{n}].getBoundingClientRect()"
        return {c: opened.eval(f"{box}.{c} + 3") for c in ("x", "y")}

    opened.call("Input.dispatchMouseEvent", type="mouseMoved", **at(1))
    assert shown(opened).startswith("Step 2 of 5")
    for kind in ("mousePressed", "mouseReleased"):
        opened.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at(1))
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", **at(3))
    assert shown(opened).startswith("Step 2 of 5")


def test_a_link_leads_to_a_step(opened: Page) -> None:
    opened.eval("location.hash = '#s4'")
    opened.wait("document.activeElement.id === 's4'")
    assert shown(opened).startswith("Step 4 of 5")


def test_colours_follow_the_system_and_the_button(opened: Page) -> None:
    def ground() -> str:
        return str(opened.eval("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    opened.resize(1280, 900, dark=True)
    dark = ground()
    assert light != dark
    opened.eval("document.querySelector('#theme').click()")
    assert ground() == light


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(opened: Page, width: int) -> None:
    opened.resize(width, 700)
    opened.eval("location.hash = '#s4'")
    assert opened.eval("document.documentElement.scrollWidth") <= width
    assert opened.eval(f"{PANEL}.getBoundingClientRect().bottom <= innerHeight")


def test_without_javascript_the_tables_are_there(opened: Page) -> None:
    opened.resize(1280, 900, script=False)
    opened.open(opened.path)
    opened.resize(1280, 900)  # only to ask; the page has run nothing
    assert opened.eval(f"getComputedStyle({PANEL}).display") == "none"
    assert opened.eval("document.querySelector('#theme').hidden")
    assert "He has 23" in opened.eval("document.querySelector('.answer').innerText")
    assert opened.eval("document.querySelectorAll('.steps .step#s2 table').length") == 1


def test_an_answer_of_3000_segments_is_quick(tab: Page, tmp_path: Path) -> None:
    words = [disputed(f" w{i}", " x", " y") if i % 2 else agreed(f" w{i}") for i in range(3000)]
    path = tmp_path / "long.html"
    path.write_text(report.render([traced(words)]), encoding="utf-8", newline="\n")
    assert path.stat().st_size < 5_000_000
    tab.resize(1280, 900)
    assert tab.open(path) < 10  # seconds, on a busy machine
    tab.eval("document.querySelectorAll('.answer .s')[1500].focus()")
    assert shown(tab).startswith("Step 1501 of 3000")
    took = "(() => { const t = performance.now(); for (let i = 0; i < 20; i++) "
    took += "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', "
    took += "bubbles: true})); return performance.now() - t; })()"
    assert tab.eval(took) < 4000  # milliseconds for 20 keys
    assert shown(tab).startswith("Step 1521 of 3000")
