"""The controls around the conversation: legend, question field, buttons, status line."""

import tkinter as tk
from collections.abc import Mapping, Sequence
from tkinter import ttk
from typing import Literal, Protocol

from theme import Theme, reading_font

import cf_local

State = Literal["loading", "empty", "idle", "writing"]
Way = tuple[cf_local.Mode, str | None]
"""How to answer: ``mode`` and ``only`` of the settings."""

WAYS: Mapping[str, Way] = {
    "Word by word": ("cool", None),
    "Best whole answer": ("rerank", None),
    "Both, the best wins": ("cool+r", None),
}


class Actions(Protocol):
    """What the buttons do."""

    def send(self) -> None:
        """Ask what is in the field."""

    def stop(self) -> None:
        """End the answer or the load."""

    def new(self) -> None:
        """Start a new conversation."""

    def choose_models(self) -> None:
        """Let the user pick models."""

    def restyle(self) -> None:
        """Use the chosen colours."""


class Legend(ttk.Frame):
    """The colour of each source, and the switch for dark colours."""

    def __init__(self, root: tk.Tk, actions: Actions, is_dark: tk.BooleanVar) -> None:
        super().__init__(root, padding=("10p", "6p"))
        self._names = ttk.Frame(self)
        self._names.pack(side="left")
        ttk.Checkbutton(self, text="Dark", variable=is_dark, command=actions.restyle).pack(
            side="right"
        )

    def show(self, names: Sequence[str], theme: Theme) -> None:
        """Show the names of the sources in their colours."""
        for label in self._names.winfo_children():
            label.destroy()
        for index, name in enumerate(names):
            mark = ttk.Label(self._names, text=f"■ {name}", foreground=theme.source(index))
            mark.pack(side="left", padx=(0, "10p"))
        if len(names) > 1:
            rest = ttk.Label(self._names, text="uncoloured: all agree", style="Faint.TLabel")
            rest.pack(side="left")


class Controls(ttk.Frame):
    """The question field, the buttons, and the status line with the progress."""

    def __init__(self, root: tk.Tk, actions: Actions) -> None:
        super().__init__(root, padding="10p")
        self.question = tk.StringVar(root)
        self.way = tk.StringVar(root)
        self.status = tk.StringVar(root)
        self._ways: Mapping[str, Way] = WAYS
        self._said = ""
        self._field = ttk.Entry(self, textvariable=self.question, font=reading_font(root))
        self._send = ttk.Button(self, text="Send", command=actions.send)
        self._stop = ttk.Button(self, text="Stop", command=actions.stop)
        self._new = ttk.Button(self, text="New", command=actions.new)
        self._models = ttk.Button(self, text="Models …", command=actions.choose_models)
        self._chooser = ttk.Combobox(self, textvariable=self.way, width=18)
        self._chooser.bind("<<ComboboxSelected>>", lambda _event: self.focus_question())
        self._status = ttk.Label(self, textvariable=self.status, style="Faint.TLabel")
        self._progress = ttk.Progressbar(self, maximum=1.0, length="90p")
        self._place()

    def _place(self) -> None:
        """Two rows, in the order of the Tab key, and the status line."""
        self.columnconfigure(0, weight=1)
        left = ("6p", 0)
        self._field.grid(row=0, column=0, columnspan=3, sticky="ew")
        self._send.grid(row=0, column=3, padx=left)
        self._stop.grid(row=0, column=4, padx=left)
        self._chooser.grid(row=1, column=0, sticky="w", pady="6p")
        self._models.grid(row=1, column=3, padx=left)
        self._new.grid(row=1, column=4, padx=left)
        self._status.grid(row=2, column=0, columnspan=3, sticky="w")
        self._progress.grid(row=2, column=3, columnspan=2, sticky="e")

    def focus_question(self) -> None:
        """Give the question field the keyboard focus."""
        self._field.focus_set()

    def offer(self, names: Sequence[str], chosen: Way) -> None:
        """Offer all ways in which the sources with these names can answer."""
        alone: dict[str, Way] = {f"Only {name}": ("single", name) for name in names}
        self._ways = {**WAYS, **alone} if len(names) > 1 else alone
        self._chooser.configure(values=list(self._ways))
        labels = [label for label, way in self._ways.items() if way == chosen]
        self.way.set((labels or list(self._ways))[0])

    @property
    def chosen(self) -> Way:
        """The way that the user chose."""
        return self._ways[self.way.get()]

    def enter(self, state: State) -> None:
        """Enable the buttons that make sense in this state."""
        is_busy = state in ("loading", "writing")
        for button, is_enabled in (
            (self._send, state == "idle"),
            (self._stop, is_busy),
            (self._new, not is_busy),
            (self._models, not is_busy),
        ):
            button.state(["!disabled" if is_enabled else "disabled"])
        self._chooser.configure(state="readonly" if state == "idle" else "disabled")
        self.progress(0.0 if is_busy else None)

    def progress(self, share: float | None) -> None:
        """Show how much is done, 0 to 1; None hides the bar."""
        if share is None:
            self._progress.grid_remove()
        else:
            self._progress["value"] = share
            self._progress.grid()

    def say(self, text: str) -> None:
        """Show a text in the status line."""
        self._said = text
        self.status.set(text)

    def hint(self, text: str) -> None:
        """Show a text there temporarily; "" restores the last one."""
        self.status.set(text or self._said)
