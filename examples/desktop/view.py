"""The conversation as text to read, select and copy, in the colours of the sources that won.

Point at coloured words to see what the other sources would have written.
"""

import tkinter as tk
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby
from tkinter import ttk

from theme import Theme, reading_font

from cf_local import Step

Place = tuple[int, int]
"""Line and column."""


class ConversationView(ttk.Frame):
    """Questions, answers as they are written, notices and errors; read-only."""

    def __init__(self, root: tk.Tk, explain: Callable[[str], None]) -> None:
        """``explain`` gets a text about the words under the pointer, "" when it leaves them."""
        super().__init__(root)
        self._explain = explain
        self._disputed: list[tuple[Place, Place, str]] = []
        self._names: tuple[str, ...] = ()
        self._answer = ""
        self.text = tk.Text(
            self,
            wrap="word",
            state="disabled",
            font=reading_font(root),
            relief="flat",
            borderwidth=0,
            highlightthickness=0,
            padx="10p",
            pady="8p",
            spacing3="3p",
            width=60,
            height=14,
        )
        scrollbar = ttk.Scrollbar(self, command=self.text.yview)
        self.text.configure(yscrollcommand=scrollbar.set)
        self.text.grid(row=0, column=0, sticky="nsew")
        scrollbar.grid(row=0, column=1, sticky="ns")
        self.columnconfigure(0, weight=1)
        self.rowconfigure(0, weight=1)
        self.text.bind("<Motion>", self._point)
        self.text.bind("<Leave>", lambda _event: explain(""))
        self.text.bind("<Button-1>", lambda _event: self.text.focus_set())  # for Ctrl+C

    @property
    def answer(self) -> str:
        """The last answer, as far as it is written."""
        return self._answer

    @property
    def content(self) -> str:
        """All text that is shown."""
        return self.text.get("1.0", "end-1c")

    def style(self, theme: Theme, names: Sequence[str]) -> None:
        """Use these colours for the sources with these names."""
        self._names = tuple(names)
        self.text.configure(
            background=theme.ground,
            foreground=theme.text,
            selectbackground=theme.selection,
            selectforeground=theme.text,
        )
        bold = reading_font(self.text, "bold")
        self.text.tag_configure("question", font=bold, spacing1="10p")
        self.text.tag_configure("notice", foreground=theme.faint)
        self.text.tag_configure("error", foreground=theme.error)
        for index, name in enumerate(names):
            self.text.tag_configure(_tag_of(name), foreground=theme.source(index))
        self.text.tag_raise("sel")

    def ask(self, question: str) -> None:
        """Show a question; the next steps are its answer."""
        self._line(question, "question")
        self._answer = ""

    def add(self, steps: Sequence[Step]) -> None:
        """Show what steps add, or the whole answer that one of them chose.

        Tk lays out a paragraph again whenever text is added to it. So that a long one stays fast,
        the text of all steps is added at once and then coloured.
        """
        for is_whole, run in groupby(steps, key=lambda step: step.whole):
            if not is_whole:
                self._append(list(run))
                continue
            for step in run:
                if step.text != self._answer:  # else the fused answer won: it keeps its colours
                    self._clear("answer" if self._answer else "end-1c")
                    self._answer = ""
                    self._append([step])

    def show_notice(self, text: str, kind: str = "notice") -> None:
        """Show a notice, or an "error", on a line of its own."""
        self._line(text, kind)

    def clear(self) -> None:
        """Remove all text."""
        self._clear("1.0")
        self._answer = ""

    def _append(self, steps: Sequence[Step]) -> None:
        """Add text; where sources disagree, in the winner's colour and with an explanation."""
        text = "".join(step.text for step in steps)
        if len(steps) > 1 and max(text, default="") > "\uffff":
            for step in steps:  # one by one: versions of Tk count an emoji differently
                self._append([step])
            return
        start = self.text.index("end-1c")
        if not self._answer:
            self.text.mark_set("answer", start)
            self.text.mark_gravity("answer", "left")
        self._answer += text
        self._write(text)
        ends = list(accumulate(len(step.text) for step in steps))
        places = [start, *(f"{start}+{n}c" for n in ends[:-1]), "end-1c"]
        ranges: defaultdict[str, list[str]] = defaultdict(list)
        for step, *where in zip(steps, places, places[1:], strict=False):
            if len(step.candidates) > 1 and step.text:
                begin, end = (self.text.index(place) for place in where)
                winner = next((name for name in step.winners if name in self._names), "")
                ranges[_tag_of(winner)] += (begin, end)
                self._disputed.append((_place(begin), _place(end), _explanation(step)))
        for tag, of_tag in ranges.items():
            self.text.tag_add(tag, *of_tag)

    def _point(self, event: "tk.Event[tk.Text]") -> None:
        place = _place(self.text.index(f"@{event.x},{event.y}"))
        before = bisect_right(self._disputed, place, key=lambda disputed: disputed[0])
        _, end, explanation = self._disputed[before - 1] if before else (place, place, "")
        self._explain(explanation if place < end else "")

    def _line(self, text: str, tag: str) -> None:
        is_at_start = self.text.index("end-1c").endswith(".0")
        self._write(f"{'' if is_at_start else chr(10)}{text}\n", tag)

    def _write(self, text: str, *tags: str) -> None:
        follows = self.text.yview()[1] > 0.999  # a user who has scrolled up stays there
        self.text.configure(state="normal")
        self.text.insert("end-1c", text, tags)
        self.text.configure(state="disabled")
        if follows:
            self.text.see("end")

    def _clear(self, start: str) -> None:
        place = _place(self.text.index(start))
        self._disputed = [disputed for disputed in self._disputed if disputed[0] < place]
        self.text.configure(state="normal")
        self.text.delete(start, "end-1c")
        self.text.configure(state="disabled")


def _place(index: str) -> Place:
    """Line and column of Tk's "12.34", which compare in order."""
    line, _, column = index.partition(".")
    return int(line), int(column)


def _tag_of(name: str) -> str:
    return f"source-{name}"


def _explanation(step: Step) -> str:
    """Who proposed what, the winner first: "ash, birch: 42 (won); cedar: 45"."""
    order = sorted(step.candidates, key=lambda c: c is not step.candidates[step.winner])
    parts = [f"{', '.join(c.sources)}: {_short(c.text) or 'the end'}" for c in order]
    parts[0] += " (won)"
    return "; ".join(parts)


def _short(text: str, limit: int = 40) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
