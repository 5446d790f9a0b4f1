"""``cf-local models``: what the registry defines, and what of it is on this machine."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cf_local import hub
from cf_local.cli import columns
from cf_local.cli.registering import add, add_fusion, default, remove
from cf_local.registry.registry import FusionSpec, Registry, SourceSpec, load_registry, user_file
from cf_local.settings import OPTIONS, Settings


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_context
def models(context: click.Context, /, as_json: bool) -> None:
    """List the fusions and sources that models.toml defines; add to yours, or remove.

    Each source is shown with its file, licence and size, and whether it is on this machine.
    """
    if context.invoked_subcommand is None:
        _list(as_json)
    elif as_json:
        raise click.UsageError("Put --json behind the command: models add ... --json.")


def _list(as_json: bool) -> None:
    registry = load_registry()
    found = {name: _find(spec) for name, spec in registry.sources.items()}
    if as_json:
        click.echo(json.dumps(_as_json(registry, found), ensure_ascii=False, indent=2))
        return
    for fusion in registry.fusions.values():
        _show_fusion(registry, fusion, found)
    used = {name for fusion in registry.fusions.values() for name in fusion.sources}
    if others := [spec for name, spec in registry.sources.items() if name not in used]:
        click.echo("sources in no fusion")
        _show_sources(others, found)
    click.echo(f"Read from: {', '.join(registry.files)}. Your own entries go into:")
    click.echo(f"  {user_file()}")


models.add_command(add)
models.add_command(add_fusion)
models.add_command(default)
models.add_command(remove)


def _find(spec: SourceSpec) -> Path | None:
    """The file of a source if it is on this machine; nothing is sent."""
    path = spec.local_path
    if path is None:
        return hub.cached(str(spec.repo), spec.file, spec.revision, spec.quant)
    return path if path.is_file() else None


def _show_fusion(registry: Registry, fusion: FusionSpec, found: dict[str, Path | None]) -> None:
    default = " (default)" if fusion.name == registry.default_fusion else ""
    click.echo(f"{fusion.name}{default}: {fusion.description or 'no description'}")
    chosen, plain = fusion.settings, Settings()
    how: list[str] = [chosen.mode, chosen.score, f"{chosen.segments} segments"]
    if chosen.segment_words > 1:
        how[-1] += f" of {chosen.segment_words} words"
    shown = ("mode", "score", "segments", "segment_words")
    how += [
        f"{name} {option.text(chosen.get(name))}"
        for name, option in OPTIONS.items()
        if name not in shown and chosen.get(name) != plain.get(name)
    ]
    click.echo(f"  {', '.join(how)}; {fusion.origin}")
    _show_sources([registry.source(name) for name in fusion.sources], found)


def _show_sources(specs: Sequence[SourceSpec], found: dict[str, Path | None]) -> None:
    """One line per source in columns, then an empty line."""
    rows = [
        (
            spec.name,
            "here" if found[spec.name] else "missing" if spec.local_path else "to download",
            _size(_size_bytes(spec, found[spec.name])),
            spec.licence or "licence unknown",
            f"{spec.repo}/{spec.file or spec.quant or hub.DEFAULT}" if spec.repo else spec.file,
        )
        for spec in specs
    ]
    for line in columns.lines(rows):
        click.echo(f"    {line}")
    click.echo()


def _size_bytes(spec: SourceSpec, path: Path | None) -> int | None:
    return path.stat().st_size if path else spec.size_bytes


def _size(n_bytes: int | None) -> str:
    return "size unknown" if n_bytes is None else columns.size(n_bytes)


def _as_json(registry: Registry, found: dict[str, Path | None]) -> dict[str, Any]:
    """The registry as plain data; ``path`` is null for what is not on this machine."""
    return {
        "files": registry.files,
        "user_file": str(user_file()),
        "default_fusion": registry.default_fusion,
        "fusions": [asdict(fusion) for fusion in registry.fusions.values()],
        "sources": [
            asdict(spec)
            | {
                "size_bytes": _size_bytes(spec, found[name]),
                "path": str(found[name]) if found[name] else None,
            }
            for name, spec in registry.sources.items()
        ],
    }
