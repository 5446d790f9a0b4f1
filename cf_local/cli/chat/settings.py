"""The settings of answers as a user of the chat names them: ``/set temperature 0.7``."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cf_local.errors import InputError
from cf_local.registry.toml import nearest
from cf_local.runtime.fusion import Fusion
from cf_local.types import MODES, SCORES, SEGMENTS, WEIGHINGS, Settings

Parse = Callable[[str, Fusion], Any]

_ON = {"on": True, "yes": True, "true": True, "1": True}
_SWITCH = _ON | {"off": False, "no": False, "false": False, "0": False}
_NONE = ("off", "none", "default")


def switch(name: str, value: str) -> bool:
    """A setting that is on or off."""
    if value.lower() not in _SWITCH:
        raise InputError(f"{name} is on or off, not {value!r}.")
    return _SWITCH[value.lower()]


def _whole(name: str) -> Parse:
    def parse(value: str, _fusion: Fusion) -> int:
        try:
            return int(value)
        except ValueError:
            raise InputError(f"{name} is a whole number, not {value!r}.") from None

    return parse


def _number(name: str) -> Parse:
    def parse(value: str, _fusion: Fusion) -> float:
        try:
            return float(value)
        except ValueError:
            raise InputError(f"{name} is a number, not {value!r}.") from None

    return parse


def _switch(name: str) -> Parse:
    return lambda value, _fusion: switch(name, value)


def _word(value: str, _fusion: Fusion) -> str:
    return value


def _single(value: str, _fusion: Fusion) -> str | None:
    return None if value in _NONE else value


def _stop(value: str, fusion: Fusion) -> tuple[str, ...]:
    """What the fusion stops at anyway, and the user's text."""
    return fusion.settings.stop if value in _NONE else (*fusion.settings.stop, value)


def _weights(value: str, fusion: Fusion) -> tuple[float, ...] | None:
    """One weight per source, from "ash=2 birch=0.5"; 1 for those not named."""
    if value in _NONE:
        return None
    weights = {source.info.name: 1.0 for source in fusion.sources}
    for part in value.split():
        name, _, number = part.rpartition("=")
        if name not in weights:
            raise InputError(
                f"weights: {part!r} names no source; write SOURCE=NUMBER for any of "
                f"{', '.join(weights)}, or off."
            )
        weights[name] = _number(f"The weight of {name}")(number, fusion)
    return tuple(weights.values())


_PARSERS: Mapping[str, Parse] = {
    **dict.fromkeys(("mode", "score", "segments", "weighing"), _word),
    **{name: _whole(name) for name in ("segment_words", "segment_limit", "max_tokens", "seed")},
    **{name: _number(name) for name in ("temperature", "top_p", "min_p")},
    **{name: _switch(name) for name in ("repetition_guard", "speculation")},
    "single": _single,
    "stop": _stop,
    "weights": _weights,
}
_SAMPLING = ("temperature", "top_p", "min_p", "seed")
NAMES = tuple(_PARSERS)
"""The settings that ``/set`` knows."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "mode": MODES,
    "score": SCORES,
    "segments": SEGMENTS,
    "weighing": WEIGHINGS,
    "repetition_guard": ("on", "off"),
    "speculation": ("on", "off"),
}
"""The values of those that have few."""


def changed(settings: Settings, fusion: Fusion, name: str, value: str) -> Settings:
    """The settings with one of them changed. Raises InputError that says what is allowed."""
    if name not in _PARSERS:
        raise InputError(f"There is no setting {name!r}{nearest(name, NAMES)}. /set lists them.")
    if not value:
        raise InputError(f"Give {name} a value: /set {name} VALUE.")
    parsed = _PARSERS[name](value, fusion)
    if name in _SAMPLING:
        new = replace(settings, sampling=replace(settings.sampling, **{name: parsed}))
    else:
        new = replace(settings, **{name: parsed})
        if name == "single" and parsed is not None:
            new = replace(new, mode="single")  # as --only does
    fusion.speakers(new)
    return new


def listed(settings: Settings, fusion: Fusion) -> list[tuple[str, str]]:
    """Each setting with its value, as it could be given to ``/set``."""
    return [(name, _value(settings, fusion, name)) for name in NAMES]


def _value(settings: Settings, fusion: Fusion, name: str) -> str:
    value = getattr(settings.sampling if name in _SAMPLING else settings, name)
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "weights" and value is not None:
        names = (source.info.name for source in fusion.sources)
        return " ".join(f"{n}={weight:g}" for n, weight in zip(names, value, strict=True))
    if name == "stop":
        return " ".join(map(repr, value)) or "off"
    return "off" if value is None else str(value)
