"""``cf-local history``: saved chats."""

import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cf_local import files
from cf_local.errors import InputError
from cf_local.trace import visible

if TYPE_CHECKING:  # imported where used: `--help` needs no database
    from cf_local.chats.database import ChatStore

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.group()
def history() -> None:
    """List, show, search, export and delete saved chats.

    They are in one file that only you can read, in your system's data folder, or in the folder
    that the environment variable CF_LOCAL_DATA names. `cf-local chat --chat NUMBER` continues one.
    """


@history.command("list")
@click.option("-n", "n_most", type=click.IntRange(1), help="Show at most this many.")
@_JSON
def list_(n_most: int | None, as_json: bool) -> None:
    """List the chats, the most recently changed first."""
    with _store() as store:
        chats = store.chats(n_most or -1)
    if as_json:
        _print_json([asdict(chat) for chat in chats])
        return
    for chat in chats:
        turns = f"{chat.n_turns} turn{'s' if chat.n_turns != 1 else ' '}"
        click.echo(f"{chat.number:>5}  {_local(chat.updated_at)}  {turns:>9}  {_shown(chat.title)}")
    if not chats:
        click.echo("No chats are saved yet.", err=True)


@history.command()
@click.argument("number", type=click.IntRange(1))
@_JSON
def show(number: int, as_json: bool) -> None:
    """Print a chat."""
    from cf_local.chats import exchange

    with _store() as store:
        transcript, _ = store.load(number)
    if as_json:
        _print_json({"number": number, "messages": exchange.as_records(transcript)})
    else:
        click.echo(_shown(exchange.to_markdown(transcript)), nl=False)


@history.command()
@click.argument("words", nargs=-1, required=True)
@click.option(
    "-n", "n_most", type=click.IntRange(1), default=50, help="Show at most this many [50]."
)
@_JSON
def search(words: tuple[str, ...], n_most: int, as_json: bool) -> None:
    """Find questions and answers that contain all WORDS, ignoring case.

    Exit code 1 if there are none.
    """
    with _store() as store:
        found = store.search(" ".join(words).split(), n_most)
    if as_json:
        _print_json([asdict(each) for each in found])
    for each in () if as_json else found:
        click.echo(f"{each.chat:>5}  turn {each.turn}: {_shown(each.excerpt)}")
    if not found:
        click.echo("Nothing was found.", err=True)
        click.get_current_context().exit(1)


@history.command()
@click.argument("number", type=click.IntRange(1))
@click.option("--format", "kind", type=click.Choice(["json", "markdown"]), default="json")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of stdout.")
@click.option("--force", is_flag=True, help="Replace FILE without asking.")
def export(number: int, kind: str, output: str | None, force: bool) -> None:
    """Export a chat as Markdown, or as JSON messages in OpenAI's format."""
    from cf_local.chats import exchange

    with _store() as store:
        transcript, _ = store.load(number)
    text = exchange.to_json(transcript) if kind == "json" else exchange.to_markdown(transcript)
    if output is None:
        click.echo(text, nl=False)
        return
    path = Path(output)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it.")
    if path.exists() and not force:
        _ask(f"{path} exists. Replace it?", "--force")
    files.write_result(path, text, private=True)


@history.command()
@click.argument("numbers", nargs=-1, type=click.IntRange(1))
@click.option("--all", "removes_all", is_flag=True, help="Delete all chats.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(numbers: tuple[int, ...], removes_all: bool, yes: bool) -> None:
    """Delete chats and the cached model states of them. Asks first."""
    if bool(numbers) == removes_all:
        raise click.UsageError("Name the chats to delete, or --all.")
    with _store() as store:
        there = {chat.number: chat.title for chat in store.chats()}
        wanted = sorted(there) if removes_all else sorted(set(numbers))
        if missing := [number for number in wanted if number not in there]:
            raise InputError(f"Chat {missing[0]} does not exist. Nothing was deleted.")
        for number in wanted:
            click.echo(f"{number:>5}  {_shown(there[number])}", err=True)
        if wanted and not yes:
            _ask(f"Delete {len(wanted)} chat{'s' if len(wanted) != 1 else ''}?", "--yes")
        n_removed = sum(store.remove([number]) for number in wanted)
        _forget(store.path, None if removes_all else wanted)
    click.echo(f"Deleted {n_removed}.", err=True)


def _store() -> "ChatStore":
    from cf_local.chats.database import ChatStore

    return ChatStore()


def _forget(database: Path, numbers: list[int] | None) -> None:
    """Delete the cached model states of these chats; of all chats for None."""
    from cf_local.statecache import StateFolder, owner_of

    for owner in [None] if numbers is None else [owner_of(database, n) for n in numbers]:
        StateFolder().forget(owner)


def _ask(question: str, flag: str) -> None:
    """Ask; return only on yes. Raises InputError if stdin is not a terminal."""
    if not sys.stdin.isatty():
        raise InputError(f"{question} Nobody is there to answer; confirm with {flag}.")
    click.confirm(question, abort=True, err=True)


def _shown(text: str) -> str:
    """Text of models and files: made safe for a terminal, unchanged elsewhere."""
    return visible(text) if sys.stdout.isatty() else text


def _local(time: str) -> str:
    """A time in the local time zone, to the minute."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
