"""Taking an entry out of the user's ``models.toml``; what stands around it stays, byte for byte.

Lines are taken out, not the document written anew. What is left must be what a TOML reader finds
in the old text without the entry; otherwise nothing is touched.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from cf_local.errors import ConfigError
from cf_local.registry import edit as userfile
from cf_local.registry import registry as config
from cf_local.registry.edit import Kind
from cf_local.registry.registry import Registry
from cf_local.registry.toml import nearest

KINDS: tuple[Kind, ...] = ("sources", "fusions")
_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
_BETWEEN = re.compile(r"\s*(#.*)?")  # an empty line or a comment


def remove(name: str, kind: Kind | None = None) -> tuple[Path, Kind]:
    """Take a source or fusion out of the user's file; returns the file and which it was.

    Raises ConfigError when there is none in that file (built-in ones cannot be removed), when both
    have that name and ``kind`` does not tell, or when others need it.
    """
    registry, path = config.load_registry(), config.user_file()
    text = userfile.read(path)
    tables = tomllib.loads(text)
    kinds = [each for each in KINDS if each == (kind or each) and name in tables.get(each, {})]
    if not kinds:
        raise ConfigError(_why_not(registry, tables, name, path))
    if len(kinds) > 1:
        raise ConfigError(
            f"{path} has a source and a fusion {name!r}. Say which: --source or --fusion."
        )
    try:
        userfile.save(path, without(text, kinds[0], name))
    except ConfigError as error:
        raise ConfigError(_needed(registry, kinds[0], name) or str(error)) from error
    return path, kinds[0]


def without(text: str, kind: Kind, name: str) -> str:
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
        f"{config.user_file()} is written in a way that {name!r} cannot be taken out of; "
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
    if layers and layers[-1] == config.BUILTIN_ORIGIN:
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
