"""The conversation as text that can be read, selected and copied, coloured by who won which words.

Point at coloured words to hear what the other sources would have written.
"""

import tkinter as tk
from collections.abc import Callable, Sequence
from tkinter import ttk

from theme import Theme, reading_font

from cf_local import Step


class ConversationView(ttk.Frame):
    """Questions, answers as they come, notices and errors; nothing can be typed into it."""

    def __init__(self, root: tk.Tk, explain: Callable[[str], None]) -> None:
        """``explain`` hears about the words under the pointer, "" when it has left them."""
        super().__init__(root)
        self._explain = explain
        self._explanations: dict[str, str] = {}  # by the tag of a step
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
        """The last answer as far as it came."""
        return self._answer

    @property
    def content(self) -> str:
        """All that is shown."""
        return self.text.get("1.0", "end-1c")

    def style(self, theme: Theme, names: Sequence[str]) -> None:
        """Use these colours, for the sources of these names."""
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
        """Show a question; what steps show next is its answer."""
        self._line(question, "question")
        self._answer = ""

    def add(self, step: Step) -> None:
        """Show what a step adds, or the whole answer that it chose."""
        if step.whole:
            if step.text == self._answer:  # the fused answer won: keep its colours
                return
            if self._answer:
                self._clear("answer")
            self._answer = ""
        if not self._answer:
            self.text.mark_set("answer", "end-1c")
            self.text.mark_gravity("answer", "left")
        self._answer += step.text
        self._write(step.text, *self._tags_of(step))

    def tell(self, text: str, kind: str = "notice") -> None:
        """Show a notice, or an "error", on a line of its own."""
        self._line(text, kind)

    def clear(self) -> None:
        """Show nothing."""
        self._clear("1.0")
        self.text.tag_delete(*self._explanations)
        self._explanations.clear()
        self._answer = ""

    def _tags_of(self, step: Step) -> tuple[str, ...]:
        """The winner's colour and an explanation; none where all sources agree."""
        if len(step.candidates) < 2 or not step.text:
            return ()
        tag = f"step-{len(self._explanations)}"
        self._explanations[tag] = _explanation(step)
        winner = next((name for name in step.winners if name in self._names), "")
        return (_tag_of(winner), tag)

    def _point(self, event: "tk.Event[tk.Text]") -> None:
        tags = self.text.tag_names(f"@{event.x},{event.y}")
        self._explain(next((self._explanations[t] for t in tags if t in self._explanations), ""))

    def _line(self, text: str, tag: str) -> None:
        is_at_start = self.text.index("end-1c").endswith(".0")
        self._write(f"{'' if is_at_start else chr(10)}{text}\n", tag)

    def _write(self, text: str, *tags: str) -> None:
        follows = self.text.yview()[1] > 0.999  # who has scrolled up to read stays there
        self.text.configure(state="normal")
        self.text.insert("end-1c", text, tags)
        self.text.configure(state="disabled")
        if follows:
            self.text.see("end")

    def _clear(self, start: str) -> None:
        self.text.configure(state="normal")
        self.text.delete(start, "end-1c")
        self.text.configure(state="disabled")


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
