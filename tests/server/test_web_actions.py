"""What a reader can do with a conversation on the page; no action loses what was written."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page
from serving import Served, serving, slow

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found"),
    pytest.mark.skipif(os.name == "nt", reason="the pipe to the browser is a POSIX one"),
]

# The server's side of a chat: answers from a list, and what was asked of it.
SCRIPTED = """
    window.asked = [];
    window.answers = [];
    const real = window.fetch, encoder = new TextEncoder();
    const chunk = (delta, finish_reason = null) => {
        const choices = [{ index: 0, delta, finish_reason }];
        return encoder.encode(`data: ${JSON.stringify({ choices })}\\n\\n`);
    };
    window.fetch = async (path, options) => {
        if (path !== "v1/chat/completions") return real(path, options);
        const body = JSON.parse(options.body);
        asked.push(body);
        const answer = answers.shift() ?? `answer ${asked.length}`;
        const error = { message: "It failed." };
        if (answer === "fails") return Response.json({ error }, { status: 500 });
        const { text = answer, thought, finish = "stop" } = answer;
        return new Response(new ReadableStream({ async start(out) {
            if (thought) out.enqueue(chunk({ reasoning_content: thought }));
            out.enqueue(chunk({ content: text }));
            if (text === "It was") return setTimeout(() => out.error(), 100);
            out.enqueue(chunk({}, finish));
            out.enqueue(encoder.encode("data: [DONE]\\n\\n"));
            out.close();
        } }));
    };
"""
DONE = "document.querySelector('[aria-label=Send]') && !document.querySelector('[aria-busy=true]')"


@pytest.fixture(scope="module")
def server(tab: Page) -> Iterator[Served]:  # after the browser, which is started by a fork
    with serving(slow()) as served:
        yield served


@pytest.fixture
def page(tab: Page, server: Served) -> Iterator[Page]:
    """The page as a new visitor sees it, with a scripted server."""
    tab.resize(1280, 900)
    tab.visit("about:blank")
    tab.call("Storage.clearDataForOrigin", origin=server.url, storageTypes="all")
    added = tab.call("Page.addScriptToEvaluateOnNewDocument", source=SCRIPTED)
    tab.visit(server.url)
    tab.wait("document.querySelector('.examples')")
    tab.problems.clear()
    yield tab
    tab.call("Page.removeScriptToEvaluateOnNewDocument", **added)


def answers(page: Page, *texts: object) -> None:
    page.eval(f"answers = {json.dumps(texts)}; asked = []")


def ask(page: Page, text: str) -> None:
    page.eval("document.querySelector('#question').focus()")
    page.type(text)
    bubbles = "document.querySelectorAll('.bubble').length"
    n_before = page.eval(bubbles)
    page.press("Enter", "\r")
    page.wait(f"{bubbles} > {n_before} && {DONE}")


def click(page: Page, label: str, which: int = -1) -> None:
    found = f"[...document.querySelectorAll('button')].filter((b) => {json.dumps(label)} === "
    found += "(b.ariaLabel ?? b.innerText.trim()))"
    page.wait(f"{found}.length")
    page.eval(f"{found}.at({which}).click()")


def shown(page: Page) -> list[str]:
    """Questions and answers, in order."""
    parts = "[...document.querySelectorAll('.bubble, .answer .text')]"
    return list(page.eval(f"{parts}.map((one) => one.textContent.replace(/^You:\\s/, '').trim())"))


def sent(page: Page) -> list[list[str]]:
    return [[m["content"] for m in body["messages"]] for body in page.eval("asked")]


def edit(page: Page, text: str) -> None:
    page.wait("document.activeElement.id === 'edited'")
    page.eval("document.activeElement.select()")
    page.type(text)
    page.press("Enter", "\r")
    page.wait(f"!document.querySelector('#edited') && {DONE}")


def test_an_earlier_question_is_edited_and_the_first_branch_stays(page: Page) -> None:
    answers(page, "A", "B", "C", "D")
    ask(page, "a")
    ask(page, "b")
    click(page, "Edit the question", 0)
    edit(page, "c")
    assert shown(page) == ["c", "C"]
    ask(page, "d")
    assert sent(page)[-1] == ["c", "C", "d"]
    click(page, "Version before")
    page.wait("document.querySelectorAll('.bubble').length === 2")
    assert shown(page) == ["a", "A", "b", "B"]
    page.reload()
    page.wait("document.querySelector('.answer')")
    assert shown(page) == ["a", "A", "b", "B"]
    click(page, "Next version")
    page.wait("document.querySelector('.bubble').innerText.includes('c')")
    assert shown(page) == ["c", "C", "d", "D"]
    assert page.problems == []


def test_an_earlier_answer_is_given_again_and_what_followed_stays(page: Page) -> None:
    answers(page, "A", "B", "A2")
    ask(page, "a")
    ask(page, "b")
    click(page, "Answer again", 0)
    page.wait(f"document.querySelectorAll('.bubble').length === 1 && {DONE}")
    assert shown(page) == ["a", "A2"]
    click(page, "Version before")
    page.wait("document.querySelectorAll('.bubble').length === 2")
    assert shown(page) == ["a", "A", "b", "B"]


def test_an_answer_is_edited(page: Page) -> None:
    answers(page, "A", "B", "C")
    ask(page, "a")
    ask(page, "b")
    click(page, "More about this answer", 0)
    click(page, "Edit the answer")
    edit(page, "mine")
    assert shown(page) == ["a", "mine", "b", "B"]
    ask(page, "c")
    assert sent(page)[-1] == ["a", "mine", "b", "B", "c"]


def test_a_cut_answer_goes_on(page: Page) -> None:
    answers(page, {"text": "One, two", "finish": "length"}, ", three.")
    ask(page, "Count.")
    click(page, "Continue")
    page.wait(f"document.querySelector('.answer').innerText.includes('three') && {DONE}")
    assert shown(page) == ["Count.", "One, two, three."]
    assert sent(page)[-1] == ["Count.", "One, two"]
    assert page.eval("document.querySelectorAll('.versions').length") == 0


def test_a_retry_that_fails_loses_nothing(page: Page) -> None:
    answers(page, "A", "fails", "fails", "It was", "B")
    ask(page, "a")
    for _ in range(2):
        click(page, "Answer again" if page.eval("asked.length") == 1 else "Try again")
        page.wait(f"document.querySelector('.failure') && {DONE}")
    assert page.eval("document.querySelector('.versions').innerText").split()[-1] == "2/2"
    click(page, "Version before")
    page.wait("!document.querySelector('.failure')")
    assert shown(page) == ["a", "A"]
    click(page, "Next version")
    click(page, "Try again")
    page.wait(f"document.querySelector('.failure')?.innerText.includes('broke off') && {DONE}")
    assert shown(page) == ["a", "It was"]
    click(page, "Try again")
    page.wait(f"!document.querySelector('.failure') && {DONE}")
    assert page.eval("document.querySelector('.versions').innerText").split()[-1] == "3/3"


def test_a_deleted_message_comes_back(page: Page) -> None:
    answers(page, "A", "B", "C")
    ask(page, "a")
    ask(page, "b")
    click(page, "More about this question", 0)
    click(page, "Delete question and answer")
    page.wait("document.querySelectorAll('.bubble').length === 1")
    assert shown(page) == ["b", "B"]
    click(page, "Undo")
    page.wait("document.querySelectorAll('.bubble').length === 2")
    assert shown(page) == ["a", "A", "b", "B"]
    click(page, "More about this answer")
    click(page, "Delete the answer")
    page.wait("document.querySelectorAll('.answer').length === 1")
    ask(page, "c")
    assert sent(page)[-1] == ["a", "A", "c"]


def test_answering_again_with_other_settings(page: Page) -> None:
    ask(page, "a")
    click(page, "More about this answer")
    click(page, "Answer again with …")
    page.wait("document.querySelector('dialog[open]')")
    for name, value in {"temperature": "0.7", "cf_local.top_k": "40"}.items():
        page.eval(f"""new Promise((done) => {{
            const field = document.querySelector('dialog [name="{name}"]');
            field.value = "{value}";
            field.dispatchEvent(new Event("change", {{ bubbles: true }}));
            setTimeout(done, 100);
        }})""")
    page.eval("document.querySelector('dialog [type=submit]').click()")
    page.wait(f"asked.length === 2 && {DONE}")
    body = page.eval("asked[1]")
    assert body["temperature"] == 0.7
    assert body["cf_local"] == {"top_k": 40, "trace": True}
    assert body["seed"] == 1
    assert "top_k 40" in page.eval("document.querySelector('.facts').innerText")
    ask(page, "b")
    assert "temperature" not in page.eval("asked[2]")


def test_settings_are_those_the_server_describes(page: Page) -> None:
    click(page, "Settings of this conversation")
    page.wait("document.querySelector('dialog [name=\"cf_local.repeat_penalty\"]')")
    names = set(page.eval("[...document.querySelectorAll('dialog [name]')].map((f) => f.name)"))
    assert {"temperature", "max_tokens", "top_p", "seed", "stop", "cf_local.score"} <= names
    assert not {"cf_local.trace", "cf_local.mode"} & names
    low = "document.querySelector('[name=\"cf_local.repeat_penalty\"]').min"
    assert float(page.eval(low)) > 0


def test_files_are_sent_with_the_question(page: Page, tmp_path: Path) -> None:
    good, bad = tmp_path / "notes.txt", tmp_path / "bad.bin"
    good.write_text("one\n```\ntwo\n", "utf-8")
    bad.write_bytes(b"\xff\x00\xff")
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    field = page.call("DOM.querySelector", nodeId=document, selector=".composer input[type=file]")
    page.call("DOM.setFileInputFiles", files=[str(good), str(bad)], nodeId=field["nodeId"])
    page.wait("document.querySelector('.composer .attached') && document.querySelector('.banner')")
    assert "“bad.bin” is not UTF-8 text" in page.eval("document.querySelector('.banner').innerText")
    page.reload()
    page.wait(
        "document.querySelector('.composer .attached') && document.querySelector('.examples')"
    )
    ask(page, "Sum it up.")
    assert sent(page) == [["File “notes.txt”:\n````\none\n```\ntwo\n````\n\nSum it up."]]
    assert "notes.txt" in page.eval("document.querySelector('.bubble').innerText")
    assert page.eval("document.querySelector('.composer .attached')") is None


def test_conversations_are_searched(page: Page) -> None:
    answers(page, "The **Zebra** runs.", "Nothing here.")
    ask(page, "first")
    click(page, "New chat")
    page.wait("document.querySelector('.examples')")
    ask(page, "second")
    page.eval("document.querySelector('.search input').focus()")
    page.type("zebra")
    page.wait("document.querySelectorAll('.sidebar .title').length === 1")
    page.wait("document.querySelector('.sidebar mark')?.innerText === 'Zebra'")
    page.type(" absent")
    page.wait("document.querySelector('.sidebar .none')")
    page.eval("document.querySelector('.search input').select()")
    page.press("Backspace")
    page.type("s")
    titles = "[...document.querySelectorAll('.sidebar .title')].map((one) => one.innerText)"
    page.wait(f"{titles}.length === 2")
    assert page.eval(titles) == ["second", "first"]


def test_the_sources_answer_beside_the_fusion(page: Page) -> None:
    click(page, "Compare: each source answers alone, too")
    ask(page, "a")
    assert page.eval("document.querySelectorAll('.columns .answer').length") == 4
    asked = [(body["model"], body["cf_local"].get("only")) for body in page.eval("asked")]
    assert asked == [("builtin", None), *(("builtin", name) for name in ("ash", "birch", "cedar"))]
    ask(page, "b")
    assert sent(page)[4] == ["a", "answer 1", "b"]
    page.reload()
    page.wait("document.querySelectorAll('.columns .answer').length === 8")


def test_thoughts_are_folded_and_not_sent_again(page: Page) -> None:
    answers(page, {"thought": "Let me **think**.", "text": "Four."})
    ask(page, "2 + 2?")
    assert page.eval("document.querySelector('.thought summary').innerText").startswith("Thought")
    assert page.eval("document.querySelector('.thought').open") is False
    page.eval("document.querySelector('.thought summary').click()")
    assert page.eval("document.querySelector('.thought strong').innerText") == "think"
    ask(page, "And then?")
    assert sent(page)[-1] == ["2 + 2?", "Four.", "And then?"]


def test_a_cold_model_shows_how_far_it_is(page: Page) -> None:
    page.eval("""(() => {
        const scripted = window.fetch;
        const loaded = new Promise((done) => { window.load = done; });
        window.fetch = async (path, options) => {
            if (path === "v1/models/builtin") return Response.json({ cf_local: { loading: 0.4 } });
            if (path === "v1/chat/completions") await loaded;
            return scripted(path, options);
        };
    })()""")
    page.eval("document.querySelector('#question').focus()")
    page.type("a")
    page.press("Enter", "\r")
    page.wait("document.querySelector('.state')?.innerText.includes('Loading 40%')")
    page.eval("new Promise((done) => setTimeout(done, 1000))")  # a shorter wait is not told
    page.eval("load()")
    page.wait(DONE)
    assert shown(page) == ["a", "answer 1"]
    facts = page.eval("document.querySelector('.facts').innerText")
    assert re.search(r"first words after \d", facts)  # and words per second without it


def test_the_picker_tells_what_models_are(page: Page) -> None:
    page.click(".picker")
    page.wait("document.querySelector('dialog.models[open]')")
    told = page.eval("document.querySelector('dialog.models').innerText")
    for text in ("Three tiny models", "not loaded yet", "modes: cool, rerank", "cedar"):
        assert text in told
    page.eval("[...document.querySelectorAll('.model')].at(-1).click()")
    page.wait("!document.querySelector('dialog')")
    assert page.eval("document.querySelector('.picker').innerText").strip() == "cedar"
    assert page.problems == []
