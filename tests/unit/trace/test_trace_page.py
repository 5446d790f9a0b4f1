"""The page of a trace: what it says, and that no text of a model can become part of its markup."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from answers import NAMES, agreed, disputed, traced, whole

from cf_local.trace import Trace, page
from cf_local.types import FUSED, Chat, Message, Step

NASTY = [
    "</script><script>alert(1)</script>", "</style>", "</title>", "-->", "<!--", "]]>",
    '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "{{ 7*7 }}", "{% raw %}",
    "&lt;b&gt;", "\x00", "\x1b[31m", "\x9b", "\u202e", "\u2066", "\ud800", "\u2028", "\ufeff",
    "مرحبا", "👩‍👩‍👧", "Z̷̢̛a̵", "javascript:alert(1)",
]  # fmt: skip
ALLOWED = {
    "a", "aside", "b", "body", "br", "button", "code", "details", "div", "fieldset", "figcaption",
    "figure", "h1", "h2", "h3", "head", "header", "html", "input", "label", "legend", "li", "link",
    "main", "meta", "nav", "ol", "p",
    "pre", "rect", "script", "section", "span", "style", "summary", "sup", "svg", "table", "td",
    "text", "th", "title", "tr", "ul",
}  # fmt: skip


class Seen(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.own: dict[str, str] = {"style": "", "script": ""}
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.own:
            self.own[self._inside] += data
        else:
            self.text += data

    def all(self, tag: str, css: str = "") -> list[dict[str, str | None]]:
        return [
            a for t, a in self.tags if t == tag and {css} <= {"", *(a.get("class") or "").split()}
        ]


def seen(*traces: Trace) -> Seen:
    return Seen(page.render(traces))


def nasty_trace(text: str) -> Trace:
    names = (f"A{text}", f"B{text}", "c")
    steps = []
    for step in (agreed(text), disputed(text, f"x{text}"), disputed("", text), whole(text, "y")):
        candidates = tuple(
            replace(
                c,
                sources=tuple(names[NAMES.index(n)] for n in c.sources),
                scores={names[NAMES.index(n)]: v for n, v in c.scores.items()},
            )
            for c in step.candidates
        )
        passes = dict.fromkeys(names, 1)
        steps.append(replace(step, candidates=candidates, passes=passes, timings_s={text: 1.0}))
    one = traced(steps, names=names, question=text)
    assert one.heading is not None
    assert one.answer is not None
    turns = Chat((Message(text, text), Message("user", text)))
    heading = replace(
        one.heading, prompt=turns, date=text, versions={text: text}, settings={text: [text]}
    )
    sources = tuple(replace(s, file=f"/x/{text}", sha256=text) for s in one.sources)
    return Trace(heading, sources, one.steps, replace(one.answer, chosen=text))


@pytest.mark.parametrize("text", NASTY)
def test_text_of_models_stays_text(text: str) -> None:
    markup = page.render([nasty_trace(text), nasty_trace(text)])
    found, plain = Seen(markup), Seen(page.render([nasty_trace("plain"), nasty_trace("plain")]))
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(a) for _, a in found.tags] == [sorted(a) for _, a in plain.tags]
    assert {tag for tag, _ in found.tags} <= ALLOWED
    assert found.own == plain.own
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", markup)
    assert markup.encode()
    assert "49" not in found.text or "{{" not in text


def test_nothing_but_its_own_style_and_script_may_run() -> None:
    found = seen(traced([disputed("a", "b")]))
    (policy,) = [
        m["content"] for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    digests = {
        key: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for key, text in found.own.items()
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digests['style']}'; "
        f"script-src 'sha256-{digests['script']}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
        for name in ("src", "href"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:,"))
    assert "url(" not in found.own["style"]
    assert "innerHTML" not in found.own["script"]


def test_segments_carry_winner_letter_and_label() -> None:
    found = seen(traced([agreed("He has"), disputed(" 23", " 24"), disputed(".", "!", winner=1)]))
    links = [a for a in found.all("a") if "data-s" in a]
    assert [a["class"] for a in links] == ["s w w0 h2", "s w w1 h3"]
    assert [a["aria-label"] for a in links] == [
        "23: won by ash, 27% wanted something else",
        "!: won by birch, cedar, 73% wanted something else",
    ]
    assert [a["href"] for a in links] == ["#s2", "#s3"]
    assert {a["id"] for a in found.all("div", "step")} == {"s1", "s2", "s3"}
    assert len(found.all("span", "s")) == 1  # agreed: no link
    assert "He has 23A!BC" in found.text


def test_everything_is_there_without_javascript() -> None:
    found = seen(traced([agreed("He has"), disputed(" 23", " 24", ends=True)]))
    scores = ("won by ash among 2 candidates", "␣24∎", "0.500", "3.500", "all agreed")
    for told in (*scores, "passes A\N{NO-BREAK SPACE}1", "sampling.seed", "ab" * 32, "cf_local"):
        assert told in found.text
    assert found.all("details", "steps")


def test_charts_tell_their_numbers_to_a_screen_reader() -> None:
    found = seen(traced([agreed("He has"), disputed(" 23", " 24")]))
    labels = [svg["aria-label"] for svg in found.all("svg")]
    assert labels[0] == ("1 of 2 segments agreed; disputed ones won: ash 1, birch 0, cedar 0.")
    assert labels[1] == (
        "The share of weight that wanted something else, from 0 to 100%; most at: 23 27%."
    )
    assert labels[2:4] == [
        "Disputed segments won: A ash 1, B birch 0, C cedar 0",
        "Forward passes: A ash 3, B birch 3, C cedar 3",
    ]
    assert str(labels[4]).startswith("Time: prompt 500 ms (12%), draft 500 ms (12%), score 250 ms")


def test_folders_of_models_are_not_told() -> None:
    text = page.render([traced([agreed("Hi")])])
    assert "ash.gguf" in text
    assert "tom/" not in text
    windows = replace(traced([agreed("Hi")]).sources[0], file=r"C:\Users\tom\ash.gguf")
    assert r"tom\ash" not in page.render([replace(traced([agreed("Hi")]), sources=(windows,))])


def test_whole_answers_show_the_choice() -> None:
    long = "So it goes. " * 100
    found = seen(traced([whole(f"{long}A", f"{long}B")]))
    assert "The choice among whole answers" in found.text
    assert found.text.count(f"{long}B") == 1  # in full once, cut in the table
    both = seen(traced([agreed("ab"), whole("ab", "x", proposers=(("ash", FUSED), ("birch",)))]))
    assert "The fused answer was chosen; ash wrote the same." in both.text
    assert "A+(fused)" in both.text


def asked(step: Step, *names: str) -> Step:
    return replace(step, asked=names)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (traced([agreed("", ends=True)]), "The answer is empty."),
        (traced([]), "No steps were recorded."),
        (replace(traced([agreed("Hi")]), answer=None), "cut off"),
        (replace(traced([agreed("Hi")]), heading=None), "no settings and versions"),
        (traced([agreed("Hi", names=["ash"])], names=["ash"]), "written by ash alone"),
        (traced([agreed("Hi", names=["ash"])]), "by ash; no other source asked"),
        (traced([asked(agreed("Hi", names=["ash"]), *NAMES)]), "birch, cedar proposed nothing"),
        (traced([asked(disputed("a", "b"), "ash", "birch")]), "2 candidates; cedar not asked"),
        (Trace(None, (), (), None), "cut off"),
    ],
)  # fmt: skip
def test_answers_of_every_kind(one: Trace, told: str) -> None:
    assert told in seen(one).text


def test_each_step_tells_who_was_asked() -> None:
    step = asked(disputed("a", "b"), "ash", "birch")
    found = seen(traced([step, asked(agreed(" c"), "birch"), agreed(" d")]))
    assert "asked AB ·" in found.text
    assert "asked B ·" in found.text
    assert found.text.count("asked B") == 1  # an older trace does not say
    assert "Ccedarnot asked" in found.text  # the column of a source without scores says why
    assert "Ccedarnot asked" not in seen(traced([asked(step, *NAMES)])).text


def test_a_second_view_shows_how_disputed_each_word_was() -> None:
    found = seen(traced([agreed("He has"), disputed(" 23", " 24"), disputed(".", "!", winner=1)]))
    views = found.all("input")
    assert [view["type"] for view in views] == ["radio", "radio"]
    assert views[0]["name"] == views[1]["name"]
    assert "checked" in views[0]
    for told in ("Most disputed: ! 73%, 23 27%", "up to 25%", "more than 75%"):
        assert told in found.text
    assert len(found.all("rect", "hotter")) == 2
    alone = seen(traced([agreed("Hi", names=["ash"])], names=["ash"]))
    assert not alone.all("input")  # nothing was disputed


def test_several_answers_are_listed_and_their_links_differ() -> None:
    found = seen(traced([disputed("a", "b")]), traced([disputed("a", "b")], question="And why?"))
    assert [a["href"] for a in found.all("a") if "data-s" in a] == ["#s1", "#a2s1"]
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    listed = [str(a["href"]) for a in found.all("a") if "dir" in a]
    assert listed == ["#answer1", "#answer2", "#s1", "#a2s1"]  # and the most disputed of each


def test_seven_sources_and_more_have_letters_of_their_own() -> None:
    names = [f"m{i}" for i in range(30)]
    step = disputed("a", "b")
    last = replace(step.candidates[0], sources=("m29",))
    found = seen(traced([replace(step, candidates=(last, step.candidates[1]))], names=names))
    assert "aD2" in found.text


def test_a_long_answer_stays_small() -> None:
    steps = [disputed(f" word{i}", " other", " third") for i in range(3000)]
    assert len(page.render([traced(steps)]).encode()) < 5_000_000


def test_a_page_knows_itself() -> None:
    assert page.is_page(page.render([traced([])]).encode()[:2000])
    assert not page.is_page(b"<!DOCTYPE html><title>My page</title>")
