"""Calibration: which way to fuse suits a task, or which source alone, beyond chance.

The questions are divided into two halves. On the SEARCH half, many ways to fuse are tried and one
is chosen. On the CONFIRM half, which plays no part in that choice, it must beat the best source
alone (exact McNemar test). Otherwise that source is recommended: the floor. So however many ways
are tried, noise is recommended in at most 2.5% of runs (``scripts/calibration_noise.py`` counts).

Nothing here runs a model: verdicts come from a function, which a simulation can replace.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cf_local.errors import InputError
from cf_local.evaluation.marks import Counted, Evaluate, Marks, Verdict
from cf_local.evaluation.search_space import SearchSpace
from cf_local.evaluation.summary import Comparison, Share, share
from cf_local.evaluation.tasks.task import Item
from cf_local.evaluation.variants import Variant

Reason = Literal["confirmed", "nothing above", "not confirmed", "a group falls"]
Unit = Literal["questions", "words"]

ALPHA = 0.05
MIN_ITEMS = 20
MIN_GROUP = 20
_MIN_RUNG = 20  # questions before anything is dropped
_MAX_ROUNDS = 3  # of trying the neighbours of what is best so far


@dataclass(frozen=True, slots=True)
class Tried:
    """The result of one variant on the search half; a dropped one was tried on less of it."""

    variant: Variant
    accuracy: Share
    is_alone: bool
    is_dropped: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is recommended, and why.

    ``best_alone`` is the best source on both halves together. ``chosen`` is the fused variant that
    the search half chose, None if none was better than the best source there. ``recommended`` is
    one of these two. ``versus`` and ``groups`` compare ``chosen`` with ``best_alone`` on the
    confirm half; ``accuracy`` has both there, by name, and ``alone`` every source on both halves.
    ``falling`` names groups in which ``chosen`` is worse beyond chance. ``unit`` is what shares and
    comparisons count; ``n_search`` and ``n_confirm`` count questions, or texts.
    """

    recommended: Variant
    reason: Reason
    best_alone: Variant
    chosen: Variant | None
    versus: Comparison | None
    accuracy: Mapping[str, Share]
    alone: Mapping[str, Share]
    groups: Mapping[str, Comparison]
    falling: tuple[str, ...]
    tried: tuple[Tried, ...]
    n_search: int
    n_confirm: int
    unit: Unit = "questions"

    @property
    def is_fused(self) -> bool:
        """Whether a fusion is recommended rather than a source alone."""
        return self.reason == "confirmed"


class Calibration:
    """One calibration; after an interruption, ``tried`` still returns what was found."""

    def __init__(
        self,
        space: SearchSpace,
        items: Sequence[Item],
        evaluate: Evaluate,
        *,
        seed: int = 0,
        on_stage: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``seed`` draws the halves; ``on_stage`` gets a description of each stage at its start.

        Raises InputError for fewer than two sources or too few questions.
        """
        check_enough(space, items, MIN_ITEMS, "questions", "a few hundred")
        self._space, self._on_stage = space, on_stage
        self._search, self._confirm = halves(items, seed)
        self._marks = Marks(evaluate)
        self._alone = space.alone()
        self._raced: dict[str, Variant] = {}  # all fused variants that were started
        self._finished: list[Variant] = []  # those that answered the whole search half

    def run(self) -> Outcome:
        """Search, confirm, and return what follows from it."""
        n_search, n_confirm = len(self._search), len(self._confirm)
        self._on_stage(f"search half ({n_search} questions): each source alone")
        self._marks.fill(self._alone, self._search)
        chosen = self._find()
        finding = chosen.name if chosen else "no fusion was above the best source"
        self._on_stage(f"confirm half ({n_confirm} questions): {finding}")
        self._marks.fill([*self._alone, *([chosen] if chosen else [])], self._confirm)
        outcome = confirm(
            self._marks, self._alone, chosen, self._search, self._confirm, min_group=MIN_GROUP
        )
        return replace(outcome, tried=self.tried())

    def tried(self) -> tuple[Tried, ...]:
        """All variants that were started, with the part of the search half that they answered."""
        finished = {variant.name for variant in [*self._alone, *self._finished]}
        found = []
        for variant in [*self._alone, *self._raced.values()]:
            if verdicts := self._marks.known(variant, self._search):
                is_alone = variant in self._alone
                is_dropped = variant.name not in finished
                found.append(Tried(variant, share(verdicts), is_alone, is_dropped))
        return tuple(found)

    # ---- The search half

    def _find(self) -> Variant | None:
        """The fused variant worth confirming, None if none is better than the best source alone."""
        self._race(self._space.first(), "modes, and sets of sources")
        favourite = self._favourite()
        accuracy = {v.name: _smoothed(self._marks.of(v, self._search)) for v in self._alone}
        for _ in range(_MAX_ROUNDS):
            bases = self._bases(favourite)
            near = [other for base in bases for other in self._space.near(base, accuracy)]
            if not self._race(near, f"around {', and around '.join(base.name for base in bases)}"):
                break
            former, favourite = favourite, self._favourite()
            if favourite == former:
                break
        return favourite

    def _bases(self, favourite: Variant | None) -> list[Variant]:
        """The variants whose neighbours to try: the favourite, and the most often right one."""
        best = max(self._finished, key=self._rank, default=None)
        return list(dict.fromkeys(v for v in (favourite, best) if v is not None))

    def _race(self, variants: Sequence[Variant], what: str) -> bool:
        """Let new variants answer more and more questions; each time the better half goes on.

        Returns False if none is new.
        """
        alive = list({v.name: v for v in variants if v.name not in self._raced}.values())
        if not alive:
            return False
        self._on_stage(f"search half: {len(alive)} ways to fuse, {what}")
        self._raced |= {variant.name: variant for variant in alive}
        n_all = len(self._search)
        for n_items in [n for n in (n_all // 4, n_all // 2) if n >= _MIN_RUNG]:
            self._marks.fill(alive, self._search[:n_items])
            alive = self._survivors(alive, self._search[:n_items])
        self._marks.fill(alive, self._search)
        self._finished += alive
        return True

    def _survivors(self, alive: list[Variant], items: Sequence[Item]) -> list[Variant]:
        """The better half and the defaults, in their order.

        Those that are worse than the best source beyond chance are left out.
        """
        best = self._marks.best(self._alone, items)
        hopeful = [v for v in alive if not self._marks.versus(best, v, items).is_better(ALPHA)]
        ranked = sorted(hopeful, key=lambda v: self._rank(v, items), reverse=True)
        kept = ranked[: (len(alive) + 1) // 2]
        return [v for v in hopeful if v in kept or self._space.n_changes(v) == 0]

    def _favourite(self) -> Variant | None:
        best = self._marks.best(self._alone, self._search)
        return favourite(
            self._marks, self._space, best, self._finished, self._search, n_tried=len(self._raced)
        )

    def _rank(self, variant: Variant, items: Sequence[Item] | None = None) -> tuple[float, int]:
        """The key to sort by: right answers, then closeness to the defaults."""
        n_right = self._marks.n_right(variant, self._search if items is None else items)
        return n_right, -self._space.n_changes(variant)


def favourite(
    marks: Counted,
    space: SearchSpace,
    best_alone: Variant,
    fused: Sequence[Variant],
    items: Sequence[Item],
    *,
    n_tried: int,
) -> Variant | None:
    """The simplest fused variant that is worth confirming, or one that beats it beyond chance.

    Worth confirming is what beats the best source beyond chance or, if nothing does, what beats it
    at all. So a change that gains little is not made, and with few items none is. ``n_tried`` are
    all variants that could have won by chance.
    """
    right = {variant.name: marks.n_right(variant, items) for variant in fused}
    to_beat = marks.n_right(best_alone, items)
    above = [v for v in fused if right[v.name] > to_beat]
    pool = [v for v in above if marks.versus(v, best_alone, items).is_better(ALPHA)] or above
    if not pool:
        return None
    simplest = min(pool, key=lambda v: (space.n_changes(v), -right[v.name]))
    alpha = ALPHA / n_tried  # Bonferroni
    better = [v for v in pool if marks.versus(v, simplest, items).is_better(alpha)]
    return min(better, key=lambda v: (-right[v.name], space.n_changes(v)), default=simplest)


def confirm(
    marks: Counted,
    alone: Sequence[Variant],
    chosen: Variant | None,
    search_half: Sequence[Item],
    confirm_half: Sequence[Item],
    *,
    min_group: int,
    unit: Unit = "questions",
) -> Outcome:
    """What follows for the variant that the search half chose; all verdicts must be known.

    It must not be worse in any group of at least ``min_group`` items.
    """
    both = [*search_half, *confirm_half]
    best = marks.best(alone, both)
    outcome = Outcome(
        recommended=best,
        reason="nothing above",
        best_alone=best,
        chosen=chosen,
        versus=None,
        accuracy={v.name: marks.share(v, confirm_half) for v in (best, chosen) if v},
        alone={v.name: marks.share(v, both) for v in alone},
        groups={},
        falling=(),
        tried=(),
        n_search=len(search_half),
        n_confirm=len(confirm_half),
        unit=unit,
    )
    if chosen is None:
        return outcome
    versus = marks.versus(chosen, best, confirm_half)
    groups = {
        group: marks.versus(chosen, best, items)
        for group, items in _by_group(confirm_half).items()
        if len(items) >= min_group
    }
    outcome = replace(outcome, versus=versus, groups=groups, falling=falling(groups))
    if not versus.is_better(ALPHA):
        return replace(outcome, reason="not confirmed")
    if outcome.falling:
        return replace(outcome, reason="a group falls")
    return replace(outcome, reason="confirmed", recommended=chosen)


def _by_group(items: Sequence[Item]) -> dict[str, list[Item]]:
    """The items of each group; nothing if there is only one group."""
    names = sorted({item.group for item in items})
    if len(names) < 2:
        return {}
    return {name: [item for item in items if item.group == name] for name in names}


def check_enough(
    space: SearchSpace, items: Sequence[Item], least: int, unit: str, more: str
) -> None:
    """Raise InputError for fewer than two sources, or fewer than ``least`` items."""
    if len(space.names) < 2:
        raise InputError("One source alone leaves nothing to calibrate; name two or more.")
    if len(items) < least:
        raise InputError(
            f"{len(items)} {unit} are too few to calibrate on; at least {least} are needed, and "
            f"{more} show more."
        )


def halves(items: Sequence[Item], seed: int) -> tuple[list[Item], list[Item]]:
    """Two halves drawn by ``seed``, each with half of every group, to within one question.

    The first is in random order, so that its beginning represents all of it.
    """
    rng = random.Random(seed)
    by_group: dict[str, list[Item]] = {}
    for item in items:
        by_group.setdefault(item.group, []).append(item)
    dealt = [i for group in by_group.values() for i in rng.sample(group, len(group))]
    search, confirm = dealt[::2], dealt[1::2]
    rng.shuffle(search)
    return search, confirm


def expected(space: SearchSpace, items: Sequence[Item], seed: int) -> Counter[str]:
    """About how many answers of each mode a calibration takes: what it takes if all are right."""
    counts: Counter[str] = Counter()

    def all_right(variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
        for variant in variants:
            counts[variant.settings.mode] += len(items)
            yield from ((variant.name, item.id, 1.0) for item in items)

    Calibration(space, items, all_right, seed=seed).run()
    return counts


def falling(groups: Mapping[str, Comparison], alpha: float = ALPHA) -> tuple[str, ...]:
    """Groups with more lost than won beyond chance, corrected for their number (Holm)."""
    found = []
    by_p = sorted(groups.items(), key=lambda entry: entry[1].p_value)
    for n_left, (name, versus) in zip(range(len(by_p), 0, -1), by_p, strict=True):
        if versus.p_value * n_left >= alpha:
            break
        if versus.lost > versus.won:
            found.append(name)
    return tuple(found)


def _smoothed(verdicts: Sequence[float]) -> float:
    """How often a source is right, never 0 or 1."""
    return (sum(verdicts) + 0.5) / (len(verdicts) + 1)
