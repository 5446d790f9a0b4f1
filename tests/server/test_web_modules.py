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


DRAWN = """(async () => {
    const { Growing } = await import("/growing.js");
    const told = (node) => node.kind === "text" ? node.parts.map(({ text }) => text).join("")
        : node.kind === "math" ? `<math ${node.tex}>`
        : [`<${node.kind}${node.level || ""}`, node.href, node.language].filter(Boolean).join(" ")
            + ">" + (node.children ?? []).map(told).join("") + "</>";
    const drawn = (parts) => {
        const growing = new Growing();
        parts.forEach((part, i) => {
            growing.push(part, i);
            growing.blocks;
        });
        growing.finish();
        return growing.blocks.filter(({ kind }) => kind !== "rest").map(told).join("\\n");
    };
    const found = new Set([drawn([...TEXT])]);
    for (let at = 0; at <= TEXT.length; at++) found.add(drawn([TEXT.slice(0, at), TEXT.slice(at)]));
    return [...found];
})()"""


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        (" a\nb", ["<paragraph>a\nb</>"]),
        ("a **b *c*** ~~d~~ `e*`", [
            "<paragraph>a <strong>b <em>c</></> <del>d</> <span>e*</></>",
        ]),
        ("# One #\ntwo\n===", ["<heading1>One</>", "<heading1>two</>"]),
        ("a\n\n```py\nx = 1\n\n```\n\nb\n", [
            "<paragraph>a</>", "<code py>x = 1\n</>", "<paragraph>b</>",
        ]),
        ("~~~\nopen to the end", ["<code>open to the end</>"]),
        ("no ``` fence\n``", ["<paragraph>no ``` fence\n``</>"]),
        ("    ```\nx\n```", ["<code>x</>"]),
        ("text\n#hash\n# head", ["<paragraph>text\n#hash</>", "<heading1>head</>"]),
        ("1. a\n   - b\n\n2. c", [
            "<numbers><item><paragraph>a</><bullets><item><paragraph>b</></></></>"
            "<item><paragraph>c</></></>",
        ]),
        ("- [x] a", ["<bullets><item><paragraph><check></>a</></></>"]),
        ("> a\n> b", ["<quote><paragraph>a\nb</></>"]),
        ("|a|b|\n|-|-:|\n|1|`2`|", [
            "<table><row><cell>a</><cell>b</></><row><cell>1</><cell><span>2</></></></>",
        ]),
        ("$a_1$ and \\(b\\), $5 and $6", ["<paragraph><math a_1> and <math b>, $5 and $6</>"]),
        ("so:\n$$\nx *y* z\n$$\n\\[ w \\]", [
            "<paragraph>so:</>", "<math \nx *y* z\n>", "<math  w >",
        ]),
        ("$$ never closed\n\nb", ["<math >", "<paragraph>b</>"]),
        ("[a](https://b.c/d?e) <https://f.g> www.h.i", [
            "<paragraph><link https://b.c/d?e>a</> <link https://f.g>https://f.g</> "
            "<link https://www.h.i>www.h.i</></>",
        ]),
        ("![a](https://b.c/d.png)", ["<paragraph><picture https://b.c/d.png>a</></>"]),
        ("[a](javascript:b) [c](data:d) [e](//f.g) [h]", [
            "<paragraph>[a](javascript:b) [c](data:d) [e](//f.g) [h]</>",
        ]),
        ("<b>x</b><br>&lt;\\*<!-- y -->", ["<paragraph><b>x</b>\n<*<!-- y --></>"]),
        ("<script>\nx\n</script>", ["<paragraph><script>\nx\n</script></>"]),
    ],
)  # fmt: skip
def test_markdown_is_the_same_however_it_is_cut(tab: Page, text: str, blocks: list[str]) -> None:
    found = tab.eval(DRAWN.replace("TEXT", json.dumps(text)))
    assert found == ["\n".join(blocks)]


PARTS = """(async () => {
    const { Growing } = await import("/growing.js");
    const growing = new Growing();
    TEXTS.forEach((text, i) => {
        growing.push(text, i);
        growing.blocks;
    });
    growing.finish();
    const parts = (node) => node.parts ?? node.children.flatMap(parts);
    return growing.blocks.flatMap(parts).map(({ text, index }) => [text, index]);
})()"""


def test_every_segment_has_its_place_in_the_markdown(tab: Page) -> None:
    """Those that are nothing but marks, too: they may have been disputed."""
    texts = [
        "A",
        " **b",
        "old** c",
        "\n\n",
        "- ",
        "d `e",
        "f`",
        "\n```",
        "py\n",
        "x = ",
        "1\n```",
        "",
    ]
    assert tab.eval(PARTS.replace("TEXTS", json.dumps(texts))) == [
        ["A", 0], [" ", 1], ["b", 1], ["old", 2], [" c", 2], ["", 3], ["", 4], ["d ", 5], ["e", 5],
        ["f", 6], ["", 7], ["", 8], ["x = ", 9], ["1", 10], ["", 11],
    ]  # fmt: skip


def test_only_what_may_change_is_parsed_again(tab: Page) -> None:
    run = """(async () => {
        const { Growing } = await import("/growing.js");
        const growing = new Growing();
        growing.push("one\\n\\ntwo\\n\\nthree\\n\\nfo", 0);
        const before = [...growing.blocks];
        growing.push("ur", 1);
        return growing.blocks.map((block, at) => block === before[at]);
    })()"""
    assert tab.eval(run) == [True, True, False, False]


def test_only_answered_questions_are_sent(tab: Page) -> None:
    run = """(async () => {
        const { messages } = await import("/conversation.js");
        const said = (content) => ({ role: "assistant", versions: [{ content }], at: 0 });
        const asked = (content) => ({ role: "user", content });
        const turns = [asked("a"), said("A"), asked("b"), said(""), asked("c"), said("C")];
        return messages({ system: " S ", turns }, 5);
    })()"""
    roles = [(m["role"], m["content"]) for m in tab.eval(run)]
    assert roles == [("system", " S "), ("user", "a"), ("assistant", "A"), ("user", "c")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "no conversation"),
        ('{"title": "x"}', "no list"),
        (
            '{"messages": [{"role": "user", "content": {"x": 1}}]}',
            "The content of message 1 is not text",
        ),
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


def test_the_answer_of_a_model_that_thinks_is_its_content(tab: Page) -> None:
    """Its segments hold the thoughts, too."""
    run = """(async () => {
        const { receive, textOf, thoughtsOf, layoutOf } = await import("/answer.js");
        const { emptyAnswer } = await import("/conversation.js");
        const answer = emptyAnswer("m", "", ["a"]);
        const segment = (text) => ({ text, winners: ["a"], candidates: [{ sources: ["a"] }] });
        receive(answer, { segment: segment("<think>") });
        layoutOf(answer, ["a"]);
        receive(answer, { segment: segment("hm"), reasoning: "hm" });
        receive(answer, { segment: segment("m</think>"), reasoning: "m" });
        receive(answer, { segment: segment("\\n\\nYes, ") });
        receive(answer, { segment: segment("sure"), content: "Yes, sure" });
        receive(answer, { content: "." });
        answer.state = "done";
        const parts = (node) => node.parts ?? node.children.flatMap(parts);
        const shown = layoutOf(answer, ["a"]).growing.blocks.flatMap(parts);
        const thought = layoutOf(thoughtsOf(answer), ["a"]).growing.text;
        return [answer.reasoning, thought, textOf(answer), shown.map(({ text }) => text).join("")];
    })()"""
    assert tab.eval(run) == ["hmm", "hmm", "Yes, sure.", "Yes, sure."]


def test_stored_conversations_come_back_whole(tab: Page) -> None:
    run = """(async () => {
        const { packed, unpacked } = await import("/packing.js");
        const said = (text, more) => ({ content: text, segments: [{ text, mean: null }], ...more });
        const turn = (...versions) => ({ role: "assistant", versions, at: 0 });
        const later = [{ role: "user", content: "b" }, turn(said("B"))];
        const turns = [{ role: "user", content: "a" },
            turn(said("A", { thoughts: [{ text: "hm" }], beside: [said("C")], after: later }),
                said("D", { segments: [] }))];
        const kept = structuredClone(packed(turns));
        return [JSON.stringify(unpacked(kept)) === JSON.stringify(unpacked(packed(turns))),
            JSON.stringify(kept).includes("segments\\":[{"), unpacked(kept)];
    })()"""
    same, has_objects, turns = tab.eval(run)
    assert (same, has_objects) == (True, False)
    first, second = turns[1]["versions"]
    assert first["segments"] == [{"text": "A", "mean": None}]
    assert first["thoughts"] == [{"text": "hm"}]
    assert first["beside"][0]["segments"] == [{"text": "C", "mean": None}]
    assert first["after"][1]["versions"][0]["segments"] == [{"text": "B", "mean": None}]
    assert second["segments"] == []
