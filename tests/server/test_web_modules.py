"""Modules of the web page that draw nothing, run in a real browser."""

import json
import os
from collections.abc import Iterator

import pytest
from browser import CHROMIUM, Page, browser
from serving import serving, slow

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found"),
    pytest.mark.skipif(os.name == "nt", reason="the pipe to the browser is a POSIX one"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page, serving(slow()) as server:
        page.visit(server.url)
        yield page


CUT_EVENTS = """(async () => {
    const { read } = await import("/sse.js");
    const text = ': hi\\r\\ndata: {"a": "é€😀"}\\r\\n\\r\\ndata: one\\ndata:two\\n\\nid: 3\\n\\n'
        + "data: [DONE]\\r\\rdata: cut";
    const all = new TextEncoder().encode(text);
    const found = new Set();
    for (let at = 0; at <= all.length; at++) {
        const body = new ReadableStream({ start(out) {
            out.enqueue(all.slice(0, at));
            out.enqueue(all.slice(at));
            out.close();
        } });
        const events = [];
        for await (const data of read(body)) events.push(data);
        found.add(JSON.stringify(events));
    }
    return [...found];
})()"""


def test_events_may_be_cut_anywhere(tab: Page) -> None:
    """Inside characters and line ends, too."""
    expected = ['{"a": "é€😀"}', "one\ntwo", "[DONE]"]
    assert [json.loads(one) for one in tab.eval(CUT_EVENTS)] == [expected]


LAYOUTS = """(async () => {
    const { Layout } = await import("/layout.js");
    const told = ({ kind, language, blocks }) =>
        (kind === "code" ? language || "code" : "prose") + ":"
        + blocks.flatMap(({ pieces }) => pieces.map(({ text }) => text)).join("");
    const drawn = (parts) => {
        const layout = new Layout();
        parts.forEach((part, i) => part && layout.push(part, i));
        layout.finish();
        return JSON.stringify(layout.sections.map(told).filter((one) => one !== "prose:"));
    };
    const found = new Set([drawn([...TEXT])]);
    for (let at = 0; at <= TEXT.length; at++) found.add(drawn([TEXT.slice(0, at), TEXT.slice(at)]));
    return [...found];
})()"""


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("a\nb", ["prose:a\nb"]),
        (" a b", ["prose:a b"]),
        ("a\n\n```py\nx = 1\n\n```\n\nb\n", ["prose:a", "py:x = 1", "prose:b"]),
        ("```\n`` `\n~~~\n````\nend", ["code:`` `\n~~~", "prose:end"]),
        ("~~~\nopen to the end", ["code:open to the end"]),
        ("no ``` fence\n``", ["prose:no ``` fence\n``"]),
        ("    ```\nindented", ["prose:```\nindented"]),
    ],
)
def test_code_is_told_from_prose_however_it_is_cut(
    tab: Page, text: str, sections: list[str]
) -> None:
    found = tab.eval(LAYOUTS.replace("TEXT", json.dumps(text)))
    assert [json.loads(one) for one in found] == [sections]


def test_only_answered_questions_are_sent(tab: Page) -> None:
    run = """(async () => {
        const { messages } = await import("/conversation.js");
        const said = (content) => ({ role: "assistant", versions: [{ content }], at: 0 });
        const asked = (content) => ({ role: "user", content });
        const turns = [asked("a"), said("A"), asked("b"), said(""), asked("c"), said("C")];
        return messages({ system: " S ", turns }, 4);
    })()"""
    roles = [(m["role"], m["content"]) for m in tab.eval(run)]
    assert roles == [("system", " S "), ("user", "a"), ("assistant", "A"), ("user", "c")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[]", "no conversation"),
        ('{"title": "x"}', "no list"),
        ('{"messages": [{"role": "user", "content": {"x": 1}}]}', "Message 1 has no text"),
        ('{"messages": [{"role": "tool", "content": ""}]}', "role “tool”"),
        ("null", "no list"),
    ],
)
def test_files_that_hold_no_conversation_are_refused(tab: Page, text: str, told: str) -> None:
    run = f"""(async () => {{
        const {{ imported }} = await import("/conversation.js");
        try {{
            return imported({json.dumps(text)}, "m").length;
        }} catch (error) {{
            return error.message;
        }}
    }})()"""
    assert told in tab.eval(run)


def test_what_was_exported_comes_back(tab: Page) -> None:
    run = """(async () => {
        const { exported, imported } = await import("/conversation.js");
        const parts = [{ type: "text", text: "a" }, { type: "text", text: "b" }];
        const said = [{ role: "developer", content: "S" }, { role: "user", content: parts },
            { role: "assistant", content: "A" }];
        const [one] = imported(JSON.stringify(said), "m");
        const file = JSON.stringify([exported(one), exported(one)]);
        return imported(file, "m").map(exported);
    })()"""
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "A"},
    ]
    assert tab.eval(run) == 2 * [{"title": "ab", "model": "m", "messages": messages}]
