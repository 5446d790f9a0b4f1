"""Edit the user's ``models.toml``: add and remove entries; everything else stays.

The registry's own loader checks the new text before it replaces the old one, and the replacement is
atomic: there is never half a file. Removing an entry deletes whole lines; a TOML reader must then
find in the text what it found before, without the entry.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Item, Table

from cf_local import files, hub
from cf_local.errors import ConfigError, InputError
from cf_local.registry.registry import (
    BUILTIN_ORIGIN,
    FUSION_KEYS,
    SOURCE_KEYS,
    Registry,
    SourceSpec,
    is_alias,
    load_registry,
    user_file,
)
from cf_local.registry.toml import TomlFile, nearest
from cf_local.types import is_unicode

Kind = Literal["sources", "fusions"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_KEYS: dict[Kind, Mapping[str, object]] = {
    "sources": SOURCE_KEYS,
    "fusions": FUSION_KEYS,
}
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """A fusion (or source) to write: ``values`` by key, ``notes`` as comment lines above them.

    ``sources`` are tables to write with it, by name, for models that have no entry yet. The first
    note is a mark: an entry with that mark may be replaced by another one with the same mark.
    """

    name: str
    values: Mapping[str, Any]
    notes: Sequence[str]
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kind: Kind = "fusions"


def check_free(kind: Kind, name: str, *, force: bool = False) -> None:
    """Check that an entry of that name can be added.

    Raises ConfigError when the name is not valid, when it exists already (and ``force`` is not
    set), or when a file that is read later defines the same name.
    """
    if not is_alias(name):
        raise ConfigError(
            f"{name!r} is not a valid name: use letters, digits, dot, - and _, "
            "and do not end it in .gguf."
        )
    layers, what = load_registry().layers(kind, name), kind.removesuffix("s")
    _check_not_hidden(what, name, layers, user_file())
    if layers and not force:
        raise ConfigError(
            f"There is already a {what} {name!r} ({layers[-1]}). Choose another name, or "
            "override it with --force."
        )


def check_name(name: str, mark: str, *, force: bool = False) -> None:
    """Check that a fusion of that name can be written; call this before long work.

    Raises ConfigError when the name is not valid, when it exists already without the mark (and
    ``force`` is not set), or when a file that is read later defines the same name.
    """
    if not is_alias(name):
        raise ConfigError(f"{name!r} is not a valid name: use letters, digits, dot, - and _.")
    registry, path = load_registry(), user_file()
    layers = registry.layers("fusions", name)
    _check_not_hidden("fusion", name, layers, path)
    is_ours = str(path) in layers and _has_mark(read(path), name, mark)
    if layers and not (force or is_ours):
        raise ConfigError(
            f"There is already a fusion {name!r} ({layers[0]}). Choose another --name, or "
            "replace it with --force."
        )


def _check_not_hidden(what: str, name: str, layers: Sequence[str], path: Path) -> None:
    """Raise ConfigError when a file that is read after the user's defines the entry, too."""
    hiding = [file for file in layers if file not in (str(path), BUILTIN_ORIGIN)]
    if hiding:
        raise ConfigError(
            f"{hiding[-1]} has a {what} {name!r}, which would hide one in {path}. "
            "Choose another name."
        )


def write_entry(entry: RegistryEntry) -> Path:
    """Write the entry into the user's file, replacing one of the same name; returns the file.

    Raises ConfigError for an unknown key and for a file that could not be read back, InputError
    when the file cannot be written. In all these cases the old file stays as it is.
    """
    path = user_file()
    if unknown := sorted(entry.values.keys() - _KEYS[entry.kind].keys()):
        raise ConfigError(
            f"models.toml has no key {', '.join(unknown)} in this version; nothing was written."
        )
    save(path, with_entry(read(path), entry))
    return path


def write_default(name: str) -> Path:
    """Make the fusion of that name the default in the user's file; returns the file.

    Raises what ``write_entry`` does, and ConfigError when a file that is read later names another
    default.
    """
    registry, path = load_registry(), user_file()
    registry.fusion(name)
    text = read(path)
    try:
        document = tomlkit.parse(text)
        document["default"] = name
        new = tomlkit.dumps(document)
        is_right = tomllib.loads(new) == tomllib.loads(text) | {"default": name}
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be edited: {error}.") from error
    if not is_right:
        raise ConfigError(f'{path} cannot be edited; write `default = "{name}"` at its top.')
    save(path, new)
    registry = load_registry()
    if registry.default_fusion != name:
        raise ConfigError(
            f"{path} names {name!r} now, but {registry.default_origin} overrides it with "
            f"{registry.default_fusion!r}; change it there, too."
        )
    return path


def with_entry(text: str, entry: RegistryEntry) -> str:
    """The text of a models.toml with the entry added, everything else unchanged.

    Raises ConfigError when that is not possible.
    """
    try:
        document = tomlkit.parse(text if text.endswith("\n") or not text else f"{text}\n")
        for name, values in entry.sources.items():
            _put(document, "sources", name, _table(values, ()))
        _put(document, entry.kind, entry.name, _table(entry.values, entry.notes))
        new = tomlkit.dumps(document).rstrip("\n") + "\n"
        before, after = tomllib.loads(text), tomllib.loads(new)
    except (TOMLKitError, tomllib.TOMLDecodeError, AttributeError, TypeError) as error:
        raise ConfigError(f"{user_file()} cannot be edited: {error}.") from error
    before.setdefault(entry.kind, {})[entry.name] = _plain(entry.values)
    if entry.sources:
        before.setdefault("sources", {}).update(entry.sources)
    if after != before:
        raise ConfigError(
            f"{user_file()} is written in a way that cannot be edited; "
            f"give each entry a header of its own: [{entry.kind}.NAME]."
        )
    return new


def sources_of(
    models: Mapping[str, Path], n_ctx: int | None = None
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Which entries of models.toml describe loaded models, and the entries that are missing.

    ``models`` maps the names of sources to their files. Returns the name of each in models.toml,
    and new tables by that name, with ``n_ctx`` as their context.
    """
    known = dict(load_registry().sources)
    names: dict[str, str] = {}
    tables: dict[str, dict[str, Any]] = {}
    for name, file in models.items():
        stem = _NO_NAME.sub("-", name).strip("-._").removesuffix(".gguf") or "model"
        wanted = [name, stem, *(f"{stem}-{number}" for number in range(2, len(known) + 3))]
        names[name] = new = next(
            each
            for each in wanted
            if (_is_file_of(known[each], file) if each in known else is_alias(each))
        )
        if new not in known:
            context = {} if n_ctx is None else {"context": n_ctx}
            tables[new] = {"file": str(file.resolve()), **context}
            known[new] = SourceSpec(new, str(file), "new")
    return names, tables


def save(path: Path, text: str) -> None:
    """Replace the text of the user's file, atomically and only if the new text can be read.

    Raises ConfigError if it cannot, InputError when the file cannot be written.
    """
    if not is_unicode(text):
        raise InputError(
            "A path that is not UTF-8 text cannot be in models.toml. Rename the file or folder."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text, check=lambda new: _check(new, path))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def _put(document: tomlkit.TOMLDocument, kind: str, name: str, table: Table) -> None:
    """Put a table of "sources" or "fusions" where it was, or else at the end of the file."""
    tables = document.get(kind)
    if tables is not None and name in tables:
        for key, item in _after_last_key(tables[name]):
            table.value.append(key, item)
        tables[name] = table
        return
    if document.as_string().strip():
        document.add(tomlkit.nl())
    tail = tomlkit.table(is_super_table=True)
    tail.add(name, table)
    document.append(kind, tail)


def _after_last_key(table: Table) -> list[tuple[None, Item]]:
    """Comments and empty lines at the end of a table: they are about what follows it."""
    found: list[tuple[None, Item]] = []
    for key, item in reversed(table.value.body):
        if key is not None:
            break
        found.insert(0, (None, item))
    return found


def _table(values: Mapping[str, Any], notes: Sequence[str]) -> Table:
    table = tomlkit.table()
    for note in notes:
        table.add(tomlkit.comment(" ".join(note.split())))
    for key, value in _plain(values).items():
        table.add(key, value)
    return table


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as TOML writes them: lists for tuples, inline tables for mappings."""
    return {key: _toml(value) for key, value in values.items()}


def _toml(value: Any) -> Any:
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update(value)
        return table
    return list(value) if isinstance(value, tuple) else value


def read(path: Path) -> str:
    """The text of the user's file, empty if there is none. Raises ConfigError."""
    return TomlFile.read(path, str(path)).text if path.exists() else ""


def _has_mark(text: str, name: str, mark: str) -> bool:
    """Whether the fusion of that name has a comment line that is the mark."""
    tables = tomlkit.parse(text).get("fusions", {})
    lines = tables[name].as_string().splitlines() if name in tables else []
    return f"# {mark}" in (line.strip() for line in lines)


def _check(new: Path, path: Path) -> None:
    """Raise ConfigError if ``new``, which is to become ``path``, cannot be read."""
    try:
        load_registry(new)
    except ConfigError as error:
        message = str(error).replace(str(new), str(path))
        raise ConfigError(f"{message} Nothing was written.") from error


def _is_file_of(spec: SourceSpec, file: Path) -> bool:
    """Whether the file is the source's."""
    own = spec.local_path
    if own is None:
        own = hub.cached(str(spec.repo), spec.file, spec.revision, spec.quant)
    return own is not None and own.exists() and file.exists() and own.samefile(file)


_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
_BETWEEN = re.compile(r"\s*(#.*)?")  # an empty line or a comment


def remove_entry(name: str, kind: Kind | None = None) -> tuple[Path, Kind]:
    """Remove a source or fusion from the user's file; returns the file and which kind it was.

    Where both have that name and ``kind`` is None, the fusion is removed. Raises ConfigError when
    that file has no such entry (built-in ones cannot be removed), or when another entry needs it.
    """
    registry, path = load_registry(), user_file()
    text = read(path)
    tables = tomllib.loads(text)
    kinds: tuple[Kind, ...] = (kind,) if kind else ("fusions", "sources")
    found = next((each for each in kinds if name in tables.get(each, {})), None)
    if found is None:
        raise ConfigError(_why_not(registry, tables, name, path))
    try:
        save(path, without_entry(text, found, name))
    except ConfigError as error:
        raise ConfigError(_needed(registry, found, name) or str(error)) from error
    return path, found


def without_entry(text: str, kind: Kind, name: str) -> str:
    """The text of a models.toml without one of its entries.

    Comments above the header stay, and those after the last key: they may be about what follows.
    Raises ConfigError when the entry cannot be removed.
    """
    wanted = tomllib.loads(text)
    del wanted[kind][name]
    for candidate in _candidates(text, kind, name):
        try:
            if _filled(tomllib.loads(candidate)) == _filled(wanted):
                return candidate
        except tomllib.TOMLDecodeError:
            continue
    raise ConfigError(
        f"{user_file()} is written in a way that does not let {name!r} be removed; "
        "remove it by hand."
    )


def _candidates(text: str, kind: Kind, name: str) -> Iterator[str]:
    """Texts without the entry, for each place where it may end, the likeliest first."""
    lines = text.splitlines(keepends=True)
    headers = [(i, m[1]) for i, line in enumerate(lines) if (m := _HEADER.fullmatch(line.strip()))]
    for start, header in headers:
        if re.sub(r"[\"'\s]", "", header) != f"{kind}.{name}":
            continue
        for end in [*(i for i, _ in headers if i > start), len(lines)]:
            last = end  # after the last key
            while last > start + 1 and _BETWEEN.fullmatch(lines[last - 1].strip()):
                last -= 1
            for stop in (last, end):
                yield "".join(_cut(lines, start, stop))
    try:  # not under a header of its own
        document = tomlkit.parse(text)
        del document[kind][name]
        yield tomlkit.dumps(document)
    except (TOMLKitError, TypeError, AttributeError, KeyError):
        return


def _cut(lines: list[str], start: int, stop: int) -> list[str]:
    """The lines without those from ``start`` to ``stop``, and without a second empty line there."""
    before, after = lines[:start], lines[stop:]
    if before and not before[-1].strip() and not (after and after[0].strip()):
        before.pop()
    return before + after


def _filled(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables without empty "sources" and "fusions"."""
    return {key: value for key, value in tables.items() if value != {} or key not in KINDS}


def _why_not(registry: Registry, tables: dict[str, Any], name: str, path: Path) -> str:
    """Why there is nothing to remove."""
    layers = [file for kind in KINDS for file in registry.layers(kind, name)]
    if layers and layers[-1] == BUILTIN_ORIGIN:
        return f"{name!r} is built in and cannot be removed; only entries of {path} can."
    if layers:
        return f"{name!r} is defined in {layers[-1]}, not in {path}; remove it there."
    known = [each for kind in KINDS for each in tables.get(kind, {})]
    return f"{path} has no entry {name!r}{nearest(name, known)}."


def _needed(registry: Registry, kind: Kind, name: str) -> str | None:
    """What needs the entry, and what to do; None if nothing does."""
    if kind == "fusions":
        if registry.default_fusion != name:
            return None
        return (
            f"{name!r} is the default fusion ({registry.default_origin}). "
            "Choose another `default` first. Nothing was removed."
        )
    users = [fusion.name for fusion in registry.fusions.values() if name in fusion.sources]
    if not users:
        return None
    listed = ", ".join(map(repr, users))
    noun = "the fusion" if len(users) == 1 else "the fusions"
    return (
        f"Source {name!r} is used by {noun} {listed}. Remove {noun} first, or take the source "
        "out there. Nothing was removed."
    )
