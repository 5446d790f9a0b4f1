"""The web page in Firefox: it loads, an answer streams, Markdown is drawn, nothing complains."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from answering import says
from serving import Served, serving, slow

firefox_module = pytest.importorskip("firefox", reason="needs the package websockets")

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(firefox_module.FIREFOX is None, reason="no Firefox found"),
    pytest.mark.skipif(os.name == "nt", reason="not tried there"),
]

QUESTION = "There are 7 boxes with 12 pencils each. How many pencils are there?"
MARKDOWN = "# Head\n\nSome **bold** words, `code`, $x^2$.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
MARKDOWN += "1. one\n2. two\n\n```py\nx = 1  # one\n```\n"
TEXT = "[...document.querySelectorAll('.text')].at(-1)"
ANSWERED = "document.querySelector('.answer[aria-busy=false]')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[firefox_module.FirefoxPage]:
    with firefox_module.firefox(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(tab: firefox_module.FirefoxPage, served: Served) -> firefox_module.FirefoxPage:
    return opened(tab, served)


def opened(page: firefox_module.FirefoxPage, served: Served) -> firefox_module.FirefoxPage:
    page.resize(1280, 900)
    page.visit(served.url)
    page.wait("document.querySelector('.picker:enabled')")
    page.eval("document.querySelector('#question').focus()")
    return page


def test_an_answer_streams_and_shows_who_won(page: firefox_module.FirefoxPage) -> None:
    page.type(QUESTION)
    page.press("Enter")
    page.wait(ANSWERED)
    assert page.eval(f"{TEXT}.textContent").replace("∎", "").endswith("The answer is 84.")
    marks = f"[...{TEXT}.querySelectorAll('.s.w')].map(s => getComputedStyle(s))"
    assert page.eval(f"{marks}.length") > 0
    assert page.eval(f"{marks}.every(s => s.textDecorationLine === 'underline')")
    page.eval(f"{TEXT}.querySelector('.s.w').click()")
    page.wait("document.querySelector('.card table')")
    page.press("Escape")
    page.wait("!document.querySelector('.card')")
    assert page.problems == []


def test_a_conversation_survives_a_reload(page: firefox_module.FirefoxPage, served: Served) -> None:
    page.type(QUESTION)
    page.press("Enter")
    page.wait(ANSWERED)
    said = page.eval(f"{TEXT}.textContent")
    page.visit(page.eval("location.href"))
    page.reload()
    page.wait("document.querySelector('.answer')")
    assert page.eval(f"{TEXT}.textContent") == said
    assert page.problems == []


def test_it_is_shown_while_it_is_written(tab: firefox_module.FirefoxPage) -> None:
    with serving(slow()) as served:
        page = opened(tab, served)
        page.type("Go on.")
        page.press("Enter")
        page.wait("document.querySelectorAll('.text .s').length > 5")
        assert page.eval("document.querySelector('.answer').ariaBusy") == "true"
        page.press("Escape")
        page.wait(ANSWERED)
        assert page.eval("document.querySelector('.facts').innerText").endswith("Stopped.")
        assert page.problems == []


@pytest.mark.parametrize("width", [390, 1280])
def test_markdown_is_drawn(tab: firefox_module.FirefoxPage, width: int) -> None:
    with serving(says(MARKDOWN)) as served:
        page = opened(tab, served)
        page.resize(width, 800)
        page.type("Go on.")
        page.press("Enter")
        page.wait(ANSWERED)
        for what in ("h3", "strong", "code", "math msup", "table td", "ol li", "pre .c-comment"):
            page.wait(f"{TEXT}.querySelector('{what}')")
        assert page.eval("document.documentElement.scrollWidth") <= width
        assert page.problems == []
