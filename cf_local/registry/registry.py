"""The registry: which sources and fusions there are, read from ``models.toml`` in layers.

Later layers win, key by key (``toml.merge`` has the rule): built in < the user's file <
``./models.toml`` of the project < the file named by the environment variable ``CF_LOCAL_CONFIG``.
The registry knows where each value is from. Left out: flags and their environment variables, which
belong to the commands.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import platformdirs

from cf_local.errors import ConfigError, InputError
from cf_local.planning.nodes import Placement
from cf_local.registry.ray_table import placement_of
from cf_local.registry.toml import Layer, Merged, Origin, TomlFile, ValueType, merge, nearest
from cf_local.settings import OPTIONS, Option, Settings
from cf_local.types import (
    DEVICE_CHOICES,
    KV_TYPES,
    MOST_THREADS,
    POOLINGS,
    SOURCE_KINDS,
    WHEREABOUTS,
    DeviceChoice,
    KvType,
    Pooling,
    SourceKind,
    Whereabouts,
)

CONFIG_VARIABLE = "CF_LOCAL_CONFIG"
BUILTIN_ORIGIN = "built in"
BUILTIN_PREFIX = "builtin:"

_PACKAGE = Path(__file__).parents[1]
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A model as the registry describes it; ``origin`` is the file that says which model it is.

    ``file`` is a file in the repository ``repo``; without a repository it is a path or
    "builtin:NAME". If it is empty, ``quant`` chooses a file in the repository (None: Q4_K_M, or the
    nearest to it). ``context`` counts tokens, ``template`` is a Jinja chat template that replaces
    the model's own. ``kind`` None is "text"; ``pooling`` is for an embedding model whose file does
    not say how to pool. ``where`` "ray" is a node of a Ray cluster that has what ``ray`` asks for.
    """

    name: str
    file: str
    origin: str
    kind: SourceKind | None = None
    repo: str | None = None
    quant: str | None = None
    revision: str | None = None
    context: int | None = None
    template: str | None = None
    gpu_layers: int | None = None
    threads: int | None = None
    device: DeviceChoice | None = None
    kv_type: KvType | None = None
    pooling: Pooling | None = None
    licence: str | None = None
    size_bytes: int | None = None
    description: str | None = None
    where: Whereabouts | None = None
    ray: Placement | None = None

    @property
    def is_on_ray(self) -> bool:
        """Whether it is meant for a node of a Ray cluster."""
        return self.where == "ray" or (self.where is None and self.ray is not None)

    @property
    def local_path(self) -> Path | None:
        """The path of the file, whether or not it exists; None for a file on the hub."""
        if self.repo is not None:
            return None
        if self.file.startswith(BUILTIN_PREFIX):
            return _PACKAGE / "builtin" / self.file.removeprefix(BUILTIN_PREFIX)
        return Path(self.file)

    def portable(self) -> "SourceSpec":
        """The source as a process in another folder names it, also on a machine with its files."""
        local = self.local_path
        if local is None or self.file.startswith(BUILTIN_PREFIX):
            return self
        return replace(self, file=os.path.abspath(local))  # noqa: PTH100 - links stay


@dataclass(frozen=True, slots=True)
class FusionSpec:
    """Sources that answer together, and how.

    ``origin`` is the file that names the sources; other layers may have changed the rest.
    """

    name: str
    sources: tuple[str, ...]
    settings: Settings
    description: str | None
    origin: str


@dataclass(frozen=True, slots=True)
class Registry:
    """All sources and fusions by name; ``files`` are the layers they are from, lowest first.

    ``entries`` are the same as written in the files, by kind ("sources", "fusions") and name.
    """

    sources: Mapping[str, SourceSpec]
    fusions: Mapping[str, FusionSpec]
    default_fusion: str
    files: tuple[str, ...]
    default_origin: Origin
    entries: Mapping[tuple[str, str], Merged] = field(default_factory=dict, repr=False)

    def origin(self, kind: str, name: str, key: str) -> Origin | None:
        """Where a key of an entry is set; None if no file sets it."""
        entry = self.entries.get((kind, name))
        if entry is None or key not in entry.files_by_key:
            return None
        return _origin(entry.files_by_key[key], (kind, name, key))

    def layers(self, kind: str, name: str) -> tuple[str, ...]:
        """The files that define an entry, lowest first; empty if there is none."""
        entry = self.entries.get((kind, name))
        return tuple(file.origin for file in entry.layers) if entry else ()

    def source(self, name: str) -> SourceSpec:
        """The source of that name. Raises ConfigError if there is none."""
        if name not in self.sources:
            hint = " (it is a fusion)" if name in self.fusions else nearest(name, self.sources)
            raise ConfigError(f"No source is named {name!r}{hint}. `cf-local list` shows all.")
        return self.sources[name]

    def fusion(self, name: str | None = None) -> FusionSpec:
        """The fusion of that name, or the default one. Raises ConfigError if there is none."""
        name = self.default_fusion if name is None else name
        if name not in self.fusions:
            hint = " (it is a source)" if name in self.sources else nearest(name, self.fusions)
            raise ConfigError(f"No fusion is named {name!r}{hint}. `cf-local list` shows all.")
        return self.fusions[name]


def load_registry(own: Path | None = None) -> Registry:
    """Read all layers that exist; ``own`` replaces the user's file, to check it beforehand.

    Raises ConfigError for a file that cannot be read or is not valid.
    """
    return _registry([TomlFile.read(*layer) for layer in _layer_paths(own or user_file())])


def check_file(path: Path) -> Registry:
    """Check a file by reading it as the highest layer, above the built-in one and the user's.

    Raises ConfigError as ``load_registry`` does.
    """
    layers, real = _layer_paths(user_file(), project=False), os.path.realpath(path)
    below = [layer for layer in layers if os.path.realpath(layer[0]) != real]
    return _registry([TomlFile.read(*layer) for layer in (*below, (path, str(path)))])


def _registry(files: Collection[TomlFile]) -> Registry:
    """The registry of all these files, the lowest first."""
    found: dict[str, dict[str, Merged]] = {}
    for kind, known in _KINDS.items():
        layers: list[Layer] = [(file, dict(_entries(file, kind, known))) for file in files]
        found[kind] = merge(layers, _STARTS[kind], _DROPS)
    sources = {name: _source(name, entry) for name, entry in found["sources"].items()}
    fusions = {name: _fusion(name, entry, sources) for name, entry in found["fusions"].items()}
    defaults = [
        (_default(file, fusions), _origin(file, ("default",)))
        for file in files
        if "default" in file.tables
    ]
    if not defaults:
        raise ConfigError("The built-in models.toml names no default. Install cf-local again.")
    name, origin = defaults[-1]
    entries = {(kind, name): entry for kind in found for name, entry in found[kind].items()}
    return Registry(sources, fusions, name, tuple(file.origin for file in files), origin, entries)


def _origin(file: TomlFile, where: tuple[str, ...]) -> Origin:
    """Where a value is from; without a line in the built-in file, which nobody edits."""
    return Origin(file.origin, None if file.origin == BUILTIN_ORIGIN else file.line(where))


def is_alias(name: str) -> bool:
    """Whether a source or fusion may have this name."""
    return bool(_ALIAS.fullmatch(name)) and not name.endswith(".gguf")


def user_file() -> Path:
    """The user's own ``models.toml``, in this system's folder for settings."""
    return platformdirs.user_config_path("cf-local", appauthor=False) / "models.toml"


def _layer_paths(own: Path, *, project: bool = True) -> list[tuple[Path, str]]:
    """Files to read with their names, lowest first; a checkout's own models.toml is built in."""
    builtin = _builtin_file()
    layers = [(builtin, BUILTIN_ORIGIN)]
    for path in (own, *_project_files()[: 1 if project else 0]):
        if _is_there(path) and not (builtin.exists() and path.samefile(builtin)):
            layers.append((path, str(path)))
    if project and (named := os.environ.get(CONFIG_VARIABLE)):
        layers.append((_expanded(named), named))
    return layers


def _project_files() -> list[Path]:
    """``models.toml`` in the current folder, unless that folder has been deleted."""
    try:
        return [Path.cwd() / "models.toml"]
    except FileNotFoundError:
        return []


def _is_there(path: Path) -> bool:
    """Whether the path exists; true if that is unknown, since reading then reports why."""
    try:
        return path.exists()
    except OSError:
        return True


def _expanded(path: str) -> Path:
    """The path with ``~`` expanded if there is such a home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _builtin_file() -> Path:
    """``models.toml``: inside the package if installed, above it in a checkout."""
    installed = _PACKAGE / "models.toml"
    return installed if installed.exists() else _PACKAGE.parent / "models.toml"


_TOP: dict[str, ValueType] = {"default": str, "sources": dict, "fusions": dict}
_SOURCE: dict[str, ValueType] = {
    **dict.fromkeys(("file", "repo", "quant", "revision", "template"), str),
    **dict.fromkeys(("licence", "description", "device", "kv_type", "kind", "pooling"), str),
    **dict.fromkeys(("context", "gpu_layers", "threads", "size_bytes"), int),
    **{"where": str, "ray": dict},
}
_TYPES: Mapping[str, ValueType] = {
    **dict.fromkeys(("choice", "source"), str),
    **{"whole": int, "number": float, "switch": bool, "texts": list, "numbers": dict},
}
_FUSION: dict[str, ValueType] = {
    "sources": list,
    **{name: _TYPES[option.kind] for name, option in OPTIONS.items()},
    "weights": (dict, str),
    "description": str,
}
SOURCE_KEYS: Mapping[str, ValueType] = _SOURCE
"""The keys of a source, and their types."""
FUSION_KEYS: Mapping[str, ValueType] = _FUSION
"""The keys of a fusion, and their types."""

_KINDS: Mapping[str, Mapping[str, ValueType]] = {"sources": _SOURCE, "fusions": _FUSION}
_STARTS = {"sources": frozenset({"file", "repo"}), "fusions": frozenset({"sources"})}
_DROPS = {"quant": frozenset({"file", "size_bytes"})}  # another quantization is another file

_MINIMUM = {"context": 1, "gpu_layers": -1, "threads": 1, "size_bytes": 1}
_INT32 = 2**31 - 1  # what llama.cpp accepts
_MAXIMUM = {
    "context": _INT32,
    "gpu_layers": _INT32,
    "threads": MOST_THREADS,
    "size_bytes": 2**63 - 1,
}
_CHOICES = {name: option.choices for name, option in OPTIONS.items() if option.choices}
_CHOICES |= {"device": DEVICE_CHOICES, "kv_type": KV_TYPES}
_CHOICES |= {"kind": SOURCE_KINDS, "pooling": POOLINGS, "where": WHEREABOUTS}


def _entries(
    file: TomlFile, kind: str, known: Mapping[str, ValueType]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables of one kind, "sources" or "fusions", with their names, keys and values checked."""
    file.check_keys((), file.tables, _TOP)
    for name, table in file.tables.get(kind, {}).items():
        if not isinstance(table, dict):
            raise file.error((kind, name), f"{kind}.{name} must be a table.")
        if not is_alias(name):
            message = (
                f"{name!r} is not a valid name: use letters, digits, dot, - and _, "
                "and do not end it in .gguf."
            )
            raise file.error((kind, name), message)
        file.check_keys((kind, name), table, known)
        _check_numbers(file, (kind, name), table)
        _check_choices(file, (kind, name), table)
        yield name, table


def _source(name: str, entry: Merged) -> SourceSpec:
    values = dict.fromkeys(_SOURCE) | {"file": ""} | dict(entry.values)
    path, repo = str(values["file"]), values["repo"]
    if values["quant"] is not None and (path or not repo):
        message = "quant chooses a file in a repo; give repo and quant, without file."
        raise entry.file_of("quant").error(("sources", name, "quant"), message)
    if not path and not repo:
        raise entry.file_of("file").error(("sources", name), f"source {name!r} names no file.")
    if repo is None and not path.startswith(BUILTIN_PREFIX):
        # a path is relative to the file that contains it
        folder = Path(os.path.realpath(entry.files_by_key["file"].path)).parent
        values["file"] = str(folder / _expanded(path))
    if values["ray"] is not None:
        values["ray"] = placement_of(entry.file_of("ray"), ("sources", name, "ray"), values["ray"])
    return SourceSpec(name=name, origin=entry.layers[0].origin, **cast(Any, values))


def _check_numbers(file: TomlFile, where: tuple[str, str], table: Mapping[str, Any]) -> None:
    for key in _MINIMUM.keys() & table.keys():
        if table[key] < _MINIMUM[key]:
            message = f"{key} is {table[key]}; it must be at least {_MINIMUM[key]}."
            raise file.error((*where, key), message)
        if table[key] > _MAXIMUM[key]:
            message = f"{key} is {table[key]}; it must be at most {_MAXIMUM[key]}."
            raise file.error((*where, key), message)


def _check_choices(file: TomlFile, where: tuple[str, str], table: Mapping[str, Any]) -> None:
    for key in _CHOICES.keys() & table.keys():
        if isinstance(table[key], str) and table[key] not in _CHOICES[key]:
            hint = nearest(table[key], _CHOICES[key])
            message = (
                f"{key} is {table[key]!r}{hint}; it must be one of {', '.join(_CHOICES[key])}."
            )
            raise file.error((*where, key), message)


def _fusion(name: str, entry: Merged, sources: Mapping[str, SourceSpec]) -> FusionSpec:
    """The fusion of an entry; settings that it does not name have their defaults."""
    names = _source_names(name, entry, sources)
    given = {key: entry.values[key] for key in OPTIONS if key in entry.values}
    for key, value in given.items():
        file, where = entry.file_of(key), ("fusions", name, key)
        given[key] = _checked(OPTIONS[key], value, names, file, where)
    try:
        settings = Settings().with_options(given)
    except InputError as error:  # keys that cannot be combined: the last one says where
        key = list(given)[-1]
        raise entry.file_of(*given).error(("fusions", name, key), str(error)) from None
    description = entry.values.get("description")
    return FusionSpec(name, names, settings, description, entry.layers[0].origin)


def _checked(
    option: Option, value: Any, names: Collection[str], file: TomlFile, where: tuple[str, ...]
) -> Any:
    """The value of a setting. Raises ConfigError if it is not valid, or names another source."""
    if option.kind == "texts":
        if not all(isinstance(text, str) for text in value):
            raise file.error(where, f"{option.name} must be a list of texts.")
        value = tuple(value)
    of_sources = option.kind == "source" or (option.key == "SOURCE" and isinstance(value, Mapping))
    for each in (value if isinstance(value, Mapping) else [value]) if of_sources else ():
        if each not in names:
            hint = nearest(each, names)
            raise file.error(where, f"{option.name}: {each!r} is not one of its sources{hint}.")
    if isinstance(value, Mapping):
        for number in value.values():
            if type(number) not in (int, float):
                raise file.error(where, f"{option.name}: {number!r} is not a number.")
        if of_sources and not any(value.get(each, 1) for each in names):
            raise file.error(where, "one of the weights must be above 0.")
    try:
        option.check(value)
    except InputError as error:
        raise file.error(where, str(error)) from None
    return value


def _source_names(name: str, entry: Merged, known: Mapping[str, SourceSpec]) -> tuple[str, ...]:
    names, where = entry.values.get("sources", []), ("fusions", name, "sources")
    file = entry.file_of("sources")
    for source in names:
        if not isinstance(source, str):
            raise file.error(where, f"sources must be a list of names, not {source!r}.")
        if source not in known:
            raise file.error(where, f"no source is named {source!r}{nearest(source, known)}.")
        if known[source].kind == "embedding":
            raise file.error(where, f"{source!r} is an embedding model and cannot write text.")
    if not names or len(set(names)) < len(names):
        raise file.error(where, f"fusion {name!r} must name one or more sources, each once.")
    return tuple(names)


def _default(file: TomlFile, fusions: Collection[str]) -> str:
    name: str = file.tables["default"]
    if name not in fusions:
        message = f"default is {name!r}, but no fusion has that name{nearest(name, fusions)}."
        raise file.error(("default",), message)
    return name
