"""Options that several commands share: which models, and how they are fused."""

import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cf_local import settings
from cf_local.cli import completing
from cf_local.cli.help import BASICS, FUSION, MACHINE, SAMPLING, SharedOption
from cf_local.errors import InputError
from cf_local.planning.memory import bytes_of
from cf_local.settings import Settings
from cf_local.structured import ResponseFormat
from cf_local.types import DEVICE_CHOICES, KV_TYPES, MOST_THREADS


class Size(click.ParamType[int]):
    """A number of bytes: 4GB and 4G are 4,000,000,000 bytes, 4GiB is 4,294,967,296."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number of bytes that a text stands for."""
        if isinstance(value, int):
            return value
        n_bytes = bytes_of(str(value))
        if n_bytes is None:
            self.fail(f"{value!r} is not a size; write it as 500MB or 4GB.", param, ctx)
        return n_bytes


class OnOff(click.ParamType[bool]):
    """A switch, given as the word on or off."""

    name = "on|off"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bool:
        """True for "on", False for "off"."""
        if isinstance(value, bool):
            return value
        if value not in ("on", "off"):
            self.fail(f"{value!r} is neither on nor off.", param, ctx)
        return value == "on"


PREFIX = "CF_LOCAL_"
"""Prefix of the environment variables that set shared options: CF_LOCAL_GPU_LAYERS sets
--gpu-layers. A flag overrides its variable."""
_NO_VARIABLE = {"only", "weight", "stop"}  # these belong to one question or one set of sources

Command = Callable[..., Any]
Option = Callable[[Command], Command]


class Words(click.ParamType[str]):
    """A text; a variable may have several, with quotes around spaces."""

    name = "text"

    def split_envvar_value(self, rv: str) -> list[str]:
        """Words as a shell splits them."""
        try:
            return shlex.split(rv)
        except ValueError:
            return rv.split()


class ModelName(Words):
    """A model as a user names it; a variable may name several, with quotes around spaces."""

    name = "model"

    def split_envvar_value(self, rv: str) -> list[str]:
        """One name if a file has that name, otherwise words as a shell splits them."""
        with suppress(OSError, ValueError, RuntimeError):
            if Path(rv).expanduser().is_file():
                return [rv]
        return super().split_envvar_value(rv)


_basic = partial(click.option, cls=SharedOption, group=BASICS)
_fusing = partial(click.option, cls=SharedOption, group=FUSION)
_machine = partial(click.option, cls=SharedOption, group=MACHINE)
_OF_EVERY_ANSWER = {"max_tokens", "stop"}  # of one source, too

_NAME_OPTIONS: tuple[Option, ...] = (
    _basic(
        "--fusion",
        metavar="NAME",
        shell_complete=completing.fusions,
        help="A fusion of models.toml (see `list`).",
    ),
    _basic(
        "--model",
        "models",
        type=ModelName(),
        metavar="NAME|REPO|FILE",
        multiple=True,
        shell_complete=completing.models,
        help="A source of models.toml, org/repo[:QUANT] on the hub or a .gguf file, instead of a "
        "fusion; repeat for more.",
    ),
)
_COMPUTE_OPTIONS: tuple[Option, ...] = (
    _machine(
        "--context",
        "n_ctx",
        type=click.IntRange(8, 2**31 - 1),
        help="Context length in tokens; by default 4096, or less if trained with less.",
    ),
    _machine(
        "--threads",
        "n_threads",
        type=click.IntRange(1, MOST_THREADS),
        help="CPU threads per source; by default, as many as other programs leave free.",
    ),
    _machine(
        "--gpu-layers",
        "n_gpu_layers",
        type=click.IntRange(-1),
        help="Layers of each model to put on a GPU; -1 for all.",
    ),
    _machine(
        "--device",
        type=click.Choice(DEVICE_CHOICES),
        help="Compute on a GPU if there is one (auto), only on the CPU, or only on a GPU.",
    ),
    _machine(
        "--memory",
        "memory_bytes",
        type=Size(),
        metavar="SIZE",
        help="Main memory the sources may use, such as 4GB; by default, all that is available.",
    ),
    _machine("--offline", is_flag=True, help="Send nothing; use only files on this machine."),
)
_PLAN_OPTIONS: tuple[Option, ...] = (
    *_COMPUTE_OPTIONS,
    _machine(
        "--kv-type",
        type=click.Choice(KV_TYPES),
        help="Type of the KV cache; q8_0 takes half the memory. By default, chosen to fit.",
    ),
)
_RAY_OPTIONS: tuple[Option, ...] = (
    _machine(
        "--ray",
        metavar="ADDRESS",
        help="Load the sources on the nodes of this Ray cluster: HOST:PORT, auto, or local (see "
        "docs/cluster.md). Ray is for trusted networks.",
    ),
)
_LOAD_OPTIONS: tuple[Option, ...] = (
    _machine(
        "--overlap/--no-overlap",
        default=None,
        help="Let sources compute at the same time; by default, decided by measurement after the "
        "first answer.",
    ),
    _machine(
        "--fit",
        type=OnOff(),
        default="on",
        metavar="[on|off]",
        standard="on",
        help="Arrange the sources to fit into memory (see `plan`).",
    ),
)


def _setting_option(setting: settings.Option) -> Option:
    """The command-line option for a row of the settings table."""
    flag = "--" + setting.name.replace("_", "-")
    group = SAMPLING if setting.is_sampling else FUSION
    if setting.name in _OF_EVERY_ANSWER:
        group = BASICS
    standard = None if setting.default in (None, ()) else _text_of(setting)
    option = partial(click.option, cls=SharedOption, group=group, standard=standard)
    if setting.kind == "switch":
        off = "--no-" + setting.name.replace("_", "-")
        return option(f"{flag}/{off}", default=None, help=setting.help)
    if setting.kind == "numbers":
        return option(
            {"weights": "--weight"}.get(setting.name, flag),
            setting.name,
            type=Words(),
            metavar=f"{setting.key}=NUMBER",
            multiple=True,
            callback=partial(_numbers, setting),
            help=f"{setting.help.rstrip('.')}; repeat for more.",
        )
    if setting.kind == "texts":
        return option(
            flag, metavar="TEXT", multiple=True, help=f"{setting.help.rstrip('.')}; repeatable."
        )
    if setting.kind == "source":
        return option(flag, metavar="SOURCE", shell_complete=completing.sources, help=setting.help)
    return option(flag, type=_type_of(setting), help=setting.help)


def _text_of(setting: settings.Option) -> str:
    is_number = setting.kind == "number"
    return f"{setting.default:g}" if is_number else setting.text(setting.default)


def _numbers(
    setting: settings.Option, _context: click.Context, _option: click.Parameter, given: tuple[str]
) -> Mapping[str, float] | str | None:
    """The value of a setting of kind "numbers"; None if it is not given."""
    if len(given) == 1 and given[0] in setting.choices:
        return given[0]
    try:
        return setting.numbers(given) or None
    except InputError as error:
        raise click.BadParameter(str(error)) from None


def _type_of(setting: settings.Option) -> "click.ParamType[Any]":
    if setting.kind == "choice":
        return click.Choice(setting.choices)
    low, high = (bound if math.isfinite(bound) else None for bound in (setting.low, setting.high))
    if setting.kind == "number":
        return click.FloatRange(low, high)
    return click.IntRange(None if low is None else int(low), None if high is None else int(high))


_SETTING_OPTIONS = tuple(map(_setting_option, settings.OPTIONS.values()))
_FUSION_OPTIONS: tuple[Option, ...] = (
    *_SETTING_OPTIONS,
    _fusing(
        "--paper", is_flag=True, default=None, help="The paper's score and weights, unless given."
    ),
    _basic("--system", metavar="TEXT", help="Instructions for all sources."),
)


THINK: Option = click.option(
    "--think/--no-think",
    "thinks",
    default=None,
    help="Tell reasoning models whether to think first.",
)
"""The option that asks reasoning models to think, or not to."""
_FORMAT_OPTIONS: tuple[Option, ...] = (
    _basic("--schema", metavar="FILE", help="Answer in JSON that matches this JSON schema."),
    _basic("--grammar", metavar="FILE", help="Answer in text that matches this GBNF grammar."),
    _basic("--json-object", is_flag=True, help="Answer with a JSON object."),
)


def model_options(command: Command) -> Command:
    """Add the options that select models and say how to load them."""
    return _add(command, (*_NAME_OPTIONS, *_PLAN_OPTIONS, *_LOAD_OPTIONS))


def ray_options(command: Command) -> Command:
    """Add the option that puts the sources onto a cluster."""
    return _add(command, _RAY_OPTIONS)


def name_options(command: Command) -> Command:
    """Add the options that select models."""
    return _add(command, _NAME_OPTIONS)


def load_options(command: Command) -> Command:
    """Add the options that say how to load models, without those that select them."""
    return _add(command, (*_PLAN_OPTIONS, *_LOAD_OPTIONS))


def compute_options(command: Command) -> Command:
    """Add the options that say how to load any model, also one that makes vectors."""
    return _add(command, _COMPUTE_OPTIONS)


def set_options(command: Command) -> Command:
    """Add the options that select models and plan their memory, without a load."""
    return _add(command, (*_NAME_OPTIONS, *_PLAN_OPTIONS))


def setting_options(command: Command) -> Command:
    """Add an option for each setting of a fusion in models.toml; no environment variables."""
    for option in reversed(_SETTING_OPTIONS):
        command = option(command)
    return command


def fusion_options(command: Command) -> Command:
    """Add the options that say how to fuse an answer."""
    return _add(command, _FUSION_OPTIONS)


def chosen_models(options: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The fusion or the models to load, removed from ``options``; a flag overrides a variable."""
    fusion, models = options.pop("fusion"), options.pop("models")
    if fusion and models:
        context = click.get_current_context()
        by_flag = {n for n in ("fusion", "models") if is_flag_given(context, n)}
        if by_flag == {"models"}:
            fusion = None
        elif by_flag == {"fusion"}:
            models = ()
    return fusion, models


def is_flag_given(context: click.Context, name: str) -> bool:
    """Whether a parameter is from the command line, not from a variable or a default."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def format_options(command: Command) -> Command:
    """Add the options that set the form of the answer."""
    return _add(command, _FORMAT_OPTIONS)


def format_of(options: dict[str, Any]) -> ResponseFormat | None:
    """The form of the answer; removes the values of ``format_options`` from ``options``.

    Call it before a model is loaded, to report an unusable form at once. Raises UsageError for
    options that cannot be combined, InputError for a file that cannot be used.
    """
    given = {key: options.pop(key) for key in ("schema", "grammar", "json_object")}
    chosen = [f"--{key.replace('_', '-')}" for key, value in given.items() if value]
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} cannot be combined.")
    if chosen and options.get("stop"):
        raise click.UsageError(
            f"--stop would break the form that {chosen[0]} requires. Leave one out."
        )
    if given["schema"]:
        return _read_format(given["schema"], ResponseFormat.json_schema)
    if given["grammar"]:
        return _read_format(given["grammar"], ResponseFormat.gbnf)
    return ResponseFormat.json_object() if given["json_object"] else None


def _read_format(file: str, parse: Callable[[str], ResponseFormat]) -> ResponseFormat:
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{file} cannot be read: {reason}.") from None
    try:
        return parse(text)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def shows_colour() -> bool:
    """Whether stdout is a terminal and NO_COLOR is not set."""
    refused = click.get_current_context().find_root().color is False
    return sys.stdout.isatty() and not refused


def settings_of(defaults: Settings, names: Sequence[str], options: dict[str, Any]) -> Settings:
    """The ``defaults`` of a fusion of these sources, changed by the options of the command line.

    ``options`` are the values of ``fusion_options`` without ``system`` (``paper`` sets what other
    options leave open); None or an empty tuple
    means that an option is not given. Raises InputError for values that make no sense.
    """
    given = {key: value for key, value in options.items() if value not in (None, ())}
    if given.pop("paper", False):
        given = {**settings.PAPER, **given}
    rest = {key: given.pop(key) for key in list(given) if key not in settings.OPTIONS}
    check_weights(given.get("weights"), names)
    if "stop" in given:
        given["stop"] = (*defaults.stop, *given["stop"])
    return replace(defaults, **rest).with_options(given)


def check_weights(weights: Mapping[str, float] | str | None, names: Sequence[str]) -> None:
    """Raise InputError for weights of other sources than ``names``."""
    for name in weights if isinstance(weights, Mapping) else ():
        if name not in names:
            raise InputError(f"--weight {name}: name one of the sources {', '.join(names)}.")


def _add(command: Command, options: Sequence[Option]) -> Command:
    for option in reversed(options):
        command = option(command)
        # click collects the parameters of a command here, the newest last
        added: click.Option = command.__click_params__[-1]  # type: ignore[attr-defined]
        key = key_of(added)
        if key not in _NO_VARIABLE:
            added.envvar = f"{PREFIX}{key.upper()}"
            added.show_envvar = True
    return command


def key_of(option: click.Parameter) -> str:
    """The name of an option in models.toml and in environment variables, such as "gpu_layers"."""
    return option.opts[-1].lstrip("-").replace("-", "_")
