"""The report of an evaluation: one HTML file that needs no network.

All text of models and questions is escaped by the template engine. Plots are inline SVG, drawn in
the template ``report.html``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import Any

from cf_local.evaluation.runner import Result
from cf_local.evaluation.store import Record
from cf_local.evaluation.summary import Share, Summary, VariantSummary
from cf_local.evaluation.tasks.task import Item
from cf_local.evaluation.variants import Variant
from cf_local.evaluation.walk import Walk
from cf_local.evaluation.word_marks import WordMarks
from cf_local.evaluation.word_summary import WordSummary
from cf_local.method.boundary import words_of
from cf_local.types import SourceInfo

_MARKS = {(True, False): "fixed", (False, True): "broken", (False, False): ""}


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


@dataclass(frozen=True, slots=True)
class MarkedWord:
    """A word of a reference text: "fixed", "broken" or "", and who would have written what."""

    text: str
    mark: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class MarkedTexts:
    """Reference texts with the words that one variant fixed and broke."""

    variant: str
    texts: tuple[tuple[Item, tuple[MarkedWord, ...]], ...]


def render(
    summary: Summary, record: Record, items: Sequence[Item], results: Sequence[Result]
) -> str:
    """The report as HTML; ``record`` is the description of the run by ``store.record_of``."""
    return _page(summary, record, changes=changes(summary, items, results))


def render_words(
    summary: WordSummary,
    record: Record,
    variants: Sequence[Variant],
    items: Sequence[Item],
    walks: Sequence[Walk],
    sources: Sequence[SourceInfo],
) -> str:
    """The report on walks along reference texts as HTML (see ``render``)."""
    return _page(summary, record, marked=marked(summary, variants, items, walks, sources))


def _page(
    summary: Summary,
    record: Record,
    *,
    changes: Sequence[Changes] = (),
    marked: Sequence[MarkedTexts] = (),
) -> str:
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
        changes=changes,
        marked=marked,
        is_by_word=isinstance(summary, WordSummary),
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


def marked(
    summary: WordSummary,
    variants: Sequence[Variant],
    items: Sequence[Item],
    walks: Sequence[Walk],
    sources: Sequence[SourceInfo],
) -> tuple[MarkedTexts, ...]:
    """The texts in which each fused variant fixed or broke words; empty without a source alone."""
    by_name = {variant.name: variant for variant in variants}
    if summary.best_alone is None:
        return ()
    marks, best = WordMarks(walks, sources), by_name[summary.best_alone]
    texts = {item.id: item.accepted[0] for item in items}
    words = [word for walk in walks for word in words_of(texts[walk.item])[: len(walk.words)]]
    found = []
    for row in summary.rows:
        if not row.is_alone:
            mine = by_name[row.variant]
            all_marked = [
                MarkedWord(word, _MARKS[fixed, broken], before, after)
                for word, fixed, broken, before, after in zip(
                    words,
                    (marks.right(mine) & ~marks.right(best)).tolist(),
                    (marks.right(best) & ~marks.right(mine)).tolist(),
                    marks.texts(best),
                    marks.texts(mine),
                    strict=True,
                )
            ]
            found.append(_marked_texts(row, items, walks, all_marked))
    return tuple(found)


def _marked_texts(
    row: VariantSummary, items: Sequence[Item], walks: Sequence[Walk], words: Sequence[MarkedWord]
) -> MarkedTexts:
    """The texts that have a marked word; ``words`` are those of all walks."""
    by_id, rest, texts = {item.id: item for item in items}, iter(words), []
    for walk in walks:
        own = tuple(islice(rest, len(walk.words)))
        if any(word.mark for word in own):
            texts.append((by_id[walk.item], own))
    return MarkedTexts(row.variant, tuple(texts))


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
