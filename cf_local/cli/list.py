"""``cf-local list``: the models on this machine, and unfinished downloads."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from cf_local import hub
from cf_local.cli import columns, registry_view
from cf_local.registry.registry import Registry, SourceSpec, load_registry


@dataclass(frozen=True, slots=True)
class _Row:
    """A model on this machine; ``names`` are its names in models.toml."""

    names: tuple[str, ...]
    repo: str | None
    file: str
    quantization: str | None
    size_bytes: int
    revision: str | None
    refs: tuple[str, ...]
    last_used: float
    path: str


@click.command(name="list")
@click.option(
    "--all", "shows_all", is_flag=True, help="List all that models.toml defines, with settings."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def list_models(shows_all: bool, as_json: bool) -> None:
    """List models, fusions and unfinished downloads.

    Shows the sources of models.toml that are here, all GGUF files in the cache of the Hugging Face
    hub, whichever program downloaded them, and the fusions. With --all, instead, each fusion and
    source of models.toml with its settings, licence and size, here or not. Sends nothing.
    """
    registry = load_registry()
    if shows_all and not as_json:
        registry_view.show_all(registry)
        return
    inventory = hub.inventory()
    rows = _local_rows(registry) + _hub_rows(registry, inventory)
    for warning in inventory.warnings:
        click.echo(f"Note: {warning}", err=True)
    if as_json:
        record = registry_view.as_json(registry) | _as_json(rows, inventory)
        click.echo(json.dumps(record, ensure_ascii=False, indent=2))
        return
    header = ("NAME", "FILE", "QUANT", "SIZE", "REVISION", "LAST USED")
    for line in columns.lines([header, *map(_cells, rows)]):
        click.echo(line)
    if inventory.unfinished:
        click.echo("\nUnfinished downloads (`cf-local pull` continues, `cf-local rm` removes them)")
        for line in columns.lines([_unfinished_cells(part) for part in inventory.unfinished]):
            click.echo(f"  {line}")
    click.echo()
    registry_view.show_fusions(registry)


def _local_rows(registry: Registry) -> list[_Row]:
    """The built-in sources and the user's own files."""
    rows = []
    for spec in registry.sources.values():
        path = spec.local_path
        if path is None or not path.is_file():
            continue
        stat = path.stat()
        quant = hub.quantization(path.name)
        rows.append(
            _Row(
                (spec.name,),
                None,
                spec.file,
                quant,
                stat.st_size,
                None,
                (),
                stat.st_atime,
                str(path),
            )
        )
    return rows


def _hub_rows(registry: Registry, inventory: hub.Inventory) -> list[_Row]:
    names = _names(registry.sources)
    return [
        _Row(
            names=names.get(cached.path.absolute(), ()),
            repo=cached.repo,
            file=cached.file,
            quantization=hub.quantization(cached.file),
            size_bytes=cached.size_bytes,
            revision=cached.commit,
            refs=cached.refs,
            last_used=cached.last_used,
            path=str(cached.path),
        )
        for cached in inventory.models
    ]


def _names(sources: Mapping[str, SourceSpec]) -> dict[Path, tuple[str, ...]]:
    """The names of the sources that each file of the cache belongs to."""
    names: dict[Path, tuple[str, ...]] = {}
    for name, spec in sources.items():
        if spec.repo is None:
            continue
        path = hub.cached(spec.repo, spec.file, spec.revision, spec.quant, nearest=True)
        if path is not None:
            path = path.absolute()
            names[path] = (*names.get(path, ()), name)
    return names


def _cells(row: _Row) -> tuple[str, ...]:
    file = f"{row.repo}/{row.file}" if row.repo else row.file
    revision = ", ".join(row.refs) or (row.revision or "-")[:12]
    return (
        ", ".join(row.names) or "-",
        file,
        row.quantization or "-",
        columns.size(row.size_bytes),
        revision,
        columns.day(row.last_used),
    )


def _unfinished_cells(part: hub.Unfinished) -> tuple[str, ...]:
    there, whole = columns.size(part.n_bytes), columns.size(part.size_bytes)
    share = f" ({100 * part.n_bytes // part.size_bytes}%)" if part.size_bytes else ""
    return part.repo, part.file or "a file of another tool", f"{there} of {whole}{share}"


def _as_json(rows: list[_Row], inventory: hub.Inventory) -> dict[str, Any]:
    return {
        "models": [asdict(row) for row in rows],
        "unfinished": [
            {
                "repo": part.repo,
                "file": part.file,
                "revision": part.revision,
                "path": str(part.path),
                "n_bytes": part.n_bytes,
                "size_bytes": part.size_bytes,
            }
            for part in inventory.unfinished
        ],
    }
