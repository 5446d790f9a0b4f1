"""The commands of the chat: a table, from which ``/help`` and the completion are made."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cf_local.chats.transcript import Transcript
from cf_local.cli.chat import reports
from cf_local.cli.chat.chat import Chat
from cf_local.cli.chat.files import load_file, save_file, trace
from cf_local.cli.chat.settings import CHOICES, NAMES, listed, switch
from cf_local.cli.chat.table import Command
from cf_local.cli.why import why as explained
from cf_local.errors import ConfigError, InputError
from cf_local.registry.registry import load_registry

_SWITCHES: Mapping[str, tuple[str, str]] = {
    "markdown": ("on", "off"),
    "think": ("show", "hide"),
    "winners": ("on", "off"),
    "stats": ("on", "off"),
}
"""What ``/set`` changes of the view, and the words for it."""


def _help(chat: Chat, name: str) -> None:
    name = name.removeprefix("/")
    rows = [COMMANDS[name]] if name in COMMANDS else list(COMMANDS.values())
    width = max(len(f"/{c.name} {c.arguments}") for c in rows)
    for command in rows:
        usage = f"/{command.name} {command.arguments}".strip()
        chat.view.say(f"{usage:<{width}}  {command.help}")
    if len(rows) > 1:
        chat.view.say(
            'Ctrl-C stops an answer, Ctrl-D leaves; """ begins and ends a text of several lines.'
        )


def _set(chat: Chat, rest: str) -> None:
    name, _, value = rest.partition(" ")
    value = value.strip()
    if not name:
        for key, shown in [*listed(chat.engine.settings, chat.engine.fusion), *_switched(chat)]:
            chat.view.say(f"{key:<16}  {shown}")
    elif name in _SWITCHES:
        on, off = _SWITCHES[name]
        chat.view.switches[name] = switch(name, {on: "on", off: "off"}.get(value, value))
        if name == "think":
            chat.view.say(f"thinking is {'shown' if chat.view.switches[name] else 'hidden'}")
    else:
        chat.engine.set(name, value)


def _switched(chat: Chat) -> list[tuple[str, str]]:
    return [
        (name, on if chat.view.switches[name] else off) for name, (on, off) in _SWITCHES.items()
    ]


def _system(chat: Chat, text: str) -> None:
    if not text:
        told = chat.transcript.system
        chat.view.say(chat.view.safe(told) if told else "There is no system text.")
        return
    system = None if text in ("off", "none", '""') else text.strip('"').strip("\n")
    chat.change(replace(chat.transcript, system=system))


def _clear(chat: Chat, _rest: str) -> None:
    chat.begin(Transcript(chat.transcript.system))


def _regen(chat: Chat, _rest: str) -> None:
    if not chat.transcript.turns:
        raise InputError("There is no question to answer again.")
    last = chat.transcript.turns[-1]
    chat.answer(chat.transcript.without_last(), last.question, former=last)


def _undo(chat: Chat, _rest: str) -> None:
    if not chat.transcript.turns:
        raise InputError("There is nothing to undo.")
    question = chat.transcript.turns[-1].question
    chat.change(chat.transcript.without_last())
    chat.view.say(f"Forgotten: {chat.view.safe(question)}")


def _models(chat: Chat, name: str) -> None:
    registry = load_registry()
    if name:
        registry.fusion(name)  # the error that names the nearest comes before the load
        chat.keep()
        for note in chat.engine.switch(name):
            chat.view.note(note)
        chat.autosave.models = chat.engine.name
        chat.restore()
        chat.view.say(f"Fusing {chat.engine.name}.")
        return
    chat.view.say(f"loaded: {chat.engine.name}")
    for fusion in registry.fusions.values():
        chat.view.say(f"  {fusion.name}: {', '.join(fusion.sources)}")
    chat.view.say("/models NAME loads one of these instead.")


def _why(chat: Chat, word: str) -> None:
    written = reports.last_written(chat)
    number = word.removeprefix("#")
    is_number = number != word and number.isascii() and number.isdigit() and len(number) < 9
    chat.view.say(
        explained(
            written.steps,
            written.names,
            int(number) if is_number else word,
            in_colour=chat.view.in_colour,
            width=reports.width(),
        )
    )


def _bye(_chat: Chat, _rest: str) -> bool:
    return True


def _command_names(words: list[str]) -> Iterable[str]:
    return COMMANDS if len(words) == 1 else ()


def _setting_words(words: list[str]) -> Iterable[str]:
    if len(words) == 1:
        return (*NAMES, *_SWITCHES)
    return {**CHOICES, **_SWITCHES}.get(words[0], ()) if len(words) == 2 else ()


def _fusion_names(words: list[str]) -> Iterable[str]:
    try:
        return load_registry().fusions if len(words) == 1 else ()
    except ConfigError:  # /models tells what is wrong
        return ()


COMMANDS: Mapping[str, Command] = {
    command.name: command
    for command in (
        Command("help", "[COMMAND]", "this list", _help, _command_names),
        Command("set", "[NAME VALUE]", "change a setting; alone: list them", _set, _setting_words),
        Command("show", "", "models, files and settings of this chat", reports.show),
        Command("system", "[TEXT|off]", "instructions to the models; alone: show them", _system),
        Command("save", "FILE", "write the conversation as JSON", save_file, "file"),
        Command("load", "FILE", "go on with a conversation from JSON", load_file, "file"),
        Command("clear", "", "begin a new conversation; the old one stays in the history", _clear),
        Command("regen", "", "answer the last question again", _regen),
        Command("undo", "", "forget the last question and its answer", _undo),
        Command("context", "", "how full the models' contexts are", reports.context),
        Command("stats", "", "speed, agreement and wins of the last answer", reports.stats),
        Command("trace", "[FILE]", "who won which words; or write it to a file", trace, "file"),
        Command("why", "WORD", "what the models proposed for a word; #3 is the third", _why),
        Command("models", "[NAME]", "list the fusions, or load one", _models, _fusion_names),
        Command("bye", "", "leave (or Ctrl-D)", _bye),
    )
}
"""The commands by name."""
