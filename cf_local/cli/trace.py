"""``cf-local trace``: draws an answer that ``ask --trace`` recorded."""

import json
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from cf_local import files
from cf_local import trace as traces_of
from cf_local.errors import InputError
from cf_local.trace import Trace, page


@click.command("trace")
@click.argument("file")
@click.option("-o", "--out", metavar="FILE.html", help="Where to write the page ('-' for stdout).")
@click.option("--force", is_flag=True, help="Replace the file even if it is not a trace page.")
@click.option("--open", "opens", is_flag=True, help="Show the page in the browser.")
@click.option("--json", "as_json", is_flag=True, help="Print figures; write a page only with -o.")
def trace(file: str, out: str | None, force: bool, opens: bool, as_json: bool) -> None:
    """Draw the traces in FILE as an HTML page ('-' for stdin).

    FILE is what `ask --trace` wrote or `ask --json` printed. The page shows who won which words,
    and for each word what the others proposed and every source's score. It is one file and needs
    no network. Without -o, it is written next to FILE; for stdin, to stdout.

    \b
    cf-local ask "What is 7 times 8?" --trace answer.jsonl
    cf-local trace answer.jsonl --open
    cf-local ask "What is 7 times 8?" --json | cf-local trace - -o answer.html
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    found = _read(file)
    if as_json:
        click.echo(json.dumps(_figures(found), ensure_ascii=False, indent=2))
        if out is None and not opens:
            return
    place = _place(file, out)
    if place is None and (opens or as_json):
        raise click.UsageError("Name a file for the page: -o FILE.html.")
    if place is None:
        click.echo(page.render(found), nl=False)
        return
    if not force:
        _check(place)
    files.write_result(place, page.render(found))
    click.echo(f"The page is {place}.", err=True)
    if opens and not webbrowser.open(place.resolve().as_uri()):
        click.echo("Note: no browser was found. Open the page yourself.", err=True)


def _read(file: str) -> tuple[Trace, ...]:
    if file == "-":
        return traces_of.read_from(sys.stdin.buffer, "standard input")
    return traces_of.read(Path(file))


def _place(file: str, out: str | None) -> Path | None:
    """The path of the page; None for stdout."""
    if out == "-" or (out is None and file == "-"):
        return None
    place = Path(out) if out is not None else Path(file).with_suffix(".html")
    if file != "-" and place.resolve() == Path(file).resolve():
        raise InputError(f"{place} is the trace itself. Name another file: -o FILE.html.")
    return place


def _check(place: Path) -> None:
    try:
        files.check_replaceable(place, page.is_page, "a page that this command wrote")
    except InputError as error:
        hint = " (--force replaces it)" if place.is_file() else ""
        raise InputError(f"{str(error).rstrip('.')}{hint}.") from None


def _figures(found: Sequence[Trace]) -> dict[str, object]:
    return {"answers": [asdict(traces_of.summarize(one)) for one in found]}
