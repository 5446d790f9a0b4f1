"""Lines from a terminal, with line editing, history and completion by prompt_toolkit."""

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
from cf_local.types import is_unicode


class EditedLines:
    """Lines with arrow keys, Tab completion, and a history that outlives the chat."""

    def __init__(
        self, interrupt: Interrupt, commands: Mapping[str, CommandCompletion], history: Path | None
    ) -> None:
        self._interrupt = interrupt
        output = _output()
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory() if history is None else _SafeHistory(str(history)),
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
        """The next entry. Ctrl-C drops what is typed, Ctrl-D on an empty line returns None."""
        while True:
            try:
                text = self._prompt(self._session, PROMPT)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None
            if not is_unicode(text):
                click.echo("Error: that line is not UTF-8.", err=True)
                continue
            return unquoted(text)

    def confirm(self, question: str) -> bool:
        """Ask; Ctrl-C and Ctrl-D mean no."""
        try:
            return is_yes(self._prompt(self._questions, f"{question} [y/N] "))
        except (KeyboardInterrupt, EOFError):
            return False

    def _prompt(self, session: "PromptSession[str]", message: str) -> str:
        # While the prompt runs, Ctrl-C is a key. As a signal, just before or after, it stays ours:
        # prompt_toolkit's own handler would drop one that comes while the prompt ends.
        try:
            return session.prompt(message, handle_sigint=False)
        finally:
            if os.name == "posix":
                self._check_typed_ahead(session.app.input)

    def _check_typed_ahead(self, keyboard: Input) -> None:
        """Handle a Ctrl-C that was pressed after Enter, before the terminal made it a signal."""
        keys = get_typeahead(keyboard)
        with keyboard.raw_mode():
            keys += keyboard.read_keys()
        pressed = [at for at, key in enumerate(keys) if key.key == Keys.ControlC]
        if pressed:
            keys = keys[pressed[-1] + 1 :]
            self._interrupt.press()
        store_typeahead(keyboard, keys)


class _Entered(Validator):
    """Accepts any text, and clears a Ctrl-C from before Enter: it is not for the answer."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def validate(self, document: Document) -> None:
        """Called on Enter."""
        self._interrupt.clear()


class _SafeHistory(FileHistory):
    """A history file whose errors do not end the chat."""

    def load_history_strings(self) -> Iterable[str]:
        with suppress(OSError):
            yield from super().load_history_strings()

    def store_string(self, string: str) -> None:
        # UnicodeEncodeError: the typed bytes are not UTF-8, which ``read`` reports.
        with suppress(OSError, UnicodeEncodeError):
            super().store_string(string)


class _CommandCompleter(Completer):
    """Completes commands, their arguments and file names."""

    def __init__(self, commands: Mapping[str, CommandCompletion]) -> None:
        self._commands = commands
        self._files = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Completions of the word before the cursor."""
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

    It is not asked for the cursor's position: the reply would mix with text typed ahead.
    """
    stream = sys.stdout if sys.stdout.isatty() else sys.stderr
    output = create_output(stream, always_prefer_tty=True)
    if hasattr(output, "enable_cpr"):
        output.enable_cpr = False
    return output
