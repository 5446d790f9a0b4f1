"""``cf-local embed``: vectors for texts, from an embedding model."""

import json
import sys
from typing import Any

import click

from cf_local.cli.fetching import fetch_missing
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.options import ModelName, compute_options
from cf_local.cli.status import StatusLine
from cf_local.cli.text_input import read_text
from cf_local.errors import InputError
from cf_local.registry.model_names import spec_of
from cf_local.registry.registry import load_registry
from cf_local.types import is_unicode


@click.command()
@click.argument("model", type=ModelName())
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option("-f", "--file", metavar="FILE", help="Read one text from FILE ('-' for stdin).")
@click.option("--lines", is_flag=True, help="Each line of the file or of stdin is a text.")
@compute_options
def embed(
    model: str, texts: tuple[str, ...], file: str | None, lines: bool, **options: Any
) -> None:
    """Print a vector for each TEXT.

    MODEL is an embedding model: a name in models.toml, org/repo[:QUANT] on the hub, or a file. One
    line of output per text, a JSON array of numbers. Vectors have length 1, so that the sum of the
    products of two of them is their cosine. Without a TEXT, reads stdin.

    \b
    cf-local embed all-minilm-l6-v2 "A cat sleeps." "A dog barks."
    cf-local embed all-minilm-l6-v2 --lines < sentences.txt > vectors.jsonl
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    # Imported here: it loads the native library, which `--help` need not wait for.
    from cf_local.loading.embedder import load_embedder_of
    from cf_local.loading.load_options import LoadOptions

    found = _texts(texts, file, lines)
    spec = spec_of(load_registry(), model)
    how = LoadOptions(**options)
    with Interrupt() as interrupt:
        fetch_missing([spec], offline=how.offline, is_cancelled=interrupt.is_set)
        with StatusLine() as line:
            embedder = load_embedder_of(
                spec,
                options=how,
                is_cancelled=interrupt.is_set,
                on_progress=lambda share: line.show("Loading", share),
            )
        with embedder:
            vectors = embedder.embed(found, is_cancelled=interrupt.is_set)
    for vector in vectors:
        click.echo(json.dumps([float(f"{number:.8g}") for number in vector]))


def _texts(texts: tuple[str, ...], file: str | None, lines: bool) -> list[str]:
    """The texts, from the command line, a file or a pipe. Raises InputError and UsageError."""
    if texts and (file is not None or lines):
        raise click.UsageError("Give texts, or a file or a pipe, not both.")
    if not all(map(is_unicode, texts)):
        raise InputError("A text is not UTF-8. Set a UTF-8 locale or use a file.")
    found = list(texts) or _read(file, lines)
    if not found or not all(map(str.strip, found)):
        raise InputError("There is no text to embed.")
    return found


def _read(file: str | None, lines: bool) -> list[str]:
    if file is None and sys.stdin.isatty():
        raise click.UsageError("Give a text: cf-local embed MODEL 'TEXT', or pipe one in.")
    whole = read_text(file or "-")
    return [line for line in whole.splitlines() if line.strip()] if lines else [whole]
