"""What walks along reference texts show: shares of right words, against the best source alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from cf_local.evaluation.summary import Share, Summary, VariantSummary
from cf_local.evaluation.tasks.task import Item
from cf_local.evaluation.variants import Variant, is_alone
from cf_local.evaluation.walk import Walk
from cf_local.evaluation.word_marks import WordMarks
from cf_local.types import SourceInfo


@dataclass(frozen=True, slots=True)
class WordSummary(Summary):
    """All variants on the ``n_words`` words of ``n_items`` texts; shares and wins count words.

    ``ceiling`` is the share of words that any source would have written, ``agreed`` that on which
    all sources say the same. ``n_no_room`` prompts did not fit and are left out; ``n_cut`` texts
    were read in part.
    """

    n_words: int
    ceiling: Share
    agreed: Share
    n_no_room: int
    n_cut: int


def summarize_words(
    task: str,
    variants: Sequence[Variant],
    items: Sequence[Item],
    walks: Sequence[Walk],
    sources: Sequence[SourceInfo],
) -> WordSummary | None:
    """The summary of walks along some of the ``items``; None if there is not one word."""
    read = {walk.item for walk in walks if walk.words}
    items = [item for item in items if item.id in read]
    if not items:
        return None
    marks = WordMarks(walks, sources)
    best = marks.best(alone, items) if (alone := [v for v in variants if is_alone(v)]) else None
    return WordSummary(
        task=task,
        n_items=len(items),
        best_alone=best.name if best else None,
        rows=tuple(_row(variant, best, items, marks) for variant in variants),
        n_words=sum(len(walk.words) for walk in walks),
        ceiling=marks.share_of(marks.any_right(), items),
        agreed=marks.share_of(marks.agreed(), items),
        n_no_room=len(walks) - len(items),
        n_cut=sum(0 < len(walk.words) < walk.n_words for walk in walks),
    )


def _row(
    variant: Variant, best: Variant | None, items: Sequence[Item], marks: WordMarks
) -> VariantSummary:
    groups = sorted({item.group for item in items})
    return VariantSummary(
        variant=variant.name,
        is_alone=is_alone(variant),
        accuracy=marks.share(variant, items),
        groups={
            name: marks.share(variant, [item for item in items if item.group == name])
            for name in (groups if groups != [""] else ())
        },
        versus=None if best in (None, variant) else marks.versus(variant, best, items),
        bytes_per_s=None,
        wins={} if is_alone(variant) else marks.wins(variant),
        n_cut=0,
        n_no_room=0,
    )
