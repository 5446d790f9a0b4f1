"""Markdown as it streams: every block is on the screen, drawn again only where that is safe."""

from __future__ import annotations

import io
import re
import sys

import pytest
from click import unstyle

from cf_local.cli.chat.markdown import BlockSplitter, MarkdownSink, rows
from cf_local.cli.wrapping import WordWrap

REDRAW = re.compile(r"\x1b\[(\d+)A\r\x1b\[J")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(text: str, monkeypatch: pytest.MonkeyPatch, size: int = 3) -> str:
    """What reaches a terminal of 80 columns when ``text`` comes in pieces of some characters."""
    return written([text[at : at + size] for at in range(0, len(text), size)], monkeypatch)


def written(pieces: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    out = _Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setattr(sys, "stdout", out)
    sink = MarkdownSink()
    for piece in pieces:
        sink.write(piece)
    sink.end()
    return out.getvalue()


def screen(raw: str) -> str:
    """The lines that stand at the end: a redraw takes away the rows above it."""
    lines = [""]
    at = 0
    for match in REDRAW.finditer(raw):
        lines = "".join(["\n".join(lines), unstyle(raw[at : match.start()])]).split("\n")
        del lines[len(lines) - 1 - int(match[1]) :]
        lines.append("")
        at = match.end()
    return "\n".join(lines) + unstyle(raw[at:])


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_blocks_are_drawn_and_words_stay_in_order(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "Plain words.\n\n# Title\n\nSome **bold** words.\n\n```python\nx = 1\n\ny\n```\n- a\n- b\n"
    )
    raw = shown(text, monkeypatch, size)
    seen = screen(raw)
    assert len(REDRAW.findall(raw)) == 4
    assert "**" not in seen
    assert seen.split() == [
        *("Plain", "words.", "Title", "Some", "bold", "words."),
        *("x", "=", "1", "y", "•", "a", "•", "b"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "2*3*4 is 24\n\n",
        "<div>hello</div> *x*\n\n",
        "a \\[ x_1 \\] *b*\n\n",
        "an 👍🏽 *emoji* of unknown width\n\n",
        "\n".join(["*line*"] * 40) + "\n\n",
        "nothing to draw, really\n\n",
    ],
)
def test_what_is_not_safe_stays_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = shown(text, monkeypatch)
    assert raw == text


def test_rows_of_long_and_wide_lines() -> None:
    assert rows("short\n\n", 80) == 2
    assert rows("x" * 80 + "\n", 80) == 1
    assert rows("x" * 81 + "\n", 80) == 2
    assert rows("東京\n", 80) == 1
    assert rows("東" * 41 + "\n", 80) is None


def test_an_empty_line_in_a_listing_ends_no_block() -> None:
    splitter = BlockSplitter()
    ends = [splitter.add(line) for line in ("```\n", "a\n", "\n", "~~~\n", "```\n")]
    assert ends == [False, False, False, False, True]


# ---- Lines that break between words --------------------------------------------------------------


def wrapped(pieces: list[str], width: int) -> str:
    wrap = WordWrap()
    return "".join(wrap.feed(piece, width) for piece in pieces) + wrap.flush()


def test_lines_break_between_words() -> None:
    words = ["The", " quick", " brown", " fox", " jumps.", "\n", "  over", "  it", " "]
    assert wrapped(words, 11) == "The quick\nbrown fox\njumps.\n  over  it "
    assert wrapped(["".join(words)], 11) == wrapped(words, 11)
    assert wrapped(words, 80) == "".join(words)


def test_marks_take_no_room_and_long_words_break_anywhere() -> None:
    red = "\x1b[31mab\x1b[0m"
    assert wrapped([red, f" {red}", f" {red}"], 5) == f"{red} {red}\n{red}"
    assert wrapped(["a" * 12, " b", " c"], 5) == "a" * 12 + " b\nc"


def test_listings_are_not_broken() -> None:
    code = "```\nx = one + two + three\n```\n"
    assert wrapped([code, "a b c d"], 5) == code + "a b c\nd"


def test_a_wrapped_paragraph_is_drawn_again_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "First.\n\n" + "Some **bold** words of a long paragraph. " * 9 + "\n\nLast.\n"
    for pieces in ([text], re.split(r"(?=\s)", text)):
        raw = written(pieces, monkeypatch)
        assert REDRAW.findall(raw) == ["6"]
        assert screen(raw).split() == text.replace("**", "").split()
        assert max(map(len, screen(raw).split("\n"))) <= 80
