"""Editing the user's ``models.toml``: adding and removing entries; everything else stays.

The new text is checked by the registry's own loader before it takes the place of the old one, and
it does so at once: there is never half a file. To remove an entry, lines are taken out, byte for
byte; what is left must be what a TOML reader finds in the old text without the entry.
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

Kind = Literal["sources", "fusions"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_KEYS: dict[Kind, Mapping[str, type]] = {
    "sources": SOURCE_KEYS,
    "fusions": FUSION_KEYS,
}
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """A fusion (or source) to write: ``values`` by key, ``notes`` as comment lines above them.

    ``sources`` are tables to write along with it, by name, for models that no entry names yet.
    The first note is a mark: an entry that bears it may be replaced by another that does.
    """

    name: str
    values: Mapping[str, Any]
    notes: Sequence[str]
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kind: Kind = "fusions"


def check_free(kind: Kind, name: str, *, force: bool = False) -> None:
    """See whether an entry of that name can be added.

    Raises ConfigError when it cannot be a name, when it is there already (and ``force`` is not
    set), or when a file that is read later defines the same name.
    """
    if not is_alias(name):
        raise ConfigError(
            f"{name!r} is no name: only letters, digits, dot, - and _, not ending in .gguf."
        )
    layers, what = load_registry().layers(kind, name), kind.removesuffix("s")
    _check_not_hidden(what, name, layers, user_file())
    if layers and not force:
        raise ConfigError(
            f"There is a {what} {name!r} already ({layers[-1]}). Choose another name, or "
            "overrule it with --force."
        )


def check_name(name: str, mark: str, *, force: bool = False) -> None:
    """See whether a fusion of that name can be written; to be asked before long work.

    Raises ConfigError when it cannot be a name, when it is there already without the mark (and
    ``force`` is not set), or when a file that is read later defines the same name.
    """
    if not is_alias(name):
        raise ConfigError(f"{name!r} is no name: only letters, digits, dot, - and _.")
    registry, path = load_registry(), user_file()
    layers = registry.layers("fusions", name)
    _check_not_hidden("fusion", name, layers, path)
    is_ours = str(path) in layers and _has_mark(read(path), name, mark)
    if layers and not (force or is_ours):
        raise ConfigError(
            f"There is a fusion {name!r} already ({layers[0]}). Choose another --name, or "
            "replace it with --force."
        )


def _check_not_hidden(what: str, name: str, layers: Sequence[str], path: Path) -> None:
    """Raises ConfigError when a file that is read after the user's has a say in the entry."""
    hiding = [file for file in layers if file not in (str(path), BUILTIN_ORIGIN)]
    if hiding:
        raise ConfigError(
            f"{hiding[-1]} has a {what} {name!r}, which would hide one in {path}. "
            "Choose another name."
        )


def write_entry(entry: RegistryEntry) -> Path:
    """Write the entry into the user's file, in place of one of its name; returns the file.

    Raises ConfigError for a key that models.toml does not know and for a file that would not be
    read again, InputError when it cannot be written. The old file stays as it is then.
    """
    path = user_file()
    if unknown := sorted(entry.values.keys() - _KEYS[entry.kind].keys()):
        raise ConfigError(
            f"models.toml of this version has no key {', '.join(unknown)}; nothing was written."
        )
    save(path, with_entry(read(path), entry))
    return path


def write_default(name: str) -> Path:
    """Make the fusion of that name the default in the user's file; returns the file.

    Raises as ``write_entry``, and ConfigError when a file that is read later names another default.
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
        raise ConfigError(f"{path} cannot be added to: {error}.") from error
    if not is_right:
        raise ConfigError(f'{path} cannot be added to; write `default = "{name}"` at its top.')
    save(path, new)
    registry = load_registry()
    if registry.default_fusion != name:
        raise ConfigError(
            f"{path} names {name!r} now, but {registry.default_origin} overrules it with "
            f"{registry.default_fusion!r}; change it there, too."
        )
    return path


def with_entry(text: str, entry: RegistryEntry) -> str:
    """The text of a models.toml with the entry in it, all else as it was.

    Raises ConfigError when that cannot be done.
    """
    try:
        document = tomlkit.parse(text if text.endswith("\n") or not text else f"{text}\n")
        for name, values in entry.sources.items():
            _put(document, "sources", name, _table(values, ()))
        _put(document, entry.kind, entry.name, _table(entry.values, entry.notes))
        new = tomlkit.dumps(document).rstrip("\n") + "\n"
        before, after = tomllib.loads(text), tomllib.loads(new)
    except (TOMLKitError, tomllib.TOMLDecodeError, AttributeError, TypeError) as error:
        raise ConfigError(f"{user_file()} cannot be added to: {error}.") from error
    before.setdefault(entry.kind, {})[entry.name] = _plain(entry.values)
    if entry.sources:
        before.setdefault("sources", {}).update(entry.sources)
    if after != before:
        raise ConfigError(
            f"{user_file()} is written in a way that cannot be added to; "
            f"put each entry under a header of its own: [{entry.kind}.NAME]."
        )
    return new


def sources_of(
    models: Mapping[str, Path], n_ctx: int | None = None
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Which entries of models.toml stand for loaded models, and the entries that are missing.

    ``models`` maps the names of sources to their files. Returns the name in models.toml of each,
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
    """Put the text in the place of the user's file, at once and only if it can be read again.

    Raises ConfigError where it cannot, InputError when the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text, check=lambda new: _check(new, path))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def _put(document: tomlkit.TOMLDocument, kind: str, name: str, table: Table) -> None:
    """Set a table of "sources" or "fusions", where it was or else at the end of the file."""
    tables = document.get(kind)
    if tables is not None and name in tables:
        for key, item in _behind_last_key(tables[name]):
            table.value.append(key, item)
        tables[name] = table
        return
    if document.as_string().strip():
        document.add(tomlkit.nl())
    tail = tomlkit.table(is_super_table=True)
    tail.add(name, table)
    document.append(kind, tail)


def _behind_last_key(table: Table) -> list[tuple[None, Item]]:
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
    """The values as TOML has them: lists for tuples, inline tables for mappings."""
    return {key: _toml(value) for key, value in values.items()}


def _toml(value: Any) -> Any:
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update(value)
        return table
    return list(value) if isinstance(value, tuple) else value


def read(path: Path) -> str:
    """The text of the user's file, empty where there is none; raises ConfigError."""
    return TomlFile.read(path, str(path)).text if path.exists() else ""


def _has_mark(text: str, name: str, mark: str) -> bool:
    """Whether the fusion of that name has a comment line that is the mark."""
    tables = tomlkit.parse(text).get("fusions", {})
    lines = tables[name].as_string().splitlines() if name in tables else []
    return f"# {mark}" in (line.strip() for line in lines)


def _check(new: Path, path: Path) -> None:
    """Raise ConfigError where ``new``, which is to become ``path``, cannot be read again."""
    try:
        load_registry(new)
    except ConfigError as error:
        message = str(error).replace(str(new), str(path))
        raise ConfigError(f"{message} Nothing was written.") from error


def _is_file_of(spec: SourceSpec, file: Path) -> bool:
    """Whether the file is that of the source."""
    own = spec.local_path
    if own is None:
        own = hub.cached(str(spec.repo), spec.file, spec.revision, spec.quant)
    return own is not None and own.exists() and file.exists() and own.samefile(file)


_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
_BETWEEN = re.compile(r"\s*(#.*)?")  # an empty line or a comment


def remove_entry(name: str, kind: Kind | None = None) -> tuple[Path, Kind]:
    """Take a source or fusion out of the user's file; returns the file and which it was.

    Raises ConfigError when there is none in that file (built-in ones cannot be removed), when both
    have that name and ``kind`` does not tell, or when others need it.
    """
    registry, path = load_registry(), user_file()
    text = read(path)
    tables = tomllib.loads(text)
    kinds = [each for each in KINDS if each == (kind or each) and name in tables.get(each, {})]
    if not kinds:
        raise ConfigError(_why_not(registry, tables, name, path))
    if len(kinds) > 1:
        raise ConfigError(
            f"{path} has a source and a fusion {name!r}. Say which: --source or --fusion."
        )
    try:
        save(path, without_entry(text, kinds[0], name))
    except ConfigError as error:
        raise ConfigError(_needed(registry, kinds[0], name) or str(error)) from error
    return path, kinds[0]


def without_entry(text: str, kind: Kind, name: str) -> str:
    """The text of a models.toml without one of its entries.

    Comments above the header stay, and those behind the last key: they may be about what follows.
    Raises ConfigError when it cannot be taken out.
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
        f"{user_file()} is written in a way that {name!r} cannot be taken out of; "
        "remove it by hand."
    )


def _candidates(text: str, kind: Kind, name: str) -> Iterator[str]:
    """Texts without the entry if its end is where it seems to be, the likeliest first."""
    lines = text.splitlines(keepends=True)
    headers = [(i, m[1]) for i, line in enumerate(lines) if (m := _HEADER.fullmatch(line.strip()))]
    for start, header in headers:
        if re.sub(r"[\"'\s]", "", header) != f"{kind}.{name}":
            continue
        for end in [*(i for i, _ in headers if i > start), len(lines)]:
            last = end  # behind the last key
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
    before, behind = lines[:start], lines[stop:]
    if before and not before[-1].strip() and not (behind and behind[0].strip()):
        before.pop()
    return before + behind


def _filled(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables without empty "sources" and "fusions"."""
    return {key: value for key, value in tables.items() if value != {} or key not in KINDS}


def _why_not(registry: Registry, tables: dict[str, Any], name: str, path: Path) -> str:
    """Why there is nothing to remove."""
    layers = [file for kind in KINDS for file in registry.layers(kind, name)]
    if layers and layers[-1] == BUILTIN_ORIGIN:
        return f"{name!r} is built in and cannot be removed; only what is in {path} can."
    if layers:
        return f"{name!r} is defined in {layers[-1]}, not in {path}; remove it there."
    known = [each for kind in KINDS for each in tables.get(kind, {})]
    return f"There is no {name!r} in {path}{nearest(name, known)}."


def _needed(registry: Registry, kind: Kind, name: str) -> str | None:
    """Who needs the entry, and what to do; None when that is not why it cannot go."""
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
        f"Source {name!r} is used by {noun} {listed}. Remove that first, or take the source out of "
        "it. Nothing was removed."
    )
