"""The registry: which sources and fusions there are, read from ``models.toml`` in layers.

Later layers win, entry by entry: built in < the user's file < ``./models.toml`` of the project <
the file that the environment variable ``CF_LOCAL_CONFIG`` names. Each spec says where it came
from. Left out: single settings of a run; those are flags of the commands.
"""

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import platformdirs

from cf_local.errors import ConfigError
from cf_local.tomlfile import TomlFile, nearest
from cf_local.types import (
    MODES,
    SCORES,
    SEGMENTS,
    WEIGHINGS,
    Mode,
    ScoreKind,
    SegmentKind,
    WeighingKind,
)

ENVIRONMENT_VARIABLE = "CF_LOCAL_CONFIG"
BUILTIN_ORIGIN = "built in"
BUILTIN_PREFIX = "builtin:"

_PACKAGE = Path(__file__).parent
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A model as the registry describes it; ``origin`` is the file that does.

    ``file`` is a file of the repository ``repo``, or without one a path, or "builtin:NAME". Empty,
    it is chosen in the repository by ``quant`` (None: Q4_K_M or what comes nearest).
    ``context`` counts tokens, ``template`` is a Jinja chat template that replaces the model's own.
    """

    name: str
    file: str
    origin: str
    repo: str | None = None
    quant: str | None = None
    revision: str | None = None
    context: int | None = None
    template: str | None = None
    gpu_layers: int | None = None
    threads: int | None = None
    licence: str | None = None
    size_bytes: int | None = None
    description: str | None = None

    @property
    def local_path(self) -> Path | None:
        """Where the file lies, whether or not it is there; None for a file of the hub."""
        if self.repo is not None:
            return None
        if self.file.startswith(BUILTIN_PREFIX):
            return _PACKAGE / "builtin" / self.file.removeprefix(BUILTIN_PREFIX)
        return Path(self.file)


@dataclass(frozen=True, slots=True)
class FusionSpec:
    """Sources that answer together, and how; ``weights`` are in their order, None for equal."""

    name: str
    sources: tuple[str, ...]
    mode: Mode
    score: ScoreKind
    segments: SegmentKind
    segment_words: int
    weighing: WeighingKind
    weights: tuple[float, ...] | None
    description: str | None
    origin: str


@dataclass(frozen=True, slots=True)
class Registry:
    """All sources and fusions by name; ``files`` are the layers it was read from, lowest first."""

    sources: Mapping[str, SourceSpec]
    fusions: Mapping[str, FusionSpec]
    default_fusion: str
    files: tuple[str, ...]

    def source(self, name: str) -> SourceSpec:
        """The source of that name; ConfigError when there is none."""
        if name not in self.sources:
            hint = " (it is a fusion)" if name in self.fusions else nearest(name, self.sources)
            raise ConfigError(f"There is no source {name!r}{hint}. `cf-local models` lists them.")
        return self.sources[name]

    def fusion(self, name: str | None = None) -> FusionSpec:
        """The fusion of that name, or the default one; ConfigError when there is none."""
        name = self.default_fusion if name is None else name
        if name not in self.fusions:
            hint = " (it is a source)" if name in self.sources else nearest(name, self.fusions)
            raise ConfigError(f"There is no fusion {name!r}{hint}. `cf-local models` lists them.")
        return self.fusions[name]


def load_registry(own: Path | None = None) -> Registry:
    """Read all layers that exist; ``own`` in place of the user's file, to check it beforehand.

    Raises ConfigError for a file that cannot be read or holds anything that is not understood.
    """
    layers = [TomlFile.read(path, origin) for path, origin in _layer_paths(own or user_file())]
    sources = {spec.name: spec for layer in layers for spec in _sources(layer)}
    fusions = {spec.name: spec for layer in layers for spec in _fusions(layer, sources)}
    defaults = [_default(layer, fusions) for layer in layers if "default" in layer.tables]
    if not defaults:
        raise ConfigError("The built-in models.toml names no default. Install cf-local again.")
    return Registry(sources, fusions, defaults[-1], tuple(layer.origin for layer in layers))


def is_alias(name: str) -> bool:
    """Whether a source or fusion may have this name."""
    return bool(_ALIAS.fullmatch(name)) and not name.endswith(".gguf")


def user_file() -> Path:
    """The user's own ``models.toml``, in the folder where this system keeps settings."""
    return platformdirs.user_config_path("cf-local", appauthor=False) / "models.toml"


def _layer_paths(own: Path) -> list[tuple[Path, str]]:
    """Files to read with their names, lowest first; a checkout's own models.toml is built in."""
    builtin = _builtin_file()
    layers = [(builtin, BUILTIN_ORIGIN)]
    for path in (own, Path.cwd() / "models.toml"):
        if path.exists() and not (builtin.exists() and path.samefile(builtin)):
            layers.append((path, str(path)))
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        layers.append((Path(named).expanduser(), named))
    return layers


def _builtin_file() -> Path:
    """``models.toml`` inside the package when installed, above it in a checkout."""
    installed = _PACKAGE / "models.toml"
    return installed if installed.exists() else _PACKAGE.parent / "models.toml"


_TOP: dict[str, type] = {"default": str, "sources": dict, "fusions": dict}
_SOURCE: dict[str, type] = {
    **dict.fromkeys(("file", "repo", "quant", "revision", "template"), str),
    **dict.fromkeys(("licence", "description"), str),
    **dict.fromkeys(("context", "gpu_layers", "threads", "size_bytes"), int),
}
_FUSION: dict[str, type] = {
    **dict.fromkeys(("mode", "score", "segments", "weighing", "description"), str),
    "segment_words": int,
    **dict.fromkeys(("sources", "weights"), list),
}
FUSION_KEYS = frozenset(_FUSION)
"""What can be said about a fusion."""

_MINIMUM = {"context": 1, "gpu_layers": -1, "threads": 1, "size_bytes": 1, "segment_words": 1}
_CHOICES = {"mode": MODES, "score": SCORES, "segments": SEGMENTS, "weighing": WEIGHINGS}


def _entries(
    file: TomlFile, kind: str, known: Mapping[str, type]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables of one kind, "sources" or "fusions", with their names and keys checked."""
    file.check_keys((), file.tables, _TOP)
    for name, table in file.tables.get(kind, {}).items():
        if not isinstance(table, dict):
            raise file.error((kind, name), f"{kind}.{name} must be a table.")
        if not is_alias(name):
            message = (
                f"{name!r} is no name: only letters, digits, dot, - and _, not ending in .gguf."
            )
            raise file.error((kind, name), message)
        file.check_keys((kind, name), table, known)
        yield name, table


def _sources(file: TomlFile) -> Iterator[SourceSpec]:
    for name, table in _entries(file, "sources", _SOURCE):
        if not table.get("file") and not table.get("repo"):
            raise file.error(("sources", name), f"source {name!r} names no file.")
        if "quant" in table and (table.get("file") or not table.get("repo")):
            message = "quant chooses a file of a repo; name repo and quant, without file."
            raise file.error(("sources", name, "quant"), message)
        _check_numbers(file, ("sources", name), table)
        values = dict.fromkeys(_SOURCE) | {"file": ""} | table
        if "repo" not in table and not table["file"].startswith(BUILTIN_PREFIX):
            folder = file.path.resolve().parent  # a path is relative to the file that names it
            values["file"] = str(folder / Path(table["file"]).expanduser())
        yield SourceSpec(name=name, origin=file.origin, **cast(Any, values))


def _check_numbers(file: TomlFile, where: tuple[str, str], table: Mapping[str, Any]) -> None:
    for key in _MINIMUM.keys() & table.keys():
        if table[key] < _MINIMUM[key]:
            message = f"{key} is {table[key]}; it must be at least {_MINIMUM[key]}."
            raise file.error((*where, key), message)


def _fusions(file: TomlFile, sources: Collection[str]) -> Iterator[FusionSpec]:
    """The fusions of a file; a key that is left out means what the method does by default."""
    defaults: dict[str, Any] = {"mode": "cool", "score": "nll", "segments": "aligned"}
    defaults |= {"segment_words": 1, "weighing": "static"}
    for name, table in _entries(file, "fusions", _FUSION):
        for key in _CHOICES.keys() & table.keys():
            if table[key] not in _CHOICES[key]:
                hint = nearest(table[key], _CHOICES[key])
                message = f"{key} is {table[key]!r}{hint}; known are {', '.join(_CHOICES[key])}."
                raise file.error(("fusions", name, key), message)
        _check_numbers(file, ("fusions", name), table)
        values: dict[str, Any] = {**dict.fromkeys(_FUSION), **defaults, **table}
        if values["segments"] == "sentence" and values["segment_words"] > 1:
            message = "segments 'sentence' do not count words; leave out segment_words."
            raise file.error(("fusions", name, "segment_words"), message)
        values["sources"] = _source_names(file, name, table, sources)
        values["weights"] = _weights(file, name, table)
        yield FusionSpec(name=name, origin=file.origin, **cast(Any, values))


def _source_names(
    file: TomlFile, name: str, table: Mapping[str, Any], known: Collection[str]
) -> tuple[str, ...]:
    names, where = table.get("sources", []), ("fusions", name, "sources")
    for source in names:
        if not isinstance(source, str):
            raise file.error(where, f"sources must be a list of names, not {source!r}.")
        if source not in known:
            raise file.error(where, f"there is no source {source!r}{nearest(source, known)}.")
    if not names or len(set(names)) < len(names):
        raise file.error(where, f"fusion {name!r} must name one or more sources, each once.")
    return tuple(names)


def _weights(file: TomlFile, name: str, table: Mapping[str, Any]) -> tuple[float, ...] | None:
    weights, where = table.get("weights"), ("fusions", name, "weights")
    if weights is None:
        return None
    for weight in weights:
        if type(weight) not in (int, float) or not 0 <= weight < math.inf:
            raise file.error(where, f"{weight!r} is no weight; it must be a number, 0 or more.")
    if len(weights) != len(table["sources"]) or not any(weights):
        raise file.error(where, "there must be one weight per source, and one of them above 0.")
    return tuple(float(weight) for weight in weights)


def _default(file: TomlFile, fusions: Collection[str]) -> str:
    name: str = file.tables["default"]
    if name not in fusions:
        message = f"there is no fusion {name!r} to be the default{nearest(name, fusions)}."
        raise file.error(("default",), message)
    return name
