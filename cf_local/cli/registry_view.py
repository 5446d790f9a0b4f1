"""What models.toml defines, as text and as data: for ``list``, ``show`` and ``models``."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cf_local import hub
from cf_local.cli import columns
from cf_local.registry.registry import FusionSpec, Registry, SourceSpec, user_file
from cf_local.settings import OPTIONS, Settings


def show_all(registry: Registry) -> None:
    """Print every fusion with its settings and sources, then the other sources."""
    found = _found(registry)
    for fusion in registry.fusions.values():
        _show_fusion(registry, fusion, found)
    used = {name for fusion in registry.fusions.values() for name in fusion.sources}
    others = [spec for name, spec in registry.sources.items() if name not in used]
    for title, is_embedding in (("sources in no fusion", False), ("embedding models", True)):
        if specs := [spec for spec in others if (spec.kind == "embedding") == is_embedding]:
            click.echo(title)
            _show_sources(specs, found)
    click.echo(f"Read from: {', '.join(registry.files)}. Your own entries go into:")
    click.echo(f"  {user_file()}")


def show_fusion(registry: Registry, fusion: FusionSpec) -> None:
    """Print one fusion with its settings and sources."""
    _show_fusion(registry, fusion, _found(registry))


def show_fusions(registry: Registry) -> None:
    """Print a line for each fusion: its sources, and what is still to download."""
    found = _found(registry)
    rows = [("FUSION", "SOURCES", "HERE")]
    for fusion in registry.fusions.values():
        default = " (default)" if fusion.name == registry.default_fusion else ""
        missing = [s for s in map(registry.source, fusion.sources) if not found[s.name]]
        if any(spec.local_path for spec in missing):
            state = "a file is missing"
        else:
            size = sum(spec.size_bytes or 0 for spec in missing)
            state = f"{columns.size(size)} to download" if missing else "yes"
        rows.append((f"{fusion.name}{default}", ", ".join(fusion.sources), state))
    for line in columns.lines(rows):
        click.echo(line)


def _found(registry: Registry) -> dict[str, Path | None]:
    return {name: _find(spec) for name, spec in registry.sources.items()}


def _find(spec: SourceSpec) -> Path | None:
    """The file of a source if it is on this machine; sends nothing."""
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
    """Print one line per source in columns, then an empty line."""
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


def as_json(registry: Registry) -> dict[str, Any]:
    """The registry as plain data; ``path`` is null for a source that is not on this machine."""
    found = _found(registry)
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
