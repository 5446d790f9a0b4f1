"""``cf-local connect``: prints or writes what a client needs to use the server."""

import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from cf_local import files
from cf_local.cli import columns, completing
from cf_local.cli.connect.additions import OthersError
from cf_local.cli.connect.clients import CLIENTS, Client, Connection
from cf_local.errors import InputError
from cf_local.registry.registry import load_registry


@click.command()
@click.argument("client", type=click.Choice(list(CLIENTS)), required=False, metavar="[CLIENT]")
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=completing.fusions,
    help="Model to use; by default the default fusion.",
)
@click.option(
    "--url",
    default="http://127.0.0.1:8642",
    show_default=True,
    help="Address of the server.",
)
@click.option("--write", is_flag=True, help="Add the lines to the client's configuration file.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before writing.")
def connect(client: str | None, model: str | None, url: str, write: bool, yes: bool) -> None:
    """Print what CLIENT needs to use `cf-local serve`.

    Without CLIENT, lists the clients. With --write, adds the lines to the client's configuration
    file. What the file has stays, and a copy of it is kept. If the server has an --api-key, put
    it in the place of "none".

    \b
    cf-local connect
    cf-local connect llm --model laptop --write
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    if client is None:
        if write:
            raise InputError("--write needs a CLIENT. `cf-local connect` lists them.")
        rows = [
            (name, f"{each.title}{'' if each.file is None else ' (--write)'}")
            for name, each in CLIENTS.items()
        ]
        click.echo("\n".join(columns.lines(rows)))
        return
    to = Connection(_address(url), model or load_registry().fusion().name)
    if write:
        _write(client, CLIENTS[client], to, is_agreed=yes)
    else:
        _print(CLIENTS[client], to)


def _print(client: Client, to: Connection) -> None:
    if client.file is not None:
        click.echo(f"In {client.file()}:", err=True)
    else:
        click.echo(client.where, err=True)
    click.echo(client.lines(to), nl=False)
    if client.file is not None:
        click.echo(_then(client, to), err=True)


def _write(name: str, client: Client, to: Connection, *, is_agreed: bool) -> None:
    if client.file is None or client.add is None:
        raise InputError(
            f"{client.title} has no file to write. `cf-local connect {name}` prints the lines."
        )
    place = client.file()
    old = _read(place)
    try:
        new = client.add(old, to)
    except OthersError as error:
        raise InputError(
            f"{place} is left as it is. {error} Add the lines yourself: `cf-local connect {name}`."
        ) from None
    if new == old:
        click.echo(f"{place} already has these lines.", err=True)
        return
    if not is_agreed:
        if not sys.stdin.isatty():
            raise InputError("connect asks before it writes. Use --yes where nobody can answer.")
        click.echo(client.lines(to), nl=False, err=True)
        click.confirm(f"Add this to {place}?", default=True, abort=True, err=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        shutil.copy2(place, copy := _free(place))
        click.echo(f"The old file is {copy}.", err=True)
    files.write_text(place, new)
    click.echo(f"Written: {place}. {_then(client, to)}", err=True)


def _read(place: Path) -> str:
    """The text of a file with its own line ends; nothing if there is none."""
    try:
        return place.read_bytes().decode("utf-8") if place.exists() else ""
    except UnicodeDecodeError:
        raise InputError(f"{place} is not UTF-8 text.") from None


def _free(place: Path) -> Path:
    """A name for a copy, which no file has yet."""
    numbers = ("", *map(str, range(2, 1000)))
    names = (place.with_name(f"{place.name}.bak{number}") for number in numbers)
    return next(name for name in names if not name.exists())


def _then(client: Client, to: Connection) -> str:
    return client.where.replace("MODEL", to.model)


def _address(url: str) -> str:
    """The address without a path. Raises InputError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"--url {url}: an address looks like http://127.0.0.1:8642.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
