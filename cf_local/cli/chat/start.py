"""Puts a chat together from the saved conversation, the models, the lines and the view."""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cf_local.chats.autosave import Autosave
from cf_local.chats.database import ChatStore
from cf_local.chats.transcript import Transcript
from cf_local.cli.chat.chat import TerminalChat
from cf_local.cli.chat.commands import COMMANDS
from cf_local.cli.chat.engine import Engine, StateSaver
from cf_local.cli.chat.lines import Completion, Lines, PipeLines, PlainLines
from cf_local.cli.chat.view import View
from cf_local.cli.interrupt import Interrupt
from cf_local.files import UnwritableError, data_folder, make_private


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The options of ``command`` other than models and settings."""

    continues: bool
    number: int | None
    no_history: bool
    show_winners: bool
    thinks: bool | None
    system: str | None


def start(interrupt: Interrupt, start_options: StartOptions, options: dict[str, Any]) -> None:
    """Run a chat to its end. Raises what loading and opening the database raise."""
    with ExitStack() as opened:
        view = View(winners=start_options.show_winners)
        # The file first: if it is broken, that is reported before a long load.
        store = None if start_options.no_history else _open_store(opened, view, start_options)
        earlier = _earlier(store, start_options, view)
        engine = opened.enter_context(Engine(interrupt, options))
        autosave = Autosave(store, engine.name, view.note)
        saver = StateSaver(engine, store.path if store is not None else None)
        chat = TerminalChat(engine, view, _lines(interrupt, start_options), autosave, saver)
        chat.thinks = start_options.thinks
        chat.transcript = Transcript(start_options.system)
        if earlier is not None:
            chat.go_on_with(*earlier, system=start_options.system)
        chat.run(COMMANDS)
        chat.save_state()


def _open_store(opened: ExitStack, view: View, start_options: StartOptions) -> ChatStore | None:
    """The database; None and a note if nothing can be written."""
    try:
        return opened.enter_context(ChatStore())
    except UnwritableError as error:
        if start_options.continues or start_options.number is not None:
            raise
        view.note(f"This chat is not saved. {error}")
        return None


def _earlier(
    store: ChatStore | None, start_options: StartOptions, view: View
) -> tuple[int, Transcript, int] | None:
    """The conversation to continue: number, content and revision."""
    if store is None:
        return None
    number = start_options.number
    if start_options.continues and number is None:
        number = store.last()
        if number is None:
            view.note("There is no earlier chat. This is the first.")
    return None if number is None else (number, *store.load(number))


def _lines(interrupt: Interrupt, start_options: StartOptions) -> Lines:
    """The lines of the chat, with an input history in the data folder if possible."""
    if start_options.no_history:
        return lines_for(interrupt, COMMANDS, history=None)
    try:
        path = data_folder() / "input_history"
        make_private(path)
    except UnwritableError:
        return lines_for(interrupt, COMMANDS, history=None)
    return lines_for(interrupt, COMMANDS, history=path)


def lines_for(
    interrupt: Interrupt, commands: Mapping[str, Completion], history: Path | None
) -> Lines:
    """The lines of standard input; ``history`` is the file of the input history."""
    if not sys.stdin.isatty():
        return PipeLines(interrupt)
    is_dumb = os.name == "posix" and os.environ.get("TERM", "") in ("", "dumb", "unknown")
    if is_dumb or not (sys.stdout.isatty() or sys.stderr.isatty()):
        return PlainLines(interrupt)
    from cf_local.cli.chat.editing import EditedLines  # imported here: it is slow

    return EditedLines(interrupt, commands, history)
