"""Lines from a real terminal: line editing, history and completion by prompt_toolkit."""

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.validation import Validator

from cf_local.cli.chat.lines import MORE, PROMPT, is_open, is_yes, unquoted
from cf_local.cli.chat.lines import Completion as CommandCompletion
from cf_local.cli.interrupt import Interrupt


class EditedLines:
    """Lines with arrow keys, a history that outlives the chat, and Tab."""

    def __init__(
        self, interrupt: Interrupt, commands: Mapping[str, CommandCompletion], history: Path | None
    ) -> None:
        self._interrupt = interrupt
        output = _output()
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory() if history is None else _KeptHistory(str(history)),
            completer=_CommandCompleter(commands),
            complete_while_typing=False,
            multiline=Condition(lambda: is_open(self._session.default_buffer.text)),
            prompt_continuation=MORE,
            validator=_Entered(interrupt),
            validate_while_typing=False,
            enable_history_search=True,
            enable_open_in_editor=True,
            output=output,
        )
        self._questions: PromptSession[str] = PromptSession(output=output)

    def read(self) -> str | None:
        """The next entry; Ctrl-C only drops what was typed, Ctrl-D on an empty line ends."""
        while True:
            try:
                text = self._prompt(self._session, PROMPT)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None
            try:
                text.encode()
            except UnicodeEncodeError:
                click.echo("Error: that line is not UTF-8.", err=True)
                continue
            return unquoted(text)

    def confirm(self, question: str) -> bool:
        """Ask; Ctrl-C and Ctrl-D say no."""
        try:
            return is_yes(self._prompt(self._questions, f"{question} [y/N] "))
        except (KeyboardInterrupt, EOFError):
            return False

    def _prompt(self, session: "PromptSession[str]", message: str) -> str:
        # Ctrl-C is a key to it. As a signal, just before or behind, it stays ours: its own handler
        # would drop what comes while it ends.
        try:
            return session.prompt(message, handle_sigint=False)
        finally:
            if os.name == "posix":
                self._heed_typed_ahead(session.app.input)

    def _heed_typed_ahead(self, keyboard: Input) -> None:
        """Find a Ctrl-C that was pressed behind Enter, before the terminal made it a signal."""
        keys = get_typeahead(keyboard)
        with keyboard.raw_mode():
            keys += keyboard.read_keys()
        pressed = [at for at, key in enumerate(keys) if key.key == Keys.ControlC]
        if pressed:
            keys = keys[pressed[-1] + 1 :]
            self._interrupt.press()
        store_typeahead(keyboard, keys)


class _Entered(Validator):
    """Takes any text; a Ctrl-C from before Enter is not for the answer."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def validate(self, document: Document) -> None:
        """Called at Enter."""
        self._interrupt.clear()


class _KeptHistory(FileHistory):
    """A history file whose troubles do not end the chat."""

    def load_history_strings(self) -> Iterable[str]:
        with suppress(OSError):
            yield from super().load_history_strings()

    def store_string(self, string: str) -> None:
        # UnicodeEncodeError: typed bytes that are no UTF-8; they are told where the line is read.
        with suppress(OSError, UnicodeEncodeError):
            super().store_string(string)


class _CommandCompleter(Completer):
    """Completes commands, their arguments and names of files."""

    def __init__(self, commands: Mapping[str, CommandCompletion]) -> None:
        self._commands = commands
        self._files = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """What the word in front of the cursor could become."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, rest = text.partition(" ")
        if not space:
            for known, command in self._commands.items():
                if f"/{known}".startswith(name):
                    yield Completion(f"/{known}", -len(name), display_meta=command.help)
            return
        found = self._commands.get(name.removeprefix("/"))
        if found is None:
            return
        if found.complete == "file":
            yield from self._files.get_completions(Document(rest), complete_event)
            return
        words = rest.split(" ")
        for each in found.complete(words):
            if each.startswith(words[-1]):
                yield Completion(each, -len(words[-1]))


def _output() -> Output:
    """The terminal to draw on.

    Its cursor is not asked for its place: the reply gets mixed up with what is typed ahead.
    """
    stream = sys.stdout if sys.stdout.isatty() else sys.stderr
    output = create_output(stream, always_prefer_tty=True)
    if hasattr(output, "enable_cpr"):
        output.enable_cpr = False
    return output
