"""What a calibration tries: fused variants, from the method's defaults outwards.

Each differs from ``cool`` with default settings and all sources in a few choices, which its name
lists. The choices are taken from the types, so that a new score is tried without a change here.
Left out: which variants are worth trying further (``calibration``).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

from cf_local import types
from cf_local.errors import InputError
from cf_local.evaluation.variants import SOURCES, WEIGHT, Variant, alone
from cf_local.settings import Settings

CALIBRATED = ("mode", "score", "segments", "segment_words", "weights")
"""The settings that a calibration chooses, as far as this version has them."""

_KNOWN = tuple(each.name for each in fields(Settings) if each.name in CALIBRATED)
_FUSED_MODES = ("cool", "rerank", "cool+r")
_MOST_FOR_PAIRS = 4  # sources; with more there are too many pairs
_CHOICES: Mapping[str, Sequence[Any]] = {
    "mode": _FUSED_MODES,
    "score": types.SCORES,
    "segments": types.SEGMENTS,
    "segment_words": (1, 2, 4),
}
_OF_SEGMENTS = tuple(key for key in ("segments", "segment_words") if key in _KNOWN)
_MODE_CHANGES = 3  # how many other changes a change of mode counts for: it costs time


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """All that can be tried with the sources ``names``, based on the settings ``base``.

    The calibrated settings start from their defaults, whatever ``base`` says about them.
    """

    base: Settings
    names: tuple[str, ...]

    def alone(self) -> list[Variant]:
        """Each source alone."""
        return alone(self._plain(), self.names)

    def first(self) -> list[Variant]:
        """All modes with all sources, and ``cool`` with some of them; first, ``cool`` with all."""
        modes = [self._variant({"mode": mode}, self.names) for mode in _FUSED_MODES]
        parts = [self._variant({"mode": "cool"}, part) for part in self._parts()]
        return [modes[0], *parts, *modes[1:]]

    def walked(self, learn: Callable[[Sequence[str]], Mapping[str, float]]) -> list[Variant]:
        """All that one walk along texts can tell apart: each score with each way to weigh.

        ``learn`` gives the weights that suit the texts, for all sources or some.
        """
        return [
            self._variant({"mode": "cool", "score": score, "weights": weights}, part)
            for part in (self.names, *self._parts())
            for weights in (*types.WEIGHTINGS, learn(part))
            for score in types.SCORES
        ]

    def near(self, variant: Variant, accuracy: Mapping[str, float]) -> list[Variant]:
        """All that differ from ``variant`` in one choice.

        The weights follow from the ``accuracy`` (0 to 1) of the sources alone.
        """
        chosen = {key: getattr(variant.settings, key) for key in _KNOWN}
        names = variant.sources or self.names
        found = []
        for changes in _changes(chosen, {name: accuracy[name] for name in names}):
            settings = {**chosen, **changes}
            if settings["mode"] == "rerank":  # whole answers have no segments
                settings |= {key: getattr(self._plain(), key) for key in _OF_SEGMENTS}
            try:
                found.append(self._variant(settings, names))
            except InputError:  # two choices that cannot be combined
                continue
        if len(names) > 2 and isinstance(chosen["weights"], str):
            found += [self._variant(chosen, part) for part in combinations(names, len(names) - 1)]
        return found

    def n_changes(self, variant: Variant) -> int:
        """How far a fused variant is from the defaults; 0 for ``cool`` with all sources."""
        plain = self._plain()
        changed = {k for k in _KNOWN if getattr(variant.settings, k) != getattr(plain, k)}
        n_left_out = len(self.names) - len(variant.sources or self.names)
        return len(changed) + n_left_out + (_MODE_CHANGES if "mode" in changed else 0)

    def _parts(self) -> list[tuple[str, ...]]:
        """Some of the sources: all but one, and pairs."""
        sizes = {len(self.names) - 1}
        if len(self.names) <= _MOST_FOR_PAIRS:
            sizes.add(2)
        return [
            part
            for size in sorted(sizes, reverse=True)
            if 1 < size < len(self.names)
            for part in combinations(self.names, size)
        ]

    def _plain(self) -> Settings:
        """The base, with defaults for the calibrated settings."""
        default = Settings()
        return replace(self.base, only=None, **{key: getattr(default, key) for key in _KNOWN})

    def _variant(self, changes: Mapping[str, Any], part: tuple[str, ...]) -> Variant:
        """The variant with these choices, named after those that are not the default."""
        plain = self._plain()
        settings = replace(plain, **changes)
        words = [str(settings.mode)]
        if part != self.names:
            words.append(f"{SOURCES}={','.join(part)}")
        for key in _KNOWN:
            value = getattr(settings, key)
            if value == getattr(plain, key) or key == "mode":
                continue
            if isinstance(value, Mapping):
                words += [f"{WEIGHT}{name}={weight:g}" for name, weight in value.items()]
            else:
                words.append(f"{key}={value}")
        return Variant(" ".join(words), settings, None if part == self.names else part)


def weights_of(accuracy: Mapping[str, float]) -> dict[str, float]:
    """Weights of sources that are right with these frequencies; the largest is 1.

    The log-odds of being right are negative for a source that is wrong more often than right,
    though wrong answers seldom agree. So a weight is log(1 + odds), which grows alike and stays
    above 0.
    """
    raw = {n: -math.log1p(-min(max(share, 0.005), 0.995)) for n, share in accuracy.items()}
    return {name: round(value / max(raw.values()), 2) or 0.01 for name, value in raw.items()}


def _changes(chosen: Mapping[str, Any], accuracy: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """What could be chosen differently, one thing at a time."""
    for key, values in _CHOICES.items():
        if key not in chosen or (key in _OF_SEGMENTS and chosen["mode"] == "rerank"):
            continue
        for value in values:
            if value != chosen[key]:
                yield {key: value}
    if not isinstance(chosen["weights"], str):
        return
    yield from ({"weights": kind} for kind in types.WEIGHTINGS if kind != chosen["weights"])
    weights = weights_of(accuracy)
    if len(set(weights.values())) > 1:
        yield {"weights": weights}
