"""The commands of the chat, in a table that ``/help`` and completion read."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cf_local import trace as traces
from cf_local.chats import exchange
from cf_local.chats.transcript import Transcript
from cf_local.cli.chat.answer import AnswerRecord
from cf_local.cli.chat.chat import Command, TerminalChat
from cf_local.cli.chat.engine import CHOICES, listed
from cf_local.cli.winners import Winners
from cf_local.cli.winners import why as explained
from cf_local.errors import ConfigError, InputError
from cf_local.files import write_result
from cf_local.registry.registry import load_registry
from cf_local.settings import OPTIONS

_SWITCHES: Mapping[str, tuple[str, str]] = {
    "markdown": ("on", "off"),
    "think": ("show", "hide"),
    "winners": ("on", "off"),
    "stats": ("on", "off"),
}
"""The switches of the view that ``/set`` changes, with the words for on and off."""


def _help(chat: TerminalChat, name: str) -> None:
    name = name.removeprefix("/")
    rows = [COMMANDS[name]] if name in COMMANDS else list(COMMANDS.values())
    width = max(len(f"/{c.name} {c.arguments}") for c in rows)
    for command in rows:
        usage = f"/{command.name} {command.arguments}".strip()
        chat.view.say(f"{usage:<{width}}  {command.help}")
    if len(rows) > 1:
        chat.view.say(
            'Ctrl-C stops an answer, Ctrl-D leaves; """ starts and ends a text of several lines.'
        )


def _set(chat: TerminalChat, rest: str) -> None:
    name, _, value = rest.partition(" ")
    value = value.strip()
    if not name:
        for key, shown in [*listed(chat.engine.settings), *_switched(chat)]:
            chat.view.say(f"{key:<16}  {shown}")
    elif name in _SWITCHES:
        on, off = _SWITCHES[name]
        if value not in (on, off):
            raise InputError(f"{name} is {on} or {off}, not {value!r}.")
        chat.view.switches[name] = value == on
        if name == "think":
            chat.view.say(f"thinking is {'shown' if chat.view.switches[name] else 'hidden'}")
    else:
        _change(chat, name, value)


def _switched(chat: TerminalChat) -> list[tuple[str, str]]:
    return [
        (name, on if chat.view.switches[name] else off) for name, (on, off) in _SWITCHES.items()
    ]


def _system(chat: TerminalChat, text: str) -> None:
    if not text:
        system = chat.transcript.system
        chat.view.say(chat.view.safe(system) if system else "No system text is set.")
        return
    system = None if text in ("off", "none", '""') else text.strip('"').strip("\n")
    chat.change(replace(chat.transcript, system=system))


def _clear(chat: TerminalChat, _rest: str) -> None:
    chat.begin(Transcript(chat.transcript.system))


def _retry(chat: TerminalChat, rest: str) -> None:
    if not chat.transcript.turns:
        raise InputError("There is no question to answer again.")
    last = chat.transcript.turns[-1]
    name, _, value = rest.partition(" ")
    with chat.engine.changed_once(name, value.strip()):
        chat.answer(chat.transcript.without_last(), last.question, former=last)


def _continue(chat: TerminalChat, _rest: str) -> None:
    chat.go_on()


def _only(chat: TerminalChat, name: str) -> None:
    if not name:
        chat.view.say(f"only {chat.engine.settings.only or 'off'}")
    elif name == "off":
        _change(chat, "mode", chat.engine.fusion.settings.mode)
        _change(chat, "only", "off")
    else:
        _change(chat, "only", name)


def _change(chat: TerminalChat, name: str, value: str) -> None:
    chat.engine.set(name, value)
    chat.autosave.models = chat.engine.name  # other sources may be loaded now


def _undo(chat: TerminalChat, _rest: str) -> None:
    if not chat.transcript.turns:
        raise InputError("There is nothing to undo.")
    question = chat.transcript.turns[-1].question
    chat.change(chat.transcript.without_last())
    chat.view.say(f"Removed: {chat.view.safe(question)}")


def _models(chat: TerminalChat, name: str) -> None:
    registry = load_registry()
    if name:
        registry.fusion(name)  # an unknown name is reported before the load
        chat.save_state()
        for note in chat.engine.switch(name):
            chat.view.note(note)
        chat.autosave.models = chat.engine.name
        chat.restore_state()
        chat.view.say(f"Fusing {chat.engine.name}.")
        return
    chat.view.say(f"loaded: {chat.engine.name}")
    for fusion in registry.fusions.values():
        chat.view.say(f"  {fusion.name}: {', '.join(fusion.sources)}")
    chat.view.say("/models NAME loads one of these instead.")


def _why(chat: TerminalChat, word: str) -> None:
    written = _last_written(chat)
    number = word.removeprefix("#")
    is_number = number != word and number.isascii() and number.isdigit() and len(number) < 9
    chat.view.say(
        explained(
            written.steps,
            written.names,
            int(number) if is_number else word,
            in_colour=chat.view.in_colour,
            width=shutil.get_terminal_size().columns,
        )
    )


def _show(chat: TerminalChat, _rest: str) -> None:
    """Show models, files, settings, and where the chat is saved."""
    for source in chat.engine.fusion.sources:
        info = source.info
        chat.view.say(f"{info.name}: {info.file} (context {info.n_ctx}, {info.n_threads} threads)")
    settings = (f"{name}={value}" for name, value in listed(chat.engine.settings))
    chat.view.say(f"settings: {', '.join(settings)}")
    chat.view.say(f"system: {chat.view.safe(chat.transcript.system or 'none')}")
    number = chat.autosave.number
    chat.view.say(f"saved as: chat {number}" if number else "saved as: not saved")


def _context(chat: TerminalChat, _rest: str) -> None:
    """Show how many tokens of each context are used, and which turns were left out."""
    written = _last_written(chat)
    assert written.answer is not None
    for source in chat.engine.fusion.sources:
        info = source.info
        n_prompt = written.answer.prompt_tokens.get(info.name)
        if n_prompt is None:
            chat.view.say(f"{info.name}: not asked")
            continue
        n_used = min(info.n_ctx, n_prompt + written.n_answer_tokens.get(info.name, 0))
        n_answer = n_used - n_prompt
        chat.view.say(
            f"{info.name}: {n_used} of {info.n_ctx} tokens ({n_used / info.n_ctx:.0%}): "
            f"prompt {n_prompt}, answer {n_answer}"
        )
    turns = chat.transcript.turns
    unanswered = sum(not turn.answer for turn in turns)
    oldest = (
        "the oldest turn" if written.n_dropped == 1 else f"the {written.n_dropped} oldest turns"
    )
    left_out = [oldest] if written.n_dropped else []
    left_out += [f"{unanswered} without an answer"] if unanswered else []
    n_turns = f"{len(turns)} turn{'s' if len(turns) != 1 else ''}"
    chat.view.say(f"{n_turns}; left out: {' and '.join(left_out) or 'nothing'}.")


def _stats(chat: TerminalChat, _rest: str) -> None:
    """Show speed, agreement and wins of the last answer."""
    chat.view.say(_last_written(chat).statistics)


def _last_written(chat: TerminalChat) -> AnswerRecord:
    """The last answer that this process wrote in this chat. Raises InputError if there is none."""
    for written in reversed(chat.written):
        if written.steps and written.answer is not None:
            return written
    raise InputError("There is no answer in this chat yet. Ask something first.")


def _save(chat: TerminalChat, name: str) -> None:
    """Write the conversation to a JSON file."""
    path = _path(name, "/save")
    if not chat.transcript.turns:
        raise InputError("There is nothing to save yet.")
    if _may_write(chat, path):
        write_result(path, exchange.to_json(chat.transcript), private=True)
        chat.view.say(f"Saved to {path}.")


def _load(chat: TerminalChat, name: str) -> None:
    """Continue a conversation from a JSON file; the current one stays in the history."""
    path = _path(name, "/load")
    transcript = exchange.read(path)  # an error leaves everything as it is
    chat.begin(transcript)
    n_turns = len(transcript.turns)
    chat.view.say(f"Continuing {path}: {n_turns} turn{'s' if n_turns != 1 else ''}.")


def _trace(chat: TerminalChat, name: str) -> None:
    """Show who won which words of the last answer, or write it to a file."""
    written = _last_written(chat)
    if not name:
        marks = Winners(written.names, in_colour=chat.view.in_colour)
        chat.view.say(marks.text(traces.shown(written.steps)))
        chat.view.say(marks.legend())
        return
    path = _path(name, "/trace")
    if _may_write(chat, path):
        traces.write(path, [each.trace() for each in chat.written if each.steps])
        chat.view.say(f"Saved to {path}. `cf-local trace {path}` shows it.")


def _path(name: str, command: str) -> Path:
    if not name:
        raise InputError(f"Name a file: {command} FILE.")
    try:
        path = Path(name).expanduser()
        is_folder = path.is_dir()
    except (RuntimeError, ValueError, OSError) as error:  # no home, a null byte, or too long
        raise InputError(f"{name!r} is not a file name: {error}.") from None
    if is_folder:
        raise InputError(f"{path} is a folder. Name a file in it.")
    return path


def _may_write(chat: TerminalChat, path: Path) -> bool:
    """Whether the path is free, or the user agrees to replace the file."""
    return not path.exists() or chat.lines.confirm(f"{path} exists. Replace it?")


def _bye(_chat: TerminalChat, _rest: str) -> bool:
    return True


def _command_names(words: list[str]) -> Iterable[str]:
    return COMMANDS if len(words) == 1 else ()


def _setting_words(words: list[str]) -> Iterable[str]:
    if len(words) == 1:
        return (*OPTIONS, *_SWITCHES)
    return {**CHOICES, **_SWITCHES}.get(words[0], ()) if len(words) == 2 else ()


def _fusion_names(words: list[str]) -> Iterable[str]:
    try:
        return load_registry().fusions if len(words) == 1 else ()
    except ConfigError:  # /models shows what is wrong
        return ()


COMMANDS: Mapping[str, Command] = {
    command.name: command
    for command in (
        Command("help", "[COMMAND]", "this list", _help, _command_names),
        Command("set", "[NAME VALUE]", "list the settings, or change one", _set, _setting_words),
        Command("show", "", "models, files and settings of this chat", _show),
        Command("system", "[TEXT|off]", "show or set the instructions to the models", _system),
        Command("save", "FILE", "write the conversation as JSON", _save, "file"),
        Command("load", "FILE", "continue a conversation from JSON", _load, "file"),
        Command("clear", "", "start a new conversation; the old one stays in the history", _clear),
        Command(
            "retry",
            "[NAME VALUE]",
            "answer the last question again, if you like with another setting",
            _retry,
            _setting_words,
        ),
        Command("continue", "", "go on with the last answer", _continue),
        Command("undo", "", "remove the last question and its answer", _undo),
        Command("context", "", "how full the models' contexts are", _context),
        Command("stats", "", "speed, agreement and wins of the last answer", _stats),
        Command(
            "trace", "[FILE]", "show who won which words, or write that to a file", _trace, "file"
        ),
        Command("why", "WORD", "what the models proposed for a word; #3 is the third", _why),
        Command("only", "[SOURCE|off]", "use one source alone, or all again (off)", _only),
        Command("models", "[NAME]", "list the fusions, or load one", _models, _fusion_names),
        Command("bye", "", "leave (or Ctrl-D)", _bye),
    )
}
"""The commands by name."""
