"""What a calibration found, in words and as an entry of models.toml."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from cf_local.evaluation.calibration import Outcome, Unit
from cf_local.evaluation.search_space import CALIBRATED
from cf_local.evaluation.summary import Comparison, Share
from cf_local.evaluation.variants import Variant, is_alone
from cf_local.settings import Settings

_ANSWERS: Mapping[Unit, str] = {
    "questions": "answers {share} of {n} questions right",
    "words": "would write {share} of {n} words of the reference texts",
}
_ITEMS: Mapping[Unit, str] = {"questions": "questions", "words": "texts"}

MARK = "Written by `cf-local calibrate`; a later run of it may replace this entry."


def names_of(variant: Variant, all_names: tuple[str, ...]) -> tuple[str, ...]:
    """The sources that a variant needs, in order."""
    if is_alone(variant):
        return (variant.settings.only or all_names[0],)
    return variant.sources or all_names


def values_of(variant: Variant, names: Mapping[str, str]) -> dict[str, Any]:
    """The keys of a fusion in models.toml that answers as ``variant`` does.

    Of the defaults, only mode, score and weights are written, since those have changed before.
    ``names`` are the names in models.toml of the sources that the variant needs, in order.
    """
    default, settings = Settings(), variant.settings
    chosen = {key: getattr(settings, key) for key in CALIBRATED if hasattr(settings, key)}
    changed = {key: value for key, value in chosen.items() if value != getattr(default, key)}
    if is_alone(variant):
        fixed: dict[str, Any] = {}
    else:
        weights = settings.weights
        if not isinstance(weights, str):
            weights = {names[each]: weight for each, weight in weights.items()}
        fixed = {"score": settings.score, "weights": weights}
    return {"sources": tuple(names.values()), "mode": settings.mode, **changed, **fixed}


def sentence(outcome: Outcome, task: str, day: dt.date) -> str:
    """The evidence in one sentence, for the description of the fusion."""
    chosen, best = outcome.recommended.name, outcome.best_alone.name
    when = f"Calibrated {day.isoformat()} on {task}: "
    if outcome.is_fused:
        own, other = outcome.accuracy[chosen], outcome.accuracy[best]
        assert outcome.versus is not None
        return (
            f"{when}{chosen} {_answers(own, outcome.unit)} that played no part in its choice, "
            f"{best} alone {share_text(other)} ({p_text(outcome.versus)})."
        )
    own = outcome.alone[best]
    return f"{when}{best} alone {_answers(own, outcome.unit)}; no fusion was better beyond chance."


def verdict(outcome: Outcome) -> str:
    """What is recommended, and why, in readable sentences."""
    best, chosen = outcome.best_alone.name, outcome.chosen
    if chosen is None:
        return f"Recommended: {best} alone. On the search half no fusion was above the best source."
    assert outcome.versus is not None
    own, other = outcome.accuracy[chosen.name], outcome.accuracy[best]
    facts = (
        f"on {own.n} {outcome.unit} that played no part in the choice, {chosen.name!r} was right "
        f"on {share_text(own)}, {best} alone on {share_text(other)}: "
        f"won {outcome.versus.won}, lost {outcome.versus.lost}, {p_text(outcome.versus)}."
    )
    if outcome.reason == "confirmed":
        return f"Recommended: {chosen.name}. Confirmed: {facts}"
    if outcome.reason == "a group falls":
        falls = ", ".join(map(repr, outcome.falling))
        return (
            f"Recommended: {best} alone. {facts[0].upper()}{facts[1:]} "
            f"But it is worse beyond chance on {falls}."
        )
    return f"Recommended: {best} alone. Not beyond chance: {facts}"


def notes(outcome: Outcome, seed: int, models: Mapping[str, str], *, version: str) -> list[str]:
    """Comment lines for the entry: what was measured, and on what."""
    lines = [
        MARK,
        f"cf-local {version}, seed {seed}; {outcome.n_search} {_ITEMS[outcome.unit]} to search, "
        f"{outcome.n_confirm} to confirm; {len(outcome.tried)} ways to answer tried.",
    ]
    lines += [
        f"{name} alone: {share_text(found)} of all {found.n}"
        for name, found in outcome.alone.items()
    ]
    if outcome.chosen is not None and outcome.versus is not None:
        name, versus = outcome.chosen.name, outcome.versus
        lines.append(
            f"{name} on the confirm half: {share_text(outcome.accuracy[name])}; against "
            f"{outcome.best_alone.name} won {versus.won}, lost {versus.lost}, {p_text(versus)}"
        )
    lines += [
        f"group {group or '(none)'}: won {versus.won}, lost {versus.lost}, {p_text(versus)}"
        for group, versus in outcome.groups.items()
    ]
    return [*lines, *(f"{name}: {file}" for name, file in models.items())]


def _answers(share: Share, unit: Unit) -> str:
    return _ANSWERS[unit].format(share=share_text(share), n=share.n)


def share_text(share: Share) -> str:
    """A share with its interval: 97.0% (91.5-99.0)."""
    return f"{100 * share.value:.1f}% ({100 * share.low:.1f}-{100 * share.high:.1f})"


def p_text(versus: Comparison) -> str:
    """The p of a comparison: p = 0.012."""
    return "p < 0.001" if versus.p_value < 0.001 else f"p = {versus.p_value:.2g}"
