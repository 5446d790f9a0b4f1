"""What a chat shows: answers on stdout, everything else on stderr.

Colours, markdown and progress appear only on terminals that allow them. On a terminal, control
characters in model output are made visible; elsewhere the output is unchanged.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Protocol

import click

from cf_local.cli.chat.markdown import MarkdownSink
from cf_local.cli.options import shows_colour
from cf_local.cli.status import StatusLine
from cf_local.cli.winners import Winners
from cf_local.cli.wrapping import WordWrap
from cf_local.method.thinking import AnswerSplitter
from cf_local.trace import shown, visible, winners_of_dispute
from cf_local.types import Step


class View:
    """What the user wants to see, and where messages go."""

    def __init__(self, *, winners: bool) -> None:
        is_dumb = os.environ.get("TERM") == "dumb"
        self.is_terminal = sys.stdout.isatty()
        self.in_colour = shows_colour() and not is_dumb
        self.switches = {
            "markdown": self.in_colour,
            "think": self.is_terminal,
            "winners": winners,
            "stats": False,
        }
        """What ``/set`` can switch on and off."""
        self._held: list[str] | None = None

    def say(self, text: str) -> None:
        """Show a message or the result of a command."""
        if self._held is not None:  # during an answer, whose lines are counted
            self._held.append(text)
            return
        click.echo(text, err=True)

    def note(self, text: str) -> None:
        """Show a note."""
        self.say(f"Note: {text}")

    def error(self, error: object) -> None:
        """Show an error."""
        self.say(f"Error: {error}")

    def safe(self, text: str) -> str:
        """Text of a model or a file, made safe for a terminal."""
        return visible(text) if self.is_terminal else text

    def hold(self) -> None:
        """Hold messages back while an answer is shown."""
        self._held = []

    def release(self) -> None:
        """Show the messages that were held back."""
        held, self._held = self._held, None
        for text in held or ():
            click.echo(text, err=True)


class _Sink(Protocol):
    """Where the text of an answer goes."""

    def write(self, text: str) -> None: ...

    def end(self, *, redraws: bool = True) -> None: ...


class _PlainSink:
    """Text as it is; on a terminal, its lines break between words."""

    def __init__(self, *, wraps: bool) -> None:
        self._wrap = WordWrap() if wraps else None

    def write(self, text: str) -> None:
        if self._wrap is not None:
            text = self._wrap.feed(text, shutil.get_terminal_size().columns)
        click.echo(text, nl=False)

    def end(self, *, redraws: bool = True) -> None:
        # Always: a script that reads the output counts a line per answer.
        click.echo()


class AnswerView:
    """Shows one answer while it is written."""

    def __init__(
        self, view: View, names: Sequence[str], splitter: AnswerSplitter, *, streams: bool
    ) -> None:
        """``names`` are the sources; without ``streams``, the answer is shown when complete."""
        self._view = view
        self._streams = streams
        self._splitter = splitter
        self._marks = Winners(names, in_colour=view.in_colour) if view.switches["winners"] else None
        is_plain = self._marks is not None or not view.switches["markdown"]
        self._sink: _Sink = _PlainSink(wraps=view.is_terminal) if is_plain else MarkdownSink()
        self._kind = ""
        self._line = StatusLine()

    def reading(self, share: float) -> None:
        """Show how much of the prompt is read (0 to 1)."""
        if not self._kind:
            self._line.show("Reading", share)

    def step(self, step: Step) -> None:
        """Show what a step adds."""
        if not self._streams:
            self._show_status("writing")
            return
        for piece in self._splitter.feed(step.text):
            self._show(piece.kind, piece.text, winners_of_dispute(step))

    def end(self, steps: Sequence[Step], text: str, *, is_stopped: bool) -> None:
        """Show what is still missing, and end the line. ``text`` is the whole saved answer."""
        if not self._streams:
            self._show_whole(steps, text)
        for piece in self._splitter.flush():
            self._show(piece.kind, piece.text, winners_of_dispute(steps[-1]) if steps else ())
        if answer := self._splitter.after_all(ended=not is_stopped):
            self._show("answer", answer, ())
        self._line.clear()
        if is_stopped and self._view.is_terminal:
            self._sink.write(self._dim(" (stopped)"))
        self._sink.end(redraws=not is_stopped)

    def _show_whole(self, steps: Sequence[Step], text: str) -> None:
        final = shown(steps) if steps and steps[-1].whole else ()
        if final and "".join(step.text for step in final) == text:
            for step in final:
                for piece in self._splitter.feed(step.text):
                    self._show(piece.kind, piece.text, winners_of_dispute(step))
            return
        for piece in self._splitter.feed(text):
            self._show(piece.kind, piece.text, ())

    def _show(self, kind: str, text: str, winners: Sequence[str]) -> None:
        """Show a piece of the answer, or of thinking (dimmed or hidden)."""
        if kind == "thinking" and not self._view.switches["think"]:
            self._show_status("thinking")
            return
        self._line.clear()
        if kind == "answer" and self._kind == "thinking":
            self._sink.write("\n\n")
        self._kind = kind
        if self._marks is not None and winners:
            self._sink.write(self._marks.piece(text, winners))
        elif kind == "thinking":
            self._sink.write(self._dim(self._view.safe(text)))
        else:
            self._sink.write(self._view.safe(text))

    def _dim(self, text: str) -> str:
        return click.style(text, dim=True) if self._view.in_colour else text

    def _show_status(self, text: str) -> None:
        if not self._kind:
            self._line.say(f"{text} …")
