"""Verdicts by variant and question, each computed once, and what can be counted with them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from cf_local.evaluation.summary import Comparison, Share, compare_verdicts, share
from cf_local.evaluation.tasks.task import Item
from cf_local.evaluation.variants import Variant

Verdict = tuple[str, str, float]
"""Name of a variant, id of an item, and how right the answer was (0 to 1)."""
Evaluate = Callable[[Sequence[Variant], Sequence[Item]], Iterable[Verdict]]
"""Answers every item by every variant."""


class Counted(Protocol):
    """What is known of some variants on some items, counted by question or by word."""

    def n_right(self, variant: Variant, items: Sequence[Item]) -> float:
        """How many are right."""

    def best(self, variants: Sequence[Variant], items: Sequence[Item]) -> Variant:
        """The variant that is right most often; a tie goes to the first."""

    def versus(self, one: Variant, other: Variant, items: Sequence[Item]) -> Comparison:
        """One variant compared with another."""

    def share(self, variant: Variant, items: Sequence[Item]) -> Share:
        """How often it is right, with an interval."""


class Marks(Counted):
    """The verdicts that ``evaluate`` has given so far. Raises KeyError for a missing one."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._right: dict[str, dict[str, float]] = {}

    def fill(self, variants: Sequence[Variant], items: Sequence[Item]) -> None:
        """Make sure that all verdicts are known."""
        for variant in variants:
            self._right.setdefault(variant.name, {})
        missing = [i for i in items if any(i.id not in self._right[v.name] for v in variants)]
        for name, item, right in self._evaluate(variants, missing):
            self._right[name][item] = right

    def of(self, variant: Variant, items: Sequence[Item]) -> list[float]:
        """All verdicts on the items, in their order."""
        right = self._right[variant.name]
        return [right[item.id] for item in items]

    def known(self, variant: Variant, items: Sequence[Item]) -> list[float]:
        """The known verdicts on the items."""
        right = self._right.get(variant.name, {})
        return [right[item.id] for item in items if item.id in right]

    def n_right(self, variant: Variant, items: Sequence[Item]) -> float:
        """Sum of the verdicts."""
        return sum(self.of(variant, items))

    def best(self, variants: Sequence[Variant], items: Sequence[Item]) -> Variant:
        """The variant with most right answers; a tie goes to the first."""
        return max(variants, key=lambda variant: self.n_right(variant, items))

    def versus(self, one: Variant, other: Variant, items: Sequence[Item]) -> Comparison:
        """One variant compared with another."""
        return compare_verdicts(self.of(one, items), self.of(other, items))

    def share(self, variant: Variant, items: Sequence[Item]) -> Share:
        """How often it is right, with an interval."""
        return share(self.of(variant, items))
