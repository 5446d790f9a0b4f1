"""The web page in a real browser, on the real server: with the built-in fusion, and a slow one."""

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from answering import says
from browser import CHROMIUM, Page
from scripted import VOCABULARIES, noise
from serving import Served, serving, slow

import cf_local
from cf_local.progress import IsCancelled, Progress
from cf_local.runtime.fusion import Fusion
from cf_local.server.catalogue import ServedModel
from cf_local.settings import Settings
from cf_local.testing import ScriptedSource, writes

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found"),
    pytest.mark.skipif(os.name == "nt", reason="the pipe to the browser is a POSIX one"),
]

WORDS = random.Random(1).choices([" the", " fox", " 24", " 68", " run"], k=5000)
QUESTION = "There are 7 boxes with 12 pencils each. How many pencils are there?"
MODE = """(() => {
    const select = document.querySelector(".mode");
    select.value = "MODE";
    select.dispatchEvent(new Event("change", { bubbles: true }));
})()"""
TEXT = "[...document.querySelectorAll('.text')].at(-1)"
ANSWERED = (
    "document.querySelector('.answer') && !document.querySelector('.answer[aria-busy=true]') "
    "&& document.querySelector('[aria-label=Send]')"
)


@pytest.fixture(scope="module")
def server(tab: Page) -> Iterator[Served]:  # after the browser, which is started by a fork
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def slow_server(tab: Page) -> Iterator[Served]:
    with serving(slow("".join(WORDS), pass_s=0.005)) as served:
        yield served


@pytest.fixture
def opened(tab: Page, server: Served) -> Page:
    return fresh(tab, server)


@pytest.fixture
def opened_slow(tab: Page, slow_server: Served) -> Page:
    return fresh(tab, slow_server)


def fresh(page: Page, served: Served) -> Page:
    """The page as a new visitor sees it."""
    page.resize(1280, 900)
    page.call("Network.setCacheDisabled", cacheDisabled=True)
    page.visit("about:blank")
    page.call("Storage.clearDataForOrigin", origin=served.url, storageTypes="all")
    page.visit(served.url)
    page.eval("sessionStorage.clear()")
    page.wait("document.querySelector('.picker:enabled')")
    page.problems.clear()
    page.requests.clear()
    return page


def ask(page: Page, text: str, *, waits: bool = True) -> None:
    page.eval("document.querySelector('#question').focus()")
    page.type(text)
    page.wait(
        "document.querySelector('#question').value && document.querySelector('#question').form"
    )
    bubbles = "document.querySelectorAll('.bubble').length"
    n_before = page.eval(bubbles)
    page.press("Enter", "\r")
    page.wait(f"{bubbles} > {n_before}" + (f" && {ANSWERED}" if waits else ""))


def seen(page: Page, selector: str) -> str:
    """What an element says, on one line."""
    found = page.eval(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
    return " ".join(str(found).split())


def test_an_answer_is_the_library_s_and_shows_who_won(opened: Page, server: Served) -> None:
    ask(opened, QUESTION)
    with cf_local.load("builtin") as fusion:
        *steps, answer = fusion.stream(cf_local.chat(QUESTION))
    assert isinstance(answer, cf_local.Answer)
    names = [source.name for source in answer.sources]
    assert opened.eval(f"{TEXT}.textContent").replace("∎", "") == answer.text
    expected = [
        [step.text.strip(), "".join("ABC"[names.index(name)] for name in step.winners)]
        for step in steps
        if len(step.candidates) > 1 and len(step.winners) < 3 and step.text.strip()
    ]
    assert expected  # there are disputes
    shown = f"[...{TEXT}.querySelectorAll('.s.w')].map(s => [s.textContent, s.dataset.l])"
    assert opened.eval(shown) == expected
    lines = f"[...{TEXT}.querySelectorAll('.s.w')].map(s => getComputedStyle(s))"
    assert opened.eval(f"{lines}.every(s => s.textDecorationLine === 'underline')")
    styles = opened.eval(f"{lines}.map(s => s.textDecorationStyle)")
    assert len(set(styles)) == len({letters[0] for _, letters in expected})
    n_words = len(answer.text.split())
    assert seen(opened, ".facts").startswith(f"{n_words} words ")
    assert seen(opened, ".facts").endswith("builtin, cool")
    assert "words/s" in seen(opened, ".facts")
    assert answer.text in opened.eval("document.querySelector('[aria-live=polite]').textContent")
    assert opened.problems == []
    assert [u for u in opened.requests if not u.startswith((server.url, "data:"))] == []


SHIFTS = """
    window.shifts = [];
    const entries = (type, take) =>
        new PerformanceObserver((list) => list.getEntries().forEach(take)).observe({ type });
    // The figures below the text move down as it grows, and get longer, of course.
    const below = (node) => (node.closest ? node : node.parentElement)?.closest(".answer > footer");
    entries("layout-shift", ({ hadRecentInput, sources }) => {
        const jumped = sources.map(({ node }) => node).filter((node) => node && !below(node));
        if (!hadRecentInput) shifts.push(...jumped.map((node) => node.outerHTML));
    });
    """
LATE_MODELS = """
    const now = window.fetch;
    window.fetch = async (url, ...more) => {
        if (String(url).endsWith("v1/models")) await new Promise((done) => setTimeout(done, 1500));
        return now(url, ...more);
    };
    """


@contextmanager
def visited(page: Page, served: Served, script: str) -> Iterator[None]:
    """Open the page with a script that runs before its own."""
    added = page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    try:
        page.visit(served.url)
        yield
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", **added)


def test_a_question_before_the_list_of_models_is_there(opened: Page, server: Served) -> None:
    with visited(opened, server, LATE_MODELS):
        opened.wait("document.querySelector('#question')")
        assert not opened.eval("document.querySelector('.picker:enabled')")
        ask(opened, QUESTION)
    with cf_local.load("builtin") as fusion:
        expected = fusion.answer(cf_local.chat(QUESTION)).text
    assert opened.eval(f"{TEXT}.textContent").replace("∎", "") == expected
    assert seen(opened, ".facts").endswith("builtin, cool")
    assert opened.eval(f"{TEXT}.querySelector('.s.w').dataset.l.length") >= 1


def test_nothing_jumps_while_the_page_opens(opened: Page, server: Served) -> None:
    with visited(opened, server, LATE_MODELS + SHIFTS):
        opened.wait("document.querySelector('.picker:enabled')")
        opened.wait("document.querySelector('.examples')")
        opened.eval("new Promise((done) => setTimeout(done, 300))")
    assert opened.eval("shifts") == []


def test_details_by_keyboard(opened: Page) -> None:
    ask(opened, QUESTION)
    for _ in range(40):
        opened.press("Tab", shift=True)
        if opened.eval("document.activeElement.classList.contains('text')"):
            break
    assert "Arrow keys" in opened.eval("document.activeElement.ariaLabel")
    opened.press("ArrowDown")
    assert opened.eval("document.activeElement.matches('.s.w[role=button]')")
    assert " won" in opened.eval("document.activeElement.ariaLabel")
    opened.wait("document.querySelector('.card table')")
    first = seen(opened, ".card h3")
    assert opened.eval("document.querySelectorAll('.card tr.won').length") == 1
    assert "→" in seen(opened, ".card tr.won")
    assert opened.eval("document.querySelectorAll('.card thead th').length") == 6
    opened.press("ArrowDown")
    opened.wait(
        f"document.querySelector('.card h3').innerText.trim() && {json.dumps(first)} !== "
        "document.querySelector('.card h3').innerText.split(/\\s+/).join(' ').trim()"
    )
    opened.press("ArrowUp")
    opened.press("ArrowRight")
    opened.press("End")
    opened.press("Home")
    opened.wait("document.querySelector('.card h3').innerText.startsWith('Piece 1 of')")
    opened.press("Enter", "\r")
    opened.wait("document.activeElement.matches('.card h3')")
    opened.press("Escape")
    opened.wait("!document.querySelector('.card')")
    assert opened.eval("document.activeElement.matches('.s')")
    assert opened.problems == []


def test_pointing_shows_and_a_click_keeps(opened: Page) -> None:
    ask(opened, QUESTION)
    box = f"{TEXT}.querySelector('.s.w').getBoundingClientRect()"
    at = opened.eval(f"(b => ({{x: b.x + b.width / 2, y: b.y + b.height / 2}}))({box})")
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
    opened.wait("document.querySelector('.card')")
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=700, y=780)
    opened.wait("!document.querySelector('.card')")
    opened.click(".text .s.w")
    opened.wait("document.querySelector('.card')")
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=700, y=780)
    opened.eval("new Promise(done => setTimeout(done, 500))")
    assert opened.eval("Boolean(document.querySelector('.card'))")
    opened.click(".card [aria-label='Next disputed piece']")
    opened.click(".card [aria-label='Close details']")
    opened.wait("!document.querySelector('.card')")
    assert opened.problems == []


def test_colours_can_be_put_away(opened: Page) -> None:
    ask(opened, QUESTION)
    line = f"getComputedStyle({TEXT}.querySelector('.s.w')).textDecorationLine"
    assert opened.eval(line) == "underline"
    opened.click("[aria-label='Show who won which words']")
    opened.wait(f"{line} === 'none'")
    assert opened.eval("document.querySelector('[aria-pressed]').ariaPressed") == "false"


def test_escape_stops_and_keeps_what_came(opened_slow: Page, slow_server: Served) -> None:
    ask(opened_slow, "Go on.", waits=False)
    opened_slow.wait("document.querySelectorAll('.text .s').length > 5")
    assert opened_slow.eval("document.querySelector('.answer').ariaBusy") == "true"
    opened_slow.press("Escape")
    opened_slow.wait(ANSWERED)
    assert seen(opened_slow, ".facts").endswith("Stopped.")
    assert opened_slow.eval(f"{TEXT}.textContent").startswith("".join(WORDS[:5]).strip())
    slow_server.wait_for("cf_local_running", 0)
    opened_slow.reload()
    opened_slow.wait("document.querySelector('.answer')")
    assert opened_slow.eval(f"{TEXT}.textContent").startswith("".join(WORDS[:5]).strip())
    assert opened_slow.problems == []


def test_the_button_stops_and_text_typed_meanwhile_stays(opened_slow: Page) -> None:
    ask(opened_slow, "Go on.", waits=False)
    opened_slow.wait("document.querySelectorAll('.text .s').length > 2")
    opened_slow.type("the next question")
    opened_slow.press("Enter", "\r")  # not while an answer is written
    assert opened_slow.eval("document.querySelectorAll('.bubble').length") == 1
    opened_slow.click("[aria-label=Stop]")
    opened_slow.wait(ANSWERED)
    assert opened_slow.eval("document.querySelector('#question').value") == "the next question"
    assert opened_slow.eval("document.activeElement.id") == "question"


def test_a_page_closed_in_the_middle_keeps_the_question(opened_slow: Page) -> None:
    ask(opened_slow, "Go on.", waits=False)
    opened_slow.wait("document.querySelectorAll('.text .s').length > 5")
    opened_slow.reload()
    opened_slow.wait("document.querySelector('.bubble')")
    opened_slow.wait(ANSWERED)
    assert seen(opened_slow, ".facts").endswith("Stopped.")


def test_again_keeps_both_versions(opened: Page) -> None:
    ask(opened, QUESTION)
    first = opened.eval(f"{TEXT}.textContent")
    opened.eval(MODE.replace("MODE", "single"))
    opened.click("[aria-label='Answer again']")
    opened.wait("document.querySelector('.versions')")
    opened.wait(ANSWERED)
    assert seen(opened, ".versions").endswith("2/2")
    assert "ash" in seen(opened, ".facts")
    assert opened.eval("document.querySelectorAll('.text .w').length") == 0
    opened.click("[aria-label='Version before']")
    opened.wait("document.querySelector('.versions').innerText.includes('1/2')")
    assert opened.eval(f"{TEXT}.textContent") == first
    assert opened.problems == []


@pytest.mark.parametrize("mode", ["rerank", "cool+r"])
def test_the_choice_among_whole_answers(opened: Page, mode: str) -> None:
    opened.eval(MODE.replace("MODE", mode))
    ask(opened, QUESTION)
    with cf_local.load("builtin") as fusion:
        settings = cf_local.Settings(mode=mode)  # type: ignore[arg-type]
        *_, answer = fusion.stream(cf_local.chat(QUESTION), settings)
    assert isinstance(answer, cf_local.Answer)
    assert opened.eval(f"{TEXT}.textContent").replace("∎", "") == answer.text
    opened.eval("document.querySelector('.choice').click()")
    opened.wait("document.querySelector('.card.whole table')")
    assert "Choice among whole answers" in seen(opened, ".card h3")
    assert opened.eval("document.querySelectorAll('.card tr.won').length") == 1
    opened.click("[aria-label='Close details']")
    opened.wait("!document.querySelector('.card')")
    assert opened.eval("document.activeElement.matches('.choice')")
    assert opened.problems == []


def test_the_last_question_can_be_edited(opened: Page) -> None:
    ask(opened, "Hello")
    ask(opened, "There are 2 boxes with 3 pencils each. How many pencils are there?")
    opened.eval(
        "[...document.querySelectorAll('[aria-label=\"Edit the question\"]')].at(-1).click()"
    )
    opened.wait("document.activeElement.id === 'edited'")
    opened.eval("document.activeElement.select()")
    opened.type(QUESTION)
    opened.press("Enter", "\r")
    opened.wait("document.querySelectorAll('.bubble').length === 2")
    opened.wait(ANSWERED)
    assert opened.eval("document.querySelectorAll('.bubble')[1].innerText").endswith(QUESTION)
    assert "84" in opened.eval(f"{TEXT}.textContent")


CONTINUE = "[...document.querySelectorAll('button')].find((b) => b.innerText.trim() === 'Continue')"


def test_a_cut_answer_goes_on_where_it_ended(opened: Page) -> None:
    opened.click("[aria-label='Settings of this conversation']")
    opened.wait("document.querySelector('[name=max_tokens]')")
    opened.eval("""(() => {
        const field = document.querySelector("[name=max_tokens]");
        field.value = "9";
        field.dispatchEvent(new Event("change", { bubbles: true }));
    })()""")
    opened.press("Escape")
    opened.wait("!document.querySelector('dialog')")
    ask(opened, QUESTION)
    n_rounds = 0
    while "Cut off" in seen(opened, ".facts"):
        n_rounds += 1
        before = opened.eval(f"{TEXT}.textContent").replace("∎", "")
        opened.eval(f"{CONTINUE}.click()")
        longer = f"{TEXT}.textContent.replace('∎', '').length > {len(before)}"
        opened.wait(f"{longer} && {ANSWERED}")
        assert opened.eval(f"{TEXT}.textContent").startswith(before)
    assert n_rounds > 1
    assert "answer is" in opened.eval(f"{TEXT}.textContent")
    assert opened.eval("document.querySelectorAll('.text .s.w').length") > 0
    assert not opened.eval(f"Boolean({CONTINUE})")
    assert opened.problems == []


def test_thoughts_of_the_server_are_apart(tab: Page) -> None:
    text = "<think>Hm. Two.</think>\n\nTwo, I think."
    with serving(says(text)) as served:
        page = fresh(tab, served)
        ask(page, "Go on.")
        page.wait("document.querySelector('.thought')")
        assert seen(page, ".thought summary").startswith("Thought for")
        thought = page.eval("document.querySelector('.thought .text').textContent")
        assert thought.strip() == "Hm. Two."
        assert page.eval(f"{TEXT}.textContent").replace("∎", "") == "Two, I think."
        page.reload()
        page.wait("document.querySelector('.answer')")
        assert page.eval(f"{TEXT}.textContent").replace("∎", "") == "Two, I think."
        assert page.problems == []


THOUGHTS = ("the fox runs", "the dog runs")


def test_thoughts_show_who_won(tab: Page) -> None:
    def load(model: ServedModel, _is_cancelled: IsCancelled, _on_progress: Progress) -> Fusion:
        pieces = VOCABULARIES[2]
        sources = [
            ScriptedSource(
                name, pieces, writes(f"<think>{thought}</think>\n\nTwo.", pieces), n_sessions=4
            )
            for name, thought in zip(model.names, 2 * THOUGHTS, strict=False)
        ]
        return Fusion(sources, Settings(speculation=False))

    with serving(load) as served:
        page = fresh(tab, served)
        ask(page, "Go on.")
        assert page.eval(f"{TEXT}.textContent").replace("∎", "") == "Two."
        assert page.eval(f"{TEXT}.querySelectorAll('.s.mark').length") == 0
        page.eval("document.querySelector('.thought summary').click()")
        for _ in range(2):
            thought = "document.querySelector('.thought .text')"
            assert page.eval(f"{thought}.textContent") == THOUGHTS[0]
            assert page.eval(f"{thought}.querySelector('.s.w').textContent") == "fox"
            page.eval(f"{thought}.querySelector('.s.w').click()")
            page.wait("document.querySelector('.card table')")
            assert "dog" in seen(page, ".card table")
            page.reload()
            page.wait("document.querySelector('.thought')")
            page.eval("document.querySelector('.thought summary').click()")
        assert page.problems == []


OLD = """new Promise((done) => {
    const request = indexedDB.open("cf-local", 1);
    request.onupgradeneeded = () => {
        request.result.createObjectStore("headings", { keyPath: "id" });
        request.result.createObjectStore("turns");
    };
    request.onsuccess = () => {
        const change = request.result.transaction(["headings", "turns"], "readwrite");
        change.objectStore("headings").put({ id: "old", title: "Old", named: true, created: 1,
            updated: 1, model: "builtin", mode: "", system: "", temperature: 0.5,
            maxTokens: null });
        const answer = { content: "Said.", segments: [{ text: "Said.", whole: false, ends: false,
            agreed: true, winners: ["ash"], candidates: [] }], model: "builtin", mode: "",
            sources: ["ash"], state: "running", finish: null, error: null, stats: null,
            usage: null, seconds: 1 };
        change.objectStore("turns").put([{ role: "user", content: "Asked." },
            { role: "assistant", versions: [answer], at: 0 }], "old");
        change.oncomplete = () => { request.result.close(); done(true); };
    };
})"""


def test_conversations_of_an_earlier_version_are_read(opened: Page, server: Served) -> None:
    opened.visit("about:blank")
    opened.call("Storage.clearDataForOrigin", origin=server.url, storageTypes="all")
    opened.visit(f"{server.url}/icon.svg")
    assert opened.eval(OLD)
    opened.problems.clear()  # there is no favicon.ico
    opened.visit(f"{server.url}/#old")
    opened.wait("document.querySelector('.answer')")
    assert opened.eval(f"{TEXT}.textContent") == "Said."
    assert seen(opened, ".facts").endswith("Stopped.")
    opened.eval("document.querySelector('.search input').focus()")
    opened.type("said")
    opened.wait("document.querySelector('.sidebar mark')?.innerText === 'Said'")
    opened.click("[aria-label='Settings of this conversation']")
    opened.wait("document.querySelector('[name=temperature]')?.value === '0.5'")
    assert opened.problems == []


def test_conversations_are_kept_renamed_and_deleted(opened: Page) -> None:
    ask(opened, "Hello")
    opened.eval("document.querySelector('.new').click()")
    opened.wait("document.querySelector('.examples')")
    ask(opened, QUESTION)
    text = opened.eval(f"{TEXT}.textContent")
    opened.reload()
    opened.wait(
        "document.querySelector('.answer') && document.querySelectorAll('.title').length === 2"
    )
    assert opened.eval(f"{TEXT}.textContent") == text
    assert opened.eval("document.querySelectorAll('.text .s.w').length") > 0
    opened.click("[aria-label=Rename]")
    opened.wait("document.activeElement.matches('.renaming input')")
    opened.type("Pencils")
    opened.press("Enter", "\r")
    opened.wait("document.querySelector('[aria-current=page]')?.innerText === 'Pencils'")
    opened.click("[aria-label=Delete]")
    opened.wait("document.querySelector('dialog[open]')")
    opened.press("Escape")
    opened.wait("!document.querySelector('dialog')")
    assert opened.eval("document.querySelectorAll('.title').length") == 2
    opened.click("[aria-label=Delete]")
    opened.wait("document.querySelector('dialog[open]')")
    opened.click("dialog .danger")
    opened.wait("document.querySelectorAll('.title').length === 1")
    opened.reload()
    opened.wait("document.querySelectorAll('.title').length === 1")
    assert opened.problems == []


def test_what_was_typed_survives_a_reload(opened: Page) -> None:
    opened.eval("document.querySelector('#question').focus()")
    opened.type("half a quest")
    opened.reload()
    opened.wait("document.querySelector('#question')?.value")
    assert opened.eval("document.querySelector('#question').value") == "half a quest"


def test_a_file_is_taken_in_as_text_and_handed_out(opened: Page, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)> <script>alert(1)</script> \u202ex\n"
    evil += "```html\n<b>bold</b>\n```\nend"
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "<b>Hi</b>"},
        {"role": "assistant", "content": evil},
    ]
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({"messages": said}), "utf-8")
    bad.write_text('{"messages": [{"role": "tool", "content": "x"}]}', "utf-8")
    document = opened.call("DOM.getDocument")["root"]["nodeId"]
    chosen = opened.call("DOM.querySelector", nodeId=document, selector="input[type=file]")
    opened.call("DOM.setFileInputFiles", files=[str(bad)], nodeId=chosen["nodeId"])
    opened.wait("document.querySelector('.banner')")
    assert "role “tool”" in seen(opened, ".banner")
    opened.call("DOM.setFileInputFiles", files=[str(good)], nodeId=chosen["nodeId"])
    opened.wait("document.querySelector('.answer')")
    assert (
        opened.eval("document.querySelectorAll('.thread img, .thread script, .thread b').length")
        == 0
    )
    assert "<img src=x onerror=alert(1)>" in opened.eval(f"{TEXT}.innerText")
    assert "⟨202E⟩" in opened.eval(f"{TEXT}.innerText")
    assert opened.eval("document.querySelector('pre').innerText.trim()") == "<b>bold</b>"
    store = """(async () => {
        const store = await (await import("/store.js")).Store.open();
        const [heading] = await store.headings();
        const { exported } = await import("/conversation.js");
        return exported(await store.load(heading.id));
    })()"""
    assert opened.eval(store)["messages"] == said
    assert opened.problems == []


def test_a_server_that_is_gone_loses_nothing(opened: Page) -> None:
    gone = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    opened.call("Network.emulateNetworkConditions", offline=True, **gone)
    ask(opened, QUESTION)
    assert "does not answer" in seen(opened, ".failure[role=alert]")
    assert QUESTION in seen(opened, ".bubble")
    opened.call("Network.emulateNetworkConditions", offline=False, **gone)
    opened.click(".failure button")
    opened.wait("!document.querySelector('.failure')")
    opened.wait(ANSWERED)
    assert "84" in opened.eval(f"{TEXT}.textContent")
    assert (
        opened.eval("document.querySelectorAll('.versions').length") == 0
    )  # failures are not kept


def test_errors_of_the_server_are_told(opened: Page) -> None:
    ask(opened, "word " * 4000)
    assert "token" in seen(opened, ".failure[role=alert]")
    assert opened.eval("document.querySelector('.failure button').innerText.trim()") == "Try again"


def test_an_api_key_is_asked_for(tab: Page) -> None:
    with serving(api_key="sesame") as served:
        tab.visit(served.url)
        tab.wait("document.querySelector('.banner .key input')")
        for key in ("wrong", "sesame"):
            tab.eval("document.querySelector('.key input').focus()")
            tab.eval("document.querySelector('.key input').select()")
            tab.type(key)
            tab.press("Enter", "\r")
            tab.wait(
                "!document.querySelector('.banner')"
                if key == "sesame"
                else "document.querySelector('.banner').innerText.includes('refused')"
            )
        ask(tab, "Hello")
        assert tab.eval(f"{TEXT}.textContent")
        assert tab.eval("Object.values(localStorage).join().includes('sesame')") is False


@pytest.mark.parametrize("width", [320, 360, 390, 768, 1280])
def test_it_fits_the_screen(opened: Page, width: int) -> None:
    opened.resize(width, 740)
    opened.eval(MODE.replace("MODE", "cool+r"))
    ask(opened, QUESTION)
    opened.eval("document.querySelector('[aria-label=\"Answer again\"]').click()")
    opened.wait("document.querySelector('.versions')")
    opened.wait(ANSWERED)
    most = 160 if width > 384 else 210  # pixels
    assert opened.eval("document.querySelector('footer').offsetHeight") < most
    opened.eval(f"{TEXT}.querySelector('.s.w').click()")
    opened.wait("document.querySelector('.card') && document.querySelector('.s.on')")
    assert opened.eval("document.documentElement.scrollWidth") <= width
    thread = "document.querySelector('.thread')"
    assert opened.eval(f"{thread}.scrollWidth <= {thread}.clientWidth")
    card = "document.querySelector('.card').getBoundingClientRect()"
    assert opened.eval(
        f"{card}.left >= 0 && {card}.right <= innerWidth && {card}.bottom <= innerHeight"
    )
    piece = "document.querySelector('.s.on').getBoundingClientRect()"
    assert opened.eval(f"{piece}.bottom <= {card}.top || {piece}.top >= {card}.bottom")
    small = """[...document.querySelectorAll("button, select, #question")]
        .filter((one) => one.offsetParent && (one.offsetWidth < 44 || one.offsetHeight < 44))
        .map((one) => one.outerHTML)"""
    assert opened.eval(small) == []


LONG_NAMES = ("a-rather-long-name-1.5b", "another-long-name-0.6b", "the-third-name-270m")


def test_a_card_of_long_names_fits_a_phone(tab: Page, tmp_path: Path) -> None:
    def load(model: ServedModel, _is_cancelled: IsCancelled, _on_progress: Progress) -> Fusion:
        pieces = VOCABULARIES[0]
        sources = [
            ScriptedSource(name, pieces, noise(pieces, at), n_sessions=4, n_ctx=4096)
            for at, name in enumerate(model.names)
        ]
        return Fusion(sources, Settings(max_tokens=30))

    entries = "".join(f'[sources."{name}"]\nfile = "{name}.gguf"\n' for name in LONG_NAMES)
    for name in LONG_NAMES:
        (tmp_path / f"{name}.gguf").touch()
    file = tmp_path / "models.toml"
    file.write_text(f"{entries}[fusions.long]\nsources = {list(LONG_NAMES)}\n", "utf-8")
    with serving(load, models=file, names=["long"]) as served:
        page = fresh(tab, served)
        page.resize(390, 740)
        ask(page, "Go on.")
        page.eval(f"{TEXT}.querySelector('.s.w').click()")
        page.wait("document.querySelector('.card table')")
        scroll = "document.querySelector('.card .scroll')"
        widths = [page.eval(f"{scroll}.{side}Width") for side in ("scroll", "client")]
        assert widths[0] <= widths[1]
        heads = page.eval("[...document.querySelectorAll('.card thead .n')].map(n => n.innerText)")
        assert [name for name in LONG_NAMES if not any(name in head for head in heads)] == []


def test_a_long_question_scrolls_by_the_keyboard(opened: Page, tmp_path: Path) -> None:
    said = [{"role": "user", "content": text} for text in ("word\n" * 100, "word")]
    answer = {"role": "assistant", "content": "Said."}
    import_conversation(opened, [said[0], answer, said[1], answer], tmp_path / "long.json")
    opened.wait("document.querySelectorAll('.bubble').length === 2")
    stops = "[...document.querySelectorAll('.bubble')].map((one) => one.tabIndex)"
    opened.wait(f"{stops}[0] === 0")
    assert opened.eval(stops) == [0, -1]


def test_every_control_has_a_name(opened: Page) -> None:
    ask(opened, QUESTION)
    tree = opened.call("Accessibility.getFullAXTree")["nodes"]
    roles = [
        (n.get("role", {}).get("value"), n.get("name", {}).get("value"))
        for n in tree
        if not n["ignored"]
    ]
    controls = {"button", "combobox", "textbox", "dialog", "navigation", "form", "main"}
    assert [role for role, name in roles if role in controls and not name] == []
    assert {"navigation", "main", "banner", "form", "status"} <= {role for role, _ in roles}


def test_the_theme_follows_the_system_until_it_is_chosen(opened: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.eval(ground)
    opened.resize(1280, 900, dark=True)
    assert opened.eval(ground) != light
    opened.wait("document.querySelector('[aria-label=\"Light colours\"]')")
    opened.click("[aria-label='Light colours']")
    assert opened.eval(ground) == light
    opened.reload()
    opened.wait("document.querySelector('.topbar')")
    assert opened.eval(ground) == light


WRITTEN = [f" word{i}" for i in range(2000)]
STREAM = (
    SHIFTS
    + """
    window.longest = 0;
    entries("longtask", ({ duration }) => { longest = Math.max(longest, duration); });
    const written = WRITTEN, pause = PAUSE;
    const names = ["ash", "birch", "cedar"], encoder = new TextEncoder(), real = window.fetch;
    const segment = (i) => {
        const agreed = i % 2 === 0, sources = agreed ? names : [names[i % 3]];
        const scores = { ash: 1, birch: 2, cedar: 3 };
        const won = { text: written[i], ends: false, sources, scores, mean: 2, won: true };
        const candidates = agreed ? [won] : [won, { ...won, text: " other", won: false }];
        return { text: won.text, whole: false, ends: false, agreed, winners: sources, candidates };
    };
    const write = async (out) => {
        const event = (data) => out.enqueue(encoder.encode(`data: ${data}\\n\\n`));
        for (let i = 0; i < written.length; i++) {
            const delta = { content: written[i] };
            event(JSON.stringify({
                choices: [{ index: 0, delta }], cf_local: { segment: segment(i) } }));
            if (i % 10 === 9) await new Promise((done) => setTimeout(done, pause));
        }
        event(JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }));
        event("[DONE]");
        out.close();
    };
    window.fetch = async (path, options) => path === "v1/chat/completions"
        ? new Response(new ReadableStream({ start(out) { write(out); } }))
        : real(path, options);
    """
)


def stream(words: list[str] = WRITTEN, pause_ms: int = 4) -> str:
    """A script that answers with these words, ten at a time."""
    return STREAM.replace("WRITTEN", json.dumps(words)).replace("PAUSE", str(pause_ms))


def import_conversation(page: Page, messages: list[dict[str, str]], file: Path) -> None:
    """Take a conversation in from a file, by the button of the sidebar."""
    file.write_text(json.dumps({"messages": messages}), "utf-8")
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    chosen = ".sidebar input[type=file]"
    field = page.call("DOM.querySelector", nodeId=document, selector=chosen)
    page.call("DOM.setFileInputFiles", files=[str(file)], nodeId=field["nodeId"])


def long_talk() -> list[dict[str, str]]:
    """200 messages."""
    said = "Some **words** of `code`:\n\n- one\n- two\n\n" * 10
    return [{"role": role, "content": said} for _ in range(100) for role in ("user", "assistant")]


def test_2000_segments_stay_quick_and_nothing_jumps(opened_slow: Page) -> None:
    """They come faster than any server sends them: drawing must keep up."""
    opened_slow.eval(stream())
    ask(opened_slow, "Go on.", waits=False)
    opened_slow.wait(ANSWERED, 60)
    assert opened_slow.eval("document.querySelectorAll('.text .s').length") == 2000
    assert opened_slow.eval("longest") < 500  # milliseconds, on a busy machine
    assert opened_slow.eval("shifts") == []
    away = "(t => t.scrollHeight - t.scrollTop - t.clientHeight)(document.querySelector('.thread'))"
    assert opened_slow.eval(away) < 60  # it followed to the end
    assert opened_slow.problems == []


def test_a_long_conversation_does_not_slow_an_answer(opened_slow: Page, tmp_path: Path) -> None:
    """200 messages, and an answer of 2000 words; processor time, as the machine may be busy."""
    import_conversation(opened_slow, long_talk(), tmp_path / "long.json")
    opened_slow.wait("document.querySelectorAll('.answer').length === 100", 60)
    opened_slow.eval(stream())
    opened_slow.call("Performance.enable", timeDomain="threadTicks")

    def figures() -> dict[str, float]:
        metrics = opened_slow.call("Performance.getMetrics")["metrics"]
        return {one["name"]: one["value"] for one in metrics}

    before = figures()
    ask(opened_slow, "Go on.", waits=False)
    opened_slow.wait(ANSWERED, 120)
    after = figures()
    spent = {name: after[name] - before[name] for name in after}
    assert spent["TaskDuration"] / spent["LayoutCount"] < 0.05  # seconds for each time it is drawn
    assert spent["RecalcStyleDuration"] < spent["TaskDuration"] / 2


def test_reading_further_up_is_not_disturbed(opened_slow: Page) -> None:
    opened_slow.resize(600, 420)
    ask(opened_slow, "Go on.", waits=False)
    scroller = "document.querySelector('.thread')"
    opened_slow.wait(f"{scroller}.scrollHeight > {scroller}.clientHeight + 200", 60)
    opened_slow.eval(f"{scroller}.scrollTop = 0")
    opened_slow.wait("document.querySelector('.to-end')")
    height = opened_slow.eval(f"{scroller}.scrollHeight")
    opened_slow.wait(f"{scroller}.scrollHeight > {height} + 40", 60)
    assert opened_slow.eval(f"{scroller}.scrollTop") == 0
    opened_slow.click(".to-end")
    opened_slow.wait("!document.querySelector('.to-end')")
    opened_slow.press("Escape")
    opened_slow.wait(ANSWERED)


def test_it_can_be_installed_and_opens_without_the_server(tab: Page) -> None:
    with serving(slow()) as served:
        page = fresh(tab, served)
        ask(page, "Go on.", waits=False)
        page.wait("document.querySelectorAll('.text .s').length > 2")
        page.press("Escape")
        page.wait(ANSWERED)
        page.wait("navigator.serviceWorker.controller")
        manifest = page.call("Page.getAppManifest")
        assert manifest["errors"] == []
        assert json.loads(manifest["data"])["display"] == "standalone"
        page.eval("caches.open('cf-local').then((copy) => copy.match('vendor/temml.js'))")
        said = page.eval(f"{TEXT}.textContent")
    page.reload()
    page.wait("document.querySelector('.answer') && document.querySelector('.banner')")
    assert page.eval(f"{TEXT}.textContent") == said
    assert "does not answer" in seen(page, ".banner")
