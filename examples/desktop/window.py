"""The window: it shows what the worker reports, and passes on what the user wants.

Tk is used only in the main thread. ``_poll`` reads the worker's queue about thirty times a second;
nothing in this file waits for a model.
"""

import tkinter as tk
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from queue import Empty
from tkinter import filedialog

from controls import Controls, Legend, State
from theme import DARK, LIGHT, style
from view import ConversationView
from worker import Busy, Failed, Loaded, Notice, Report, Worker

import cf_local

POLL_MS = 30
REPORTS_PER_POLL = 200  # more wait for the next poll, so that keys and clicks get through

UNUSUAL_ENDS = {
    "cancelled": "stopped",
    "length": "cut at its longest",
    "repetition": "cut where it repeated itself",
}


class Window:
    """One conversation with a fusion. ``close`` ends it and ``root.mainloop()``."""

    def __init__(
        self,
        root: tk.Tk,
        worker: Worker,
        *,
        sampling: cf_local.Sampling,
        is_dark: bool = False,
    ) -> None:
        """Build the window in ``root``; answers use ``sampling``."""
        self._root, self._worker, self._sampling = root, worker, sampling
        self._names: tuple[str, ...] = ()
        self._settings = cf_local.Settings()
        self._question = ""
        self._steps: list[cf_local.Step] = []
        self._is_dark = tk.BooleanVar(root, is_dark)
        self.legend = Legend(root, self, self._is_dark)
        self.controls = Controls(root, self)
        self.view = ConversationView(root, explain=self.controls.hint)
        self.legend.pack(side="top", fill="x")
        self.controls.pack(side="bottom", fill="x")  # before the view, so that it keeps its space
        self.view.pack(side="top", fill="both", expand=True)
        self.state: State = "empty"
        self._enter("empty", "No models are loaded.")
        self._bind()
        self.restyle()
        self._poll()

    def _bind(self) -> None:
        self._root.title("cf-local")
        self._root.geometry(self._size(480, 380))  # set once: no widget's text changes it
        self._root.minsize(*map(int, self._size(300, 200).split("x")))
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        self._root.bind("<Return>", lambda _event: self.send())
        self._root.bind("<KP_Enter>", lambda _event: self.send())
        self._root.bind("<Escape>", lambda _event: self.stop())
        self._root.bind("<Control-n>", lambda _event: self.new())
        self._root.bind("<Control-q>", lambda _event: self.close())
        self._root.bind("<Control-Shift-C>", lambda _event: self.copy())
        self.controls.focus_question()

    def _size(self, width_pt: int, height_pt: int) -> str:
        """A size in points as Tk needs it, in pixels of this screen, such as "640x480"."""
        return "x".join(f"{self._root.winfo_fpixels(f'{n}p'):.0f}" for n in (width_pt, height_pt))

    # ---- What the user can do

    def send(self) -> None:
        """Ask what is in the question field."""
        question = self.controls.question.get().strip()
        if self.state != "idle" or not question:
            return
        self.controls.question.set("")
        self._question, self._steps = question, []
        self.view.ask(question)
        self._enter("writing", "Reading the question …")
        self._worker.ask(question, self._chosen_settings())

    def stop(self) -> None:
        """End the answer or the load; the part of an answer that is written stays."""
        if self.state in ("loading", "writing"):
            self._worker.stop()

    def new(self) -> None:
        """Start a new conversation."""
        if self.state in ("idle", "empty"):
            self._worker.forget()
            self.view.clear()
            self.controls.focus_question()

    def load(self, fusion: str | None = None, models: Sequence[str] = ()) -> None:
        """Load a fusion, or these models; the conversation continues with them."""
        self._enter("loading", "Loading the models …")
        self._worker.load(fusion, models)

    def choose_models(self) -> None:
        """Let the user pick .gguf files and load them together."""
        kinds = [("GGUF models", "*.gguf"), ("All files", "*")]
        title = "Choose models to fuse"
        paths = filedialog.askopenfilenames(parent=self._root, title=title, filetypes=kinds)
        if paths:
            self.load(models=paths)

    def copy(self) -> None:
        """Put the last answer on the clipboard."""
        if self.view.answer:
            self._root.clipboard_clear()
            self._root.clipboard_append(self.view.answer)

    def restyle(self) -> None:
        """Use the light or the dark colours."""
        theme = DARK if self._is_dark.get() else LIGHT
        style(self._root, theme)
        self.legend.show(self._names, theme)
        self.view.style(theme, self._names)

    def close(self) -> None:
        """Hide at once, and end when the models' thread has ended."""
        self._root.withdraw()
        self._worker.close()
        self._end()

    def _end(self) -> None:
        if self._worker.is_alive:
            self._root.after(POLL_MS, self._end)
        else:
            self._root.after_cancel(self._next_poll)
            self._root.destroy()

    def _chosen_settings(self) -> cf_local.Settings:
        mode, only = self.controls.chosen
        return replace(
            self._settings, mode=mode, only=only, sampling=self._sampling, all_scores=False
        )

    # ---- What the worker reports

    def _poll(self) -> None:
        # Scheduled first: an error further down must not end the polling.
        self._next_poll = self._root.after(POLL_MS, self._poll)
        reports: list[Report] = []
        with suppress(Empty):
            while len(reports) < REPORTS_PER_POLL:
                reports.append(self._worker.reports.get_nowait())
        for is_text, run in groupby(reports, key=lambda report: isinstance(report, cf_local.Step)):
            if is_text:
                self._write([step for step in run if isinstance(step, cf_local.Step)])
            else:
                for report in run:
                    self._show(report)

    def _write(self, steps: Sequence[cf_local.Step]) -> None:
        self._steps += steps
        self.view.add(steps)
        self.controls.progress(None)
        self.controls.say("Writing …")

    def _show(self, report: Report) -> None:
        match report:
            case Busy(what, share):
                self.controls.progress(share)
                self.controls.say(f"{what}: {share:.0%}")
            case Loaded(names, settings):
                self._names, self._settings = names, settings
                self.controls.offer(names, (settings.mode, settings.only))
                self.restyle()
                self._enter("idle", "Ready. Enter sends, Escape stops an answer.")
            case Notice(text):
                self.view.show_notice(text)
            case Failed(text, has_models):
                self._fail(text, has_models=has_models)
            case cf_local.Answer():
                self._enter("idle", summary(report, self._steps))

    def _fail(self, text: str, *, has_models: bool) -> None:
        self.view.show_notice(text, "error")
        if has_models:
            self._enter("idle", "That did not work; the conversation goes on without it.")
        else:
            self._enter("empty", "No models are loaded: choose some with “Models …”.")
        if not self.controls.question.get():
            self.controls.question.set(self._question)  # to fix it and send it again

    def _enter(self, state: State, status: str) -> None:
        self.state = state
        self.controls.enter(state)
        self.controls.say(status)


def summary(answer: cf_local.Answer, steps: Sequence[cf_local.Step]) -> str:
    """How fast an answer was, and how much of it nobody disputed."""
    segments = [step for step in steps if not step.whole]
    n_undisputed = sum(len(step.candidates) == 1 for step in segments)
    n_words, elapsed_s = len(answer.text.split()), max(answer.elapsed_s, 1e-9)
    parts = [f"{n_words} words, {n_words / elapsed_s:.1f} a second"]
    if len(answer.sources) > 1 and segments:
        parts.append(f"no dispute on {n_undisputed / len(segments):.0%}")
    if answer.finish_reason != "stop":
        parts.append(UNUSUAL_ENDS[answer.finish_reason])
    return "; ".join(parts)
