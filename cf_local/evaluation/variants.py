"""Variants: the ways to answer that an evaluation compares.

Written as a mode and what differs from the settings at hand: ``cool score=nll weight.ash=2``, or
``cool sources=ash,birch`` for some of the sources.
What can be set is read off the fields of ``Settings`` and ``Sampling``, so a new field needs
nothing here.
"""

import shlex
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cf_local.errors import InputError
from cf_local.registry.toml import nearest
from cf_local.types import MODES, Sampling, Settings

WEIGHT = "weight."
SOURCES = "sources"
_FUSED: tuple[Any, ...] = ("rerank", "cool", "cool+r")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to answer, with all its settings; ``name`` is what tables call it.

    ``sources`` are those that take part, None for all; weights are in their order.
    """

    name: str
    settings: Settings
    sources: tuple[str, ...] | None = None


def alone(settings: Settings, sources: Sequence[str]) -> list[Variant]:
    """Each source alone, under its name."""
    return [Variant(name, replace(settings, mode="single", single=name)) for name in sources]


def default_variants(settings: Settings, sources: Sequence[str]) -> list[Variant]:
    """Each source alone, and every way to fuse them."""
    fused = [Variant(mode, replace(settings, mode=mode)) for mode in _FUSED]
    return alone(settings, sources) + fused


def parse_variant(text: str, settings: Settings, sources: Sequence[str]) -> Variant:
    """A variant from "MODE key=value ...", over ``settings``; its name is the text itself.

    Raises InputError for a mode, key or value that does not exist.
    """
    mode, *pairs = _words(text)
    if mode not in MODES:
        raise InputError(
            f"variant {text!r}: it must begin with a mode, one of {', '.join(MODES)}"
            f"{nearest(mode, MODES)}."
        )
    values: dict[str, Any] = {"mode": mode}
    sampling: dict[str, Any] = {}
    weights: dict[str, float] = {}
    part: tuple[str, ...] | None = None
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"variant {text!r}: write {pair!r} as key=value.")
        if key == SOURCES:
            part = tuple(_source(text, name, sources) for name in value.split(","))
            continue
        if key.startswith(WEIGHT):
            weights[_source(text, key.removeprefix(WEIGHT), sources)] = _value(
                text, key, value, float
            )
            continue
        if key not in _KEYS:
            known = [*_KEYS, SOURCES, *(WEIGHT + name for name in sources)]
            raise InputError(
                f"variant {text!r}: there is no setting {key!r}{nearest(key, known)}. "
                f"There are {', '.join(known)}."
            )
        owner, kind = _KEYS[key]
        (values if owner is Settings else sampling)[key] = _value(text, key, value, kind)
    values["weights"] = _weights(text, weights, part, settings, sources)
    if sampling:
        values["sampling"] = replace(settings.sampling, **sampling)
    try:
        return Variant(" ".join(text.split()), replace(settings, **values), part)
    except InputError as error:
        raise InputError(f"variant {text!r}: {error}") from error


def distinct(variants: Sequence[Variant]) -> list[Variant]:
    """The variants, each once. Raises InputError when two different ones share a name."""
    named: dict[str, Variant] = {}
    for variant in variants:
        if named.setdefault(variant.name, variant) != variant:
            raise InputError(f"Two different variants are called {variant.name!r}.")
    return list(named.values())


def is_alone(variant: Variant) -> bool:
    """Whether one source speaks alone: the baseline of the fused ones."""
    return variant.settings.mode == "single"


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"variant {text!r}: {error}.") from error
    return words or [""]


def _source(text: str, name: str, sources: Sequence[str]) -> str:
    if name not in sources:
        raise InputError(
            f"variant {text!r}: no source is named {name!r}{nearest(name, sources)}; "
            f"there are {', '.join(sources)}."
        )
    return name


def _weights(
    text: str,
    given: Mapping[str, float],
    part: Sequence[str] | None,
    settings: Settings,
    sources: Sequence[str],
) -> tuple[float, ...] | None:
    """Weights of the sources that take part: those given and 1, else those of the settings."""
    names = sources if part is None else part
    for name in given:
        _source(text, name, names)
    if given:
        return tuple(given.get(name, 1.0) for name in names)
    if settings.weights is None:
        return None
    known = dict(zip(sources, settings.weights, strict=True))
    return tuple(known[name] for name in names)


def _value(text: str, key: str, value: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(value)
    except (ValueError, KeyError):
        raise InputError(f"variant {text!r}: {key} cannot be {value!r}.") from None


_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_READERS: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: lambda text: _SWITCH[text.lower()],
}


def _reader(hint: Any) -> Callable[[str], Any] | None:
    """How a field of this type is read from text, None for what no single word can say."""
    if get_origin(hint) in (Union, types.UnionType):
        plain = [part for part in get_args(hint) if part is not types.NoneType]
        return _reader(plain[0]) if len(plain) == 1 else None
    if get_origin(hint) is Literal:  # Settings itself checks the choice
        return _reader(type(get_args(hint)[0]))
    return _READERS.get(hint)


def _keys() -> dict[str, tuple[type, Callable[[str], Any]]]:
    """What can be set, with the class it belongs to and how it is read; the mode comes first."""
    found: dict[str, tuple[type, Callable[[str], Any]]] = {}
    for owner in (Settings, Sampling):
        hints = get_type_hints(owner)
        for each in fields(owner):
            if (read := _reader(hints[each.name])) is not None and each.name != "mode":
                found[each.name] = (owner, read)
    return found


_KEYS = _keys()
