"""The results of an evaluation: shares of right answers, compared with the best source alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from cf_local.evaluation.runner import NO_ROOM, Result
from cf_local.evaluation.statistics import interval, mcnemar
from cf_local.evaluation.variants import Variant, is_alone


@dataclass(frozen=True, slots=True)
class Share:
    """Mean verdict of ``n`` answers with its 95% interval."""

    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Questions ``won`` and ``lost`` against another way to answer, and the exact McNemar p."""

    won: int
    lost: int
    p_value: float

    def is_better(self, alpha: float = 0.05) -> bool:
        """Whether more was won than lost, beyond chance."""
        return self.won > self.lost and self.p_value < alpha


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """The results of one variant. ``versus`` is None for the best source alone itself.

    ``bytes_per_s`` counts time after the prompt (None if there was none); ``wins`` is as in Result;
    ``n_cut`` answers ended for another reason than a stop, ``n_no_room`` prompts did not fit.
    """

    variant: str
    is_alone: bool
    accuracy: Share
    groups: Mapping[str, Share]
    versus: Comparison | None
    bytes_per_s: float | None
    wins: Mapping[str, int]
    n_cut: int
    n_no_room: int


@dataclass(frozen=True, slots=True)
class Summary:
    """All variants on the ``n_items`` questions that every one of them has answered.

    ``best_alone`` is the source that did best alone; a tie goes to the first.
    """

    task: str
    n_items: int
    best_alone: str | None
    rows: tuple[VariantSummary, ...]


def summarize(task: str, variants: Sequence[Variant], results: Sequence[Result]) -> Summary | None:
    """The summary of a run, finished or not; None before all have answered the first question."""
    by_variant: dict[str, dict[str, Result]] = {variant.name: {} for variant in variants}
    for result in results:
        by_variant[result.variant][result.item] = result
    answered = [set(found) for found in by_variant.values()]
    complete = set.intersection(*answered) if answered else set()
    if not complete:
        return None
    columns = {
        name: {item: result for item, result in found.items() if item in complete}
        for name, found in by_variant.items()
    }
    alone = [variant.name for variant in variants if is_alone(variant)]
    best = max(alone, key=lambda name: _total(columns[name]), default=None)
    rows = tuple(
        _row(variant, columns[variant.name], columns.get(best or "", {}), best)
        for variant in variants
    )
    return Summary(task, len(complete), best, rows)


def _row(
    variant: Variant, own: Mapping[str, Result], baseline: Mapping[str, Result], best: str | None
) -> VariantSummary:
    results = list(own.values())
    seconds = sum(result.seconds for result in results)
    wins: Counter[str] = Counter()
    for result in results:
        wins.update(result.wins)
    reasons = Counter(result.finish_reason for result in results)
    return VariantSummary(
        variant=variant.name,
        is_alone=is_alone(variant),
        accuracy=share([result.right for result in results]),
        groups=_groups(results),
        versus=None if best in (None, variant.name) else compare(own, baseline),
        bytes_per_s=sum(result.n_bytes for result in results) / seconds if seconds else None,
        wins=dict(sorted(wins.items())),
        n_cut=len(results) - reasons["stop"] - reasons[NO_ROOM],
        n_no_room=reasons[NO_ROOM],
    )


def share(verdicts: Sequence[float]) -> Share:
    """The mean verdict with its 95% interval."""
    return Share(len(verdicts), fmean(verdicts), *interval(verdicts))


def compare(own: Mapping[str, Result], baseline: Mapping[str, Result]) -> Comparison:
    """Results by item compared with those of the baseline for the same items."""
    return compare_verdicts(
        [result.right for result in own.values()], [baseline[item].right for item in own]
    )


def compare_verdicts(own: Sequence[float], baseline: Sequence[float]) -> Comparison:
    """Verdicts on some items compared with those of the baseline on the same items."""
    won = sum(mine > other for mine, other in zip(own, baseline, strict=True))
    lost = sum(mine < other for mine, other in zip(own, baseline, strict=True))
    return Comparison(won, lost, mcnemar(won, lost))


def _groups(results: Sequence[Result]) -> dict[str, Share]:
    names = sorted({result.group for result in results})
    if names == [""]:
        return {}
    return {name: share([r.right for r in results if r.group == name]) for name in names}


def _total(found: Mapping[str, Result]) -> float:
    return sum(result.right for result in found.values())
