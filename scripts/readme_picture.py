"""The picture at the top of the README: an answer, coloured by who won which words.

    cf-local ask --all-scores --trace answer.jsonl --model A.gguf --model B.gguf "..."
    python scripts/readme_picture.py answer.jsonl   # into docs/: answer.jsonl, answer-*.svg
    python scripts/readme_picture.py                # the pictures again, from docs/answer.jsonl

It draws what the trace says, with the colours and marks of the trace page. The kept trace names the
files of the models without their folders. Fixed-width letters, so that no font need be measured.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from cf_local import trace
from cf_local.trace import heat, page

DOCS = Path(__file__).resolve().parent.parent / "docs"
THEMES = ("light", "dark")
WIDTH, MARGIN = 800, 28  # pixels
ADVANCE, LINE = 9.0, 34  # of a letter of 15 pixels; of a line of the answer
SMALL = 6.0  # advance of a letter of 10 pixels
DASHES = {"w1": ' stroke-dasharray="5 3"', "w3": ' stroke-dasharray="2 2"'}
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"


def main() -> None:
    """Keep the trace that was given, if any, and draw both pictures."""
    kept = DOCS / "answer.jsonl"
    if len(sys.argv) > 1:
        (one,) = trace.read(Path(sys.argv[1]))
        sources = tuple(replace(s, file=Path(s.file).name) for s in one.sources)
        trace.write(kept, [replace(one, sources=sources)])
    (one,) = trace.read(kept)
    for theme in THEMES:
        path = DOCS / f"answer-{theme}.svg"
        path.write_text(picture(one, theme), encoding="utf-8", newline="\n")
        print(f"docs/{path.name}")


def picture(one: trace.Trace, theme: str) -> str:
    """The SVG of an answer in one theme, "light" or "dark"."""
    view, colours = page.view_of(one, 0), colours_of(theme)
    drawing = Drawing(colours)
    drawing.line(f"> {view.question}", "quiet")
    drawing.feed(14)
    for segment in view.segments:
        if not segment.is_empty:
            drawing.segment(segment)
    drawing.feed(LINE + 8)
    wins = trace.summarize(one).wins
    for source in view.key:
        drawing.key(source, f"{source.name} won {wins[source.name]}")
    drawing.feed(LINE)
    for told in dispute(one):
        drawing.line(told, "quiet")
    return drawing.svg(f"An answer that {len(one.names)} models wrote together", view.plain)


def colours_of(theme: str) -> dict[str, str]:
    """The named colours of the trace page in one theme."""
    css = Path(page.__file__).with_name("page.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", css)
    return {name: both[THEMES.index(theme)] for name, *both in pairs}


def dispute(one: trace.Trace) -> Iterator[str]:
    """What the sources wanted where they were furthest apart."""
    for hot in heat.hottest(trace.pieces(one.steps), one, "")[:1]:
        step = one.steps[int(hot.id.removeprefix("s")) - 1]
        wanted = [
            f"{trace.proposers(candidate, one.names)} wanted “{candidate.text.strip()}”"
            for index, candidate in enumerate(step.candidates)
            if index != step.winner
        ]
        yield f"Most disputed: “{hot.text}”. {', '.join(wanted)}."


class Drawing:
    """Elements of the picture, and the place of the next one."""

    def __init__(self, colours: dict[str, str]) -> None:
        self._colours = colours
        self._parts: list[str] = []
        self._x, self._y = float(MARGIN), 42.0

    def feed(self, height: float) -> None:
        """Go to the start of a line that is so much lower."""
        self._x, self._y = float(MARGIN), self._y + height

    def line(self, text: str, colour: str) -> None:
        """Words in one colour, and a new line after them."""
        for word in text.split():
            self._word(word, self._colours[colour])
            self._x += ADVANCE
        self.feed(24)

    def segment(self, segment: page.Segment) -> None:
        """A piece of the answer with its mark; words are broken between lines."""
        self._space(segment.before)
        words = re.split(r"(\s+)", segment.body)
        for index, word in enumerate(words):
            if index % 2:
                self._space(word)
            else:
                letters = segment.letters if index == len(words) - 1 else ""
                self._marked(word, segment.css, letters)
        self._space(segment.after)

    def key(self, source: page.SourceRow, text: str) -> None:
        """A source with its letter, as its words are marked."""
        self._marked(text, source.css, source.letter)
        self._x += 3 * ADVANCE

    def svg(self, title: str, description: str) -> str:
        """The whole picture, as high as what was drawn."""
        height = round(self._y)
        ground = f'<rect width="{WIDTH}" height="{height}" rx="10" fill="{self._colours["card"]}"/>'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-label={quoteattr(title)}>'
        )
        told = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
        style = f'<g font-family="{FONT}" font-size="15">'
        return "\n".join([head, told, ground, style, *self._parts, "</g>", "</svg>", ""])

    def _space(self, text: str) -> None:
        for character in text:
            if character == "\n":
                self.feed(LINE)
            elif self._x > MARGIN:
                self._x += ADVANCE

    def _marked(self, word: str, css: str, letters: str) -> None:
        width = ADVANCE * len(word) + SMALL * len(letters)
        if self._x + width > WIDTH - MARGIN and any(map(str.isalnum, word)):
            self.feed(LINE)
        colour = self._colours[f"c{css[1:]}"] if css else ""
        if colour:
            self._mark(css, colour, width)
        self._word(word, self._colours["text"])
        if letters:
            self._text(letters, colour, self._y - 5, SMALL, 'font-size="10" font-weight="700"')

    def _mark(self, css: str, colour: str, width: float) -> None:
        x, y = self._x, self._y
        self._parts.append(
            f'<rect x="{x:g}" y="{y - 15:g}" width="{width:g}" height="20" rx="3" '
            f'fill="{colour}" fill-opacity=".16"/>'
        )
        offsets = (5.0, 8.0) if css == "w2" else (5.0,)  # a double line
        self._parts += [
            f'<path d="M{x:g} {y + below:g}h{width:g}" stroke="{colour}" '
            f'stroke-width="{1.5 if css == "w2" else 2}"{DASHES.get(css, "")}/>'
            for below in offsets
        ]

    def _word(self, word: str, colour: str) -> None:
        if self._x + ADVANCE * len(word) > WIDTH - MARGIN and self._x > MARGIN and len(word) > 1:
            self.feed(24)
        self._text(word, colour, self._y, ADVANCE, "")

    def _text(self, text: str, colour: str, y: float, advance: float, more: str) -> None:
        if not text:
            return
        width = advance * len(text)
        self._parts.append(
            f'<text x="{self._x:g}" y="{y:g}" textLength="{width:g}" '
            f'lengthAdjust="spacingAndGlyphs" fill="{colour}"{" " if more else ""}{more}>'
            f"{escape(text)}</text>"
        )
        self._x += width


if __name__ == "__main__":
    main()
