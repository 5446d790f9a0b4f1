"""The conversation at the terminal: reads lines, and answers each or runs it as a command."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cf_local.chats.autosave import Autosave
from cf_local.chats.transcript import ChatTurn, Transcript
from cf_local.cli.chat.answer import AnswerRecord, AnswerWriter
from cf_local.cli.chat.engine import Engine, StateSaver
from cf_local.cli.chat.lines import Complete, Lines, nothing
from cf_local.cli.chat.view import View
from cf_local.errors import CfLocalError, InputError
from cf_local.registry.toml import nearest


class TerminalChat:
    """A running chat, which commands act on. Each change replaces the conversation and saves it."""

    def __init__(
        self, engine: Engine, view: View, lines: Lines, autosave: Autosave, saver: StateSaver
    ) -> None:
        self.engine = engine
        self._saver = saver
        self.view = view
        self.lines = lines
        self.autosave = autosave
        self.transcript = Transcript()
        self.written: list[AnswerRecord] = []
        """The answers that this process wrote in this chat."""
        self.thinks: bool | None = None

    def run(self, commands: Mapping[str, "Command"]) -> None:
        """Read lines until the input ends or a command leaves."""
        if self.view.is_terminal:
            self.view.say(f"Fusing {self.engine.name}. /help lists the commands, /bye leaves.")
        interrupt = self.engine.interrupt
        while (line := self.lines.read()) is not None:
            if not line.strip():
                continue
            try:
                with interrupt.patient():
                    if self._obey(line, commands):
                        return
            except CfLocalError as error:
                self.view.error(error)
            except KeyboardInterrupt:
                self.view.say("Interrupted.")

    def ask(self, question: str) -> None:
        """Answer a question; both become part of the conversation."""
        self.answer(self.transcript, question)

    def answer(
        self,
        base: Transcript,
        question: str,
        former: ChatTurn | None = None,
        *,
        continues: bool = False,
    ) -> None:
        """Answer a question after ``base``; ``base`` with that turn becomes the conversation.

        ``former`` is the turn that the new one replaces, if any, or ``continues``.
        """
        asked_at = datetime.now(UTC).isoformat(timespec="seconds")
        turn = ChatTurn(question, state="writing", asked_at=asked_at)
        if continues and former is not None:
            turn = replace(former, state="writing")
        writer = AnswerWriter(self.engine, self.view, self.autosave, self.thinks, turn)
        self.transcript, written = writer.write(base, former)
        self.written.append(written)
        if self.view.switches["stats"]:
            self.view.say(written.statistics)

    def go_on(self) -> None:
        """Continue the last answer. Raises InputError if there is none."""
        turns = self.transcript.turns
        if not turns or not turns[-1].answer:
            raise InputError("There is no answer to continue. /retry asks again.")
        self.answer(self.transcript.without_last(), turns[-1].question, turns[-1], continues=True)

    def change(self, transcript: Transcript) -> None:
        """Continue with a conversation that a command changed."""
        self.transcript = transcript
        self.autosave.save(transcript)

    def begin(self, transcript: Transcript) -> None:
        """Continue with another conversation; the previous one stays in the history."""
        self.save_state()
        self.autosave.follow(None)
        self.written.clear()
        self.change(transcript)
        self.restore_state()

    def go_on_with(
        self, number: int, saved: Transcript, revision: int, *, system: str | None = None
    ) -> None:
        """Continue a saved conversation and show where it ended."""
        self.autosave.follow(number, revision, saved)
        settled = tuple(
            replace(turn, state="stopped") if turn.state == "writing" else turn
            for turn in saved.turns
        )
        self.transcript = Transcript(system or saved.system, settled)
        n_turns = f"{len(settled)} turn" + ("s" if len(settled) != 1 else "")
        self.view.say(f"Continuing chat {number} ({n_turns}): {self.view.safe(saved.title)}")
        if settled:
            last = settled[-1]
            self.view.say(f"> {self.view.safe(last.question)}")
            self.view.say(self.view.safe(last.answer) or "(no answer; /retry asks again)")
        self.restore_state()

    def save_state(self) -> None:
        """Save the state of the models, so that continuing this conversation is fast."""
        n_dropped = self.written[-1].n_dropped if self.written else 0
        self._saver.save(self.autosave.number, self.transcript, self.thinks, n_dropped)

    def restore_state(self) -> None:
        """Restore the saved state of the models for this conversation, if any."""
        self._saver.restore(self.autosave.number, self.transcript, self.thinks)

    def _obey(self, line: str, commands: Mapping[str, "Command"]) -> bool:
        """Answer a line or run it as a command; returns whether to leave."""
        if self.view.is_terminal and line.strip().lower() in ("exit", "quit"):
            return True
        if not line.lstrip().startswith("/"):
            self.ask(line)
            return False
        name, _, rest = line.strip().removeprefix("/").partition(" ")
        name = OTHER_NAMES.get(name, name)
        if name not in commands:
            hint = nearest(name, commands)
            self.view.error(f"Unknown command /{name}{hint}. /help lists all commands.")
            return False
        return bool(commands[name].run(self, rest.strip()))


OTHER_NAMES: Mapping[str, str] = {
    **{"exit": "bye", "quit": "bye", "fusion": "models"},
}
"""Names by which people know commands from other chats."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the chat, "/" and a name: a row of the table in ``commands``.

    ``run`` takes the chat and the text after the name, and returns True to leave the chat.
    ``complete`` takes the words after the name, including the unfinished one, and returns
    completions of that one; "file" completes file names.
    """

    name: str
    arguments: str
    help: str
    run: Callable[["TerminalChat", str], bool | None]
    complete: Complete = nothing
