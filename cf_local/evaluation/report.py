"""The report of an evaluation: one HTML file that needs no network.

All text of models and questions is escaped by the template engine. Plots are inline SVG, drawn in
the template ``report.html``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from cf_local.evaluation.runner import Result
from cf_local.evaluation.store import Record
from cf_local.evaluation.summary import Share, Summary, VariantSummary
from cf_local.evaluation.tasks.task import Item


@dataclass(frozen=True, slots=True)
class Change:
    """A question with different verdicts on a fused variant and on the best source alone."""

    item: Item
    before: Result
    after: Result


@dataclass(frozen=True, slots=True)
class Changes:
    """What one variant fixed and broke compared with the best source alone."""

    variant: str
    fixed: tuple[Change, ...]
    broken: tuple[Change, ...]


def render(
    summary: Summary, record: Record, items: Sequence[Item], results: Sequence[Result]
) -> str:
    """The report as HTML; ``record`` is the description of the run by ``store.record_of``."""
    from jinja2 import Environment, StrictUndefined  # imported here: other commands do not need it

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "p_value": p_value, "wins": wins}
    source = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        summary=summary,
        record=record,
        groups=_groups(summary),
        changes=changes(summary, items, results),
    )


def changes(
    summary: Summary, items: Sequence[Item], results: Sequence[Result]
) -> tuple[Changes, ...]:
    """What each fused variant fixed and broke; empty without a source alone."""
    if summary.best_alone is None:
        return ()
    found = {(result.variant, result.item): result for result in results}
    return tuple(
        _changes(row.variant, summary.best_alone, items, found)
        for row in summary.rows
        if not row.is_alone
    )


def percent(value: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * value:.1f}%"


def p_value(value: float) -> str:
    """A p-value with the digits that matter."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def wins(row: VariantSummary) -> str:
    """How often each source won, most often first."""
    ordered = sorted(row.wins.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {n}" for name, n in ordered)


def _groups(summary: Summary) -> list[tuple[str, list[tuple[VariantSummary, Share]]]]:
    """Each group of questions with the share of every variant in it."""
    names = dict.fromkeys(name for row in summary.rows for name in row.groups)
    return [
        (name, [(row, row.groups[name]) for row in summary.rows if name in row.groups])
        for name in names
    ]


def _changes(
    variant: str,
    best: str,
    items: Sequence[Item],
    found: Mapping[tuple[str, str], Result],
) -> Changes:
    pairs = list(_differing(variant, best, items, found))
    return Changes(
        variant,
        tuple(pair for pair in pairs if pair.after.right > pair.before.right),
        tuple(pair for pair in pairs if pair.after.right < pair.before.right),
    )


def _differing(
    variant: str, best: str, items: Sequence[Item], found: Mapping[Any, Result]
) -> Iterator[Change]:
    for item in items:
        before, after = found.get((best, item.id)), found.get((variant, item.id))
        if before is not None and after is not None and before.right != after.right:
            yield Change(item, before, after)
