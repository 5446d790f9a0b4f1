"""What models write, as the page draws it: Markdown that can neither run nor load anything."""

import json
import os
from collections.abc import Iterator

import pytest
from browser import CHROMIUM, Page
from serving import Served, serving, slow

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found"),
    pytest.mark.skipif(os.name == "nt", reason="the pipe to the browser is a POSIX one"),
]

DRAW = """(async () => {
    const { html, render } = await import("/html.js");
    const { AnswerText } = await import("/answertext.js");
    const answer = { content: "", state: "done", segments: TEXTS.map((text, i) => ({
        text, whole: false, ends: false, agreed: false, winners: ["ash"],
        candidates: i % 2 ? [{ sources: ["ash"] }] : [{ sources: ["ash"] }, { sources: ["birch"] }],
    })) };
    document.querySelector("#drawn")?.remove();
    const column = document.querySelector(".thread .column");
    const root = column.appendChild(document.createElement("div"));
    root.id = "drawn";
    const sources = ["ash", "birch"];
    const view = { answer, sources, onPoint() {} };
    render(html`<${AnswerText} ...${view} />`, root);
    await new Promise((done) => setTimeout(done, 400));
    return root.innerHTML;
})()"""


@pytest.fixture(scope="module")
def server(tab: Page) -> Iterator[Served]:  # after the browser, which is started by a fork
    with serving(slow()) as served:
        tab.visit(served.url)
        tab.wait("document.querySelector('.examples')")
        tab.eval("new Promise((done) => setTimeout(done, 500))")  # for the icon
        yield served


def drawn(page: Page, *texts: str) -> str:
    page.problems.clear()
    page.requests.clear()
    return str(page.eval(DRAW.replace("TEXTS", json.dumps(texts))))


ATTACKS = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror=pwned=1> <svg onload=pwned=1><script>pwned=1</script></svg>",
    "<style>body{display:none}</style><link rel=stylesheet href=https://evil.example/x.css>",
    '<iframe srcdoc="<script>parent.pwned=1</script>"></iframe> <base href=https://evil.example>',
    "![x](https://evil.example/a.png) ![y](data:image/svg+xml,<svg/onload=pwned=1>) ![z](x.png)",
    "[a](javascript:pwned=1) [b](JaVaScRiPt:pwned=1) [c](data:text/html,<script>1</script>)",
    "[d](&#106;avascript:pwned=1) [e](vbscript:x) [f](java\\\nscript:x) [g](\x01javascript:x)",
    "[x]: javascript:pwned=1\n\n[x] [h][x] <javascript:pwned=1> <vbscript:y>",
    '[i](https://ok.example "\\" onclick=pwned=1 x=") [j](https://ok.example/"onclick="pwned=1)',
    "[k](https://ok.example) <!-- <script>pwned=1</script> --> <?php x ?> <![CDATA[<b>]]>",
    "$\\href{javascript:pwned=1}{x}$ $\\url{javascript:pwned=1}$ $\\includegraphics{https://e.x/a}$",
    "$\\style{background:url(https://e.x)}{x}$ $\\htmlData{onclick=pwned}{x}$ $\\class{card}{x}$",
    "$$\n\\def\\x{\\x\\x}\\x\n$$\n\n$\\text{<img src=x onerror=pwned=1>}$ $\\rule{9999em}{9999em}$",
    "```html\n<script>pwned=1</script><img src=x onerror=pwned=1>\n```",
    "```mermaid\ngraph TD; A-->B; click A href \"javascript:pwned=1\"\n```",
    "```\"onmouseover=pwned=1\nx\n```\n\n~~~<img/src=x/onerror=pwned=1>\nx\n~~~",
    "|<img src=x onerror=pwned=1>|[a](javascript:x)|\n|-|-|\n|<svg/onload=pwned=1>|x|",
    "&lt;script&gt;pwned=1&lt;/script&gt; &#60;img src=x onerror=pwned=1&#62;",
]  # fmt: skip


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_a_model_writes_runs_or_loads(
    tab: Page, server: Served, text: str, pieces: int
) -> None:
    size = -(-len(text) // pieces)
    drawn(tab, *(text[at : at + size] for at in range(0, len(text), size)))
    assert tab.eval("window.pwned ?? null") is None
    assert [u for u in tab.requests if not u.startswith(f"{server.url}/vendor/")] == []
    assert tab.problems == []
    names = "[...new Set([...document.querySelectorAll('#drawn *')].map((one) => one.localName))]"
    known = {
        *("div", "p", "span", "em", "strong", "del", "code", "pre", "a", "figure", "figcaption"),
        *("button", "svg", "path", "table", "thead", "tbody", "tr", "th", "td", "ul", "ol", "li"),
        *("math", "mi", "mn", "mo", "mtext", "mrow", "mstyle", "mspace", "mpadded", "menclose"),
    }
    assert set(tab.eval(names)) <= known
    attributes = """[...document.querySelectorAll("#drawn *")].flatMap((one) =>
        [...one.attributes].filter(({ name }) => /^on|^src|^style|^srcdoc/.test(name))
            .map(({ name }) => `${one.localName} ${name}`))"""
    assert [found for found in tab.eval(attributes) if not found.startswith("m")] == []
    links = "[...document.querySelectorAll('#drawn [href]')].map((one) => one.href)"
    assert [u for u in tab.eval(links) if not u.startswith("https://")] == []
    assert tab.eval(
        "[...document.querySelectorAll('#drawn a')].every((a) => /noopener/.test(a.rel))"
    )


@pytest.mark.parametrize(
    "text",
    [
        "> " * 3000 + "x",
        "\n".join("  " * i + "- a" for i in range(400)),
        "> - " * 800 + "x",
        "*a **b " * 400 + "x" + "** c*" * 400,
        "[a](" * 2000,
        "$" + "{" * 1500 + "}" * 1500 + "$",
        "|" + "a|" * 300 + "\n|" + "-|" * 300 + "\n|" + "1|" * 300,
    ],
    ids=["quotes", "lists", "both", "emphasis", "brackets", "formula", "table"],
)
def test_nothing_a_model_writes_breaks_the_page(tab: Page, server: Served, text: str) -> None:
    drawn(tab, text)
    shown = "document.querySelector('#drawn').textContent"
    assert tab.eval(shown)
    assert tab.problems == []


def test_a_link_shows_where_it_goes_before_it_is_followed(tab: Page, server: Served) -> None:
    drawn(tab, "See [the bank](https://evil.example/login?x=1).")
    tab.eval("document.querySelector('#drawn a').click()")
    tab.wait("document.querySelector('dialog.leaving[open]')")
    assert tab.eval("document.querySelector('.address').innerText") == (
        "https://evil.example/login?x=1"
    )
    assert tab.eval("location.href").startswith(server.url)
    tab.press("Escape")
    tab.wait("!document.querySelector('dialog')")
    assert tab.requests == []


def test_pieces_are_marked_inside_markdown(tab: Page, server: Served) -> None:
    drawn(tab, "# Head", "\n\n- one", " **two", " three**", "\n\n```py\n", "x", " = 1\n```")
    pieces = """[...document.querySelectorAll("#drawn .s")].map((one) =>
        [one.textContent, one.dataset.i, one.closest("h3, strong, code, p")?.localName ?? ""])"""
    assert tab.eval(pieces) == [
        ["Head", "0", "h3"], ["one", "1", "p"], ["two", "2", "strong"], ["three", "3", "strong"],
        ["◆", "4", "code"], ["x", "5", "code"], ["= 1", "6", "code"],
    ]  # fmt: skip
    tab.wait("document.querySelector('#drawn .c-number')?.textContent === '1'")


def test_formulas_are_drawn_and_broken_ones_stay_text(tab: Page, server: Served) -> None:
    drawn(tab, "$\\frac{1}{2}$", " and", " $\\broken{$")
    assert tab.eval("document.querySelectorAll('#drawn math mfrac').length") == 1
    assert tab.eval("document.querySelector('#drawn').innerText").endswith("$\\broken{$")
    assert tab.eval("document.querySelectorAll('#drawn .math .s.mark').length") == 1
    assert tab.problems == []


def test_code_can_be_copied(tab: Page, server: Served) -> None:
    drawn(tab, "```py\nx = 1\n", "y = 2\n```")
    tab.eval("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    tab.eval("document.querySelector('#drawn figcaption button').click()")
    tab.wait("window.copied")
    assert tab.eval("window.copied") == "x = 1\ny = 2"
