"""The HTML report: what it tells, and that no text of a model becomes markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from cf_local.evaluation import Walk, alone, summarize_words
from cf_local.evaluation.report import changes, p_value, percent, render, render_words
from cf_local.evaluation.runner import Result
from cf_local.evaluation.store import record_of
from cf_local.evaluation.summary import Summary, summarize
from cf_local.evaluation.tasks.builtin import WordProblems
from cf_local.evaluation.tasks.task import Item
from cf_local.evaluation.variants import Variant
from cf_local.evaluation.walk import Word
from cf_local.method.boundary import words_of
from cf_local.settings import Settings
from cf_local.types import Candidate, Score, SourceInfo, chat

EVIL = "<script>alert('x')</script> & \"quoted\" </pre></details>"
VARIANTS = [
    Variant("ada", Settings(mode="single", only="ada")),
    Variant("cool <b>", Settings()),
]
ITEMS = [
    Item(f"i{n}{EVIL}", chat(f"Question {n} {EVIL}"), f"4{n} {EVIL}", f"group {EVIL}")
    for n in range(3)
]
MARKS = {"ada": [1, 0, 1], "cool <b>": [0, 1, 1]}
RESULTS = [
    Result(i.id, i.group, v, m, f"{v} says {EVIL}", "stop", 1, 1, 9, EVIL, {EVIL: 2})
    for v, row in MARKS.items()
    for i, m in zip(ITEMS, row, strict=True)
]


def summary() -> Summary:
    found = summarize(f"task {EVIL}", VARIANTS, RESULTS)
    assert found is not None
    return found


def page() -> str:
    record = record_of([], WordProblems(), ITEMS, VARIANTS)
    return render(summary(), record, ITEMS, RESULTS)


class Reader(HTMLParser):
    """Collects tags, attributes and visible text; every tag must be closed by its own."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read() -> Reader:
    reader = Reader()
    reader.feed(page())
    reader.close()
    return reader


def test_no_text_becomes_markup() -> None:
    reader = read()
    assert reader.open == []
    assert "script" not in reader.tags
    assert reader.tags.count("b") == 1  # the template's own
    text = "".join(reader.text)
    assert text.count(EVIL) > 20
    assert f"cool <b> says {EVIL}" in text
    assert "<script" not in page()


def test_the_page_needs_no_network() -> None:
    names = {name for name, _ in read().attributes}
    assert names.isdisjoint({"src", "href", "srcset", "onload", "onclick"})
    assert not re.search(r"https?://|@import|url\(", page())
    assert "default-src 'none'" in page()


def test_the_page_suits_phones_and_the_dark() -> None:
    assert 'name="viewport" content="width=device-width' in page()
    assert "prefers-color-scheme: dark" in page()


def test_fixed_and_broken_items_are_shown_in_full() -> None:
    (change,) = changes(summary(), ITEMS, RESULTS)
    assert change.variant == "cool <b>"
    assert [c.item.id for c in change.fixed] == [ITEMS[1].id]
    assert [c.item.id for c in change.broken] == [ITEMS[0].id]
    text = "".join(read().text)
    assert "Fixed: 1" in text
    assert "Broken: 1" in text
    assert f"Question 2 {EVIL}" not in text  # both were right: nothing to see


def test_a_bar_is_as_long_as_the_share() -> None:
    bars = re.findall(r'class="(alone|fused)" x="2" y="\d+" width="([\d.]+)"', page())
    assert bars == [("alone", "237.3"), ("fused", "237.3")] * 2  # in all, and in the one group


def test_without_a_source_alone_there_is_nothing_to_compare_with() -> None:
    only = summarize("t", VARIANTS[1:], [r for r in RESULTS if r.variant != "ada"])
    assert only is not None
    record = record_of([], WordProblems(), ITEMS, VARIANTS[1:])
    assert "Fixed" not in render(only, record, ITEMS, RESULTS)


def test_words_along_a_text_are_marked() -> None:
    text = f"One {EVIL}"
    walk_item = Item("w<i>", chat("?"), (text,), "g")
    words = words_of(text)

    def walked(word: str, index: int) -> Word:
        """The two sources are right in turn, and the right one is surer."""
        candidates = Candidate(word.encode(), False), Candidate(b"<b>", False)
        right = index % 2 == 0
        scores = tuple((Score(float(not right), 1), Score(float(right), 1)) for _ in range(2))
        order = candidates if right else candidates[::-1]
        flags = (True, False) if right else (False, True)
        return Word(order, (0, 1), flags, scores, (Score(1.0, 1),) * 2)

    walk = Walk("w<i>", len(words), tuple(walked(w, i) for i, w in enumerate(words)))
    sources = [SourceInfo("ada", ""), SourceInfo("bob", "")]
    variants = [*alone(Settings(), ["ada", "bob"]), Variant("cool <b>", Settings())]
    found = summarize_words("t", variants, [walk_item], [walk], sources)
    assert found is not None
    record = record_of([], WordProblems(), [walk_item], variants)
    page = render_words(found, record, variants, [walk_item], [walk], sources)
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert reader.tags.count("span") == 2 + len(words) // 2  # the legend, and what was fixed
    shown = "".join(reader.text)
    assert text in shown
    assert f"{len(words)} words of 1 texts" in shown
    assert "bytes/s" not in shown
    titles = [value for name, value in reader.attributes if name == "title"]
    assert titles[0] == f"cool <b>: {words[1]} · ada: <b>"


def test_figures() -> None:
    assert (percent(0.5), percent(1)) == ("50.0%", "100.0%")
    assert [p_value(p) for p in (0.0004, 0.0421, 0.5, 1)] == ["< 0.001", "0.042", "0.50", "1.00"]
