"""Variants: the ways to answer that an evaluation compares.

A variant is written as a mode and what differs from the given settings: ``cool score=nll
weight.ash=2``, ``cool weights=equal``, or ``cool sources=ash,birch`` for some of the sources. Its
keys are those of the table of settings.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cf_local.errors import InputError
from cf_local.registry.toml import nearest
from cf_local.settings import OPTIONS, Option, Settings
from cf_local.types import MODES, Weighting

WEIGHT = "weight."
SOURCES = "sources"
_FUSED: tuple[Any, ...] = ("rerank", "cool", "cool+r")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to answer, with all its settings; ``name`` is its name in tables.

    ``sources`` are those that take part, None for all.
    """

    name: str
    settings: Settings
    sources: tuple[str, ...] | None = None


def alone(settings: Settings, sources: Sequence[str]) -> list[Variant]:
    """Each source alone, under its name."""
    return [Variant(name, replace(settings, mode="single", only=name)) for name in sources]


def default_variants(settings: Settings, sources: Sequence[str]) -> list[Variant]:
    """Each source alone, and every way to fuse them."""
    fused = [Variant(mode, replace(settings, mode=mode)) for mode in _FUSED]
    return alone(settings, sources) + fused


def parse_variant(text: str, settings: Settings, sources: Sequence[str]) -> Variant:
    """A variant from "MODE key=value ...", based on ``settings``; its name is the text itself.

    Raises InputError for a mode, key or value that does not exist.
    """
    mode, *pairs = _words(text)
    if mode not in MODES:
        raise InputError(
            f"variant {text!r}: it must begin with a mode, one of {', '.join(MODES)}"
            f"{nearest(mode, MODES)}."
        )
    values: dict[str, Any] = {"mode": mode}
    weights: dict[str, float] = {}
    part: tuple[str, ...] | None = None
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"variant {text!r}: write {pair!r} as key=value.")
        if key == SOURCES:
            part = tuple(_source(text, name, sources) for name in value.split(","))
        elif key.startswith(WEIGHT):
            name = _source(text, key.removeprefix(WEIGHT), sources)
            weights[name] = _parsed(text, key, OPTIONS["temperature"], value)
        elif key in _KEYS:
            values[key] = _parsed(text, key, OPTIONS[key], value)
        else:
            known = [*_KEYS, SOURCES, *(WEIGHT + name for name in sources)]
            raise InputError(
                f"variant {text!r}: unknown setting {key!r}{nearest(key, known)}. "
                f"Known settings are {', '.join(known)}."
            )
    names = sources if part is None else part
    values["weights"] = _weights(text, values.get("weights"), weights, names, settings)
    try:
        return Variant(" ".join(text.split()), settings.with_options(values), part)
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
    """Whether one source answers alone: the baseline of the fused variants."""
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
            f"the sources are {', '.join(sources)}."
        )
    return name


def _weights(
    text: str,
    weighting: Mapping[str, float] | Weighting | None,
    given: Mapping[str, float],
    names: Sequence[str],
    settings: Settings,
) -> Mapping[str, float] | Weighting:
    """Weights of the sources that take part: those of the variant, else those of the settings."""
    if isinstance(weighting, Mapping):
        given = {**weighting, **given}
    elif weighting and given:
        raise InputError(f"variant {text!r}: give weights={weighting}, or the weight of a source.")
    for name in given:
        _source(text, name, names)
    if given:
        return given
    if weighting or isinstance(settings.weights, str):
        return weighting or settings.weights
    return {name: weight for name, weight in settings.weights.items() if name in names}


def _parsed(text: str, key: str, option: Option, value: str) -> Any:
    try:
        return option.parse(value)
    except InputError:
        raise InputError(f"variant {text!r}: {key} cannot be {value!r}.") from None


_KEYS = tuple(name for name, option in OPTIONS.items() if name != "mode" and option.kind != "texts")
