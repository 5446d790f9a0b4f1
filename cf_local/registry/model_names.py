"""The names that a user may give for a model: an alias, a repository on the hub, a path."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cf_local.errors import InputError
from cf_local.registry.registry import BUILTIN_PREFIX, Registry, SourceSpec

ORIGIN = "command line"
_REPO = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(:(?P<quant>[\w./-]+))?", re.ASCII)


def spec_of(registry: Registry, model: str | Path) -> SourceSpec:
    """The source with that name: an alias, ``org/repo``, ``org/repo:QUANT``, or a path.

    Raises ConfigError if it is none of them. An existing file counts as a path.
    """
    text, path = str(model), Path(model).expanduser()
    if text in registry.sources:
        return registry.source(text)
    match = _REPO.fullmatch(text)
    is_named_file = path.suffix.lower() == ".gguf" and ":" not in text
    if match and isinstance(model, str) and not is_named_file and not path.exists():
        return _of_repo(match["repo"], match["quant"])
    if path.suffix != ".gguf" and len(path.parts) <= 1:
        return registry.source(text)
    return SourceSpec(name=path.stem, file=str(path), origin=ORIGIN)


def specs_of(registry: Registry, name: str) -> list[SourceSpec]:
    """Like ``spec_of``, but for the name of a fusion the specs of all its sources."""
    if name in registry.fusions and name not in registry.sources:
        return [registry.source(source) for source in registry.fusions[name].sources]
    return [spec_of(registry, name)]


def hub_spec_of(registry: Registry, name: str) -> SourceSpec:
    """The source of that name. Raises InputError if it is not a file on the hub."""
    if name in registry.fusions and name not in registry.sources:
        sources = ", ".join(registry.fusions[name].sources)
        raise InputError(f"{name} is a fusion; name its sources: {sources}.")
    spec = spec_of(registry, name)
    if spec.repo is None:
        is_builtin = spec.file.startswith(BUILTIN_PREFIX)
        what = "comes with cf-local" if is_builtin else f"is the file {spec.file}"
        raise InputError(f"{name} {what}: it is not a download, so there is nothing to remove.")
    return spec


def distinct(specs: Sequence[SourceSpec]) -> list[SourceSpec]:
    """The specs under different names: the second "model" becomes "model-2"."""
    named: dict[str, SourceSpec] = {}
    for spec in specs:
        candidates = (spec.name, *(f"{spec.name}-{n}" for n in range(2, len(specs) + 1)))
        name = next(name for name in candidates if name not in named)
        named[name] = replace(spec, name=name)
    return list(named.values())


def _of_repo(repo: str, quant: str | None) -> SourceSpec:
    """A file on the hub that no models.toml names; ``quant`` may also be a file name."""
    name = re.sub(r"[-_.]gguf$", "", repo.partition("/")[2], flags=re.IGNORECASE)
    if quant is not None and quant.lower().endswith(".gguf"):
        return SourceSpec(name=name, file=quant, repo=repo, origin=ORIGIN)
    return SourceSpec(name=name, file="", repo=repo, quant=quant, origin=ORIGIN)
