"""Commands that write and read files: the conversation, and the trace of its answers."""

from pathlib import Path

from cf_local import trace as traces
from cf_local.chats import exchange
from cf_local.cli.chat.chat import Chat
from cf_local.cli.chat.reports import last_written
from cf_local.cli.winners import Winners
from cf_local.errors import InputError
from cf_local.files import write_result


def save_file(chat: Chat, name: str) -> None:
    """Write the conversation into a JSON file."""
    path = _path(name, "/save")
    if not chat.transcript.turns:
        raise InputError("There is nothing to save yet.")
    if _may_write(chat, path):
        write_result(path, exchange.to_json(chat.transcript), private=True)
        chat.view.say(f"Saved to {path}.")


def load_file(chat: Chat, name: str) -> None:
    """Go on with the conversation of a JSON file; the one there was stays in the history."""
    path = _path(name, "/load")
    transcript = exchange.read(path)  # an error leaves everything as it is
    chat.begin(transcript)
    n_turns = len(transcript.turns)
    chat.view.say(f"Going on with {path}: {n_turns} turn{'s' if n_turns != 1 else ''}.")


def trace(chat: Chat, name: str) -> None:
    """Show who won which words of the last answer, or write it to a file."""
    written = last_written(chat)
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
    except (RuntimeError, ValueError, OSError) as error:  # no home, a null byte, too long
        raise InputError(f"{name!r} is no name of a file: {error}.") from None
    if is_folder:
        raise InputError(f"{path} is a folder; name a file in it.")
    return path


def _may_write(chat: Chat, path: Path) -> bool:
    """Whether nothing is there yet, or the user gives it up."""
    return not path.exists() or chat.lines.confirm(f"{path} exists. Replace it?")
