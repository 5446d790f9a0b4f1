"""Every setting that a command line would use, with its value and where the value comes from."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import click
from click.core import ParameterSource

from cf_local import hub
from cf_local.cli.options import check_weights, key_of
from cf_local.registry.model_names import distinct, spec_of
from cf_local.registry.registry import (
    BUILTIN_ORIGIN,
    FUSION_KEYS,
    SOURCE_KEYS,
    FusionSpec,
    Registry,
    SourceSpec,
)
from cf_local.settings import OPTIONS, PAPER, Settings

UNSET = {
    "context": "4096, or less if the model was trained with less",
    "gpu_layers": "-1 (all, if there is a GPU)",
    "quant": "Q4_K_M, or the nearest one",
    "overlap": "measured after the first answer",
    "revision": "main",
    "template": "the one in the file",
    "threads": "as many as other programs leave free",
}
"""What applies when no value is given."""
_CACHE_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")
_CHOOSE_MODELS = {"fusion", "model"}
_SOURCE_ORDER = sorted(SOURCE_KEYS, key=[field.name for field in fields(SourceSpec)].index)
_NOT_SHOWN = {"description"}  # text, not a setting


@dataclass(frozen=True, slots=True)
class Given:
    """The value of an option, and the flag or environment variable that gave it."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A row of `config show`: a setting of ``section``; ``value`` None means none is given."""

    section: str
    key: str
    value: Any
    origin: str


def given_options(context: click.Context) -> dict[str, Given | None]:
    """The shared options of a command by key; None for options that are not given."""
    found: dict[str, Given | None] = {}
    for option in context.command.params:
        name = option.name or ""
        if not isinstance(option, click.Option) or option.is_eager or not option.expose_value:
            continue
        source = context.get_parameter_source(name)
        origins = {
            ParameterSource.COMMANDLINE: option.opts[-1],
            ParameterSource.ENVIRONMENT: str(option.envvar),
        }
        key = key_of(option)
        if source in origins:
            found[key] = Given(context.params[name], origins[source])
        else:
            found[key] = None
    return found


def settings(
    registry: Registry,
    options: Mapping[str, Given | None],
    fusion: str | None,
    models: Sequence[str],
) -> Iterator[SettingRow]:
    """All rows: this machine, the fusion (or the ``models``), how it answers, its sources.

    Raises ConfigError for unknown names, InputError for weights of unknown sources.
    """
    given = {key: option for key, option in options.items() if option is not None}
    yield from _machine(registry, given)
    if models:
        names = list(models)
        section = "models"
        yield SettingRow(section, "sources", names, given["model"].origin)
        specs = distinct([spec_of(registry, name) for name in names])
        spec = None
    else:
        spec = registry.fusion(fusion)
        section = f"fusion {spec.name}"
        if fusion is None:
            yield SettingRow(section, "name", spec.name, f"default of {registry.default_origin}")
        else:
            yield SettingRow(
                section, "name", spec.name, _origin(given, "fusion", "the command line")
            )
        specs = [registry.source(name) for name in spec.sources]
    yield from _fusing(registry, section, spec, [each.name for each in specs], given)
    yield from _answering(options)
    for each in specs:
        yield from _source(registry, each, given)


def _machine(registry: Registry, given: Mapping[str, Given]) -> Iterator[SettingRow]:
    """Settings that do not depend on what is loaded."""
    section, around = "this machine", hub.settings()
    yield SettingRow(section, "files", list(registry.files), "lowest first")
    origin = next((name for name in _CACHE_VARIABLES if os.environ.get(name)), BUILTIN_ORIGIN)
    yield SettingRow(section, "cache_folder", str(around.cache_folder), origin)
    origin = "HF_ENDPOINT" if os.environ.get("HF_ENDPOINT") else BUILTIN_ORIGIN
    yield SettingRow(section, "endpoint", around.endpoint, origin)
    if "offline" in given:
        yield SettingRow(section, "offline", given["offline"].value, given["offline"].origin)
    else:
        origin = "HF_HUB_OFFLINE" if around.is_offline else BUILTIN_ORIGIN
        yield SettingRow(section, "offline", around.is_offline, origin)


def _fusing(
    registry: Registry,
    section: str,
    spec: FusionSpec | None,
    names: Sequence[str],
    given: Mapping[str, Given],
) -> Iterator[SettingRow]:
    """The keys of a fusion; flags and variables override the files."""
    values = Settings() if spec is None else spec.settings
    overridden = dict(given)
    if "only" in given and "mode" not in given:
        overridden["mode"] = Given("single", given["only"].origin)
    if "weight" in given:
        check_weights(given["weight"].value, names)
        overridden["weights"] = given["weight"]
    if "paper" in given and given["paper"].value:
        for key, value in PAPER.items():
            overridden.setdefault(key, Given(value, given["paper"].origin))
    if spec is not None:
        place = registry.origin("fusions", spec.name, "sources")
        yield SettingRow(section, "sources", spec.sources, str(place or BUILTIN_ORIGIN))
    for key in OPTIONS:
        if key in overridden:
            yield SettingRow(section, key, overridden[key].value, overridden[key].origin)
            continue
        place = registry.origin("fusions", spec.name, key) if spec else None
        yield SettingRow(section, key, values.get(key), str(place or BUILTIN_ORIGIN))


def _answering(options: Mapping[str, Given | None]) -> Iterator[SettingRow]:
    """Settings that only flags and variables can give."""
    shown_elsewhere = {*FUSION_KEYS, *SOURCE_KEYS, *_CHOOSE_MODELS, "offline", "weight", "json"}
    for key, option in options.items():
        if key in shown_elsewhere:
            continue
        if option is None:
            yield SettingRow("answers", key, None, BUILTIN_ORIGIN)
        else:
            yield SettingRow("answers", key, option.value, option.origin)


def _source(
    registry: Registry, spec: SourceSpec, given: Mapping[str, Given]
) -> Iterator[SettingRow]:
    for key in _SOURCE_ORDER:
        if key in _NOT_SHOWN:
            continue
        section = f"source {spec.name}"
        if key in given:
            yield SettingRow(section, key, given[key].value, given[key].origin)
            continue
        place = registry.origin("sources", spec.name, key)
        value = getattr(spec, key)
        origin = spec.origin if place is None and key == "file" else str(place or BUILTIN_ORIGIN)
        yield SettingRow(section, key, value, origin)


def _origin(given: Mapping[str, Given], key: str, otherwise: str) -> str:
    return given[key].origin if key in given else otherwise
