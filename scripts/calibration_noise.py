"""Count how often a calibration recommends a fusion on simulated verdicts.

    python scripts/calibration_noise.py noise    no fusion is better: how often is one recommended?
    python scripts/calibration_noise.py power    one is 10 points better: how often is it found?

Each verdict is a coin with the accuracy of its variant. Independent errors: a coin for every
variant and question. Correlated errors: with probability one half, all variants share one draw of
the question (its difficulty). There are three sources; the calibration is that of the command.
"""

import argparse
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from cf_local.evaluation.calibration import Calibration, Outcome
from cf_local.evaluation.search_space import SearchSpace
from cf_local.evaluation.statistics import wilson
from cf_local.evaluation.tasks.task import Item
from cf_local.evaluation.variants import Variant
from cf_local.settings import Settings
from cf_local.types import RawText

NAMES = ("one", "two", "three")
SIZES = (60, 200, 600)
GAIN = 0.1


class World:
    """Simulated verdicts on ``n_items`` questions.

    ``accuracy`` gives that of a variant, ``shared`` how often one verdict is drawn for all.
    """

    def __init__(
        self, accuracy: Callable[[Variant], float], shared: float, n_items: int, seed: int
    ) -> None:
        self._accuracy, self._shared, self._n_items, self._seed = accuracy, shared, n_items, seed
        self._common = np.random.default_rng([seed, 0]).random(n_items)
        self._known: dict[str, list[float]] = {}

    def evaluate(
        self, variants: Sequence[Variant], items: Sequence[Item]
    ) -> Iterator[tuple[str, str, float]]:
        """Verdicts that depend only on the names of variant and item."""
        for variant in variants:
            if variant.name not in self._known:
                self._known[variant.name] = self._verdicts(variant)
            known = self._known[variant.name]
            yield from ((variant.name, item.id, known[int(item.id)]) for item in items)

    def _verdicts(self, variant: Variant) -> list[float]:
        rng = np.random.default_rng([self._seed, 1 + zlib.crc32(variant.name.encode())])
        is_shared = rng.random(self._n_items) < self._shared
        draws = np.where(is_shared, self._common, rng.random(self._n_items))
        found: list[float] = (draws < self._accuracy(variant)).astype(float).tolist()
        return found


def calibrate(accuracy: Callable[[Variant], float], shared: float, n: int, seed: int) -> Outcome:
    """One calibration in such a world, on questions in two groups."""
    items = [Item(str(i), RawText("?"), "", group="ab"[i % 2]) for i in range(n)]
    world = World(accuracy, shared, n, seed)
    return Calibration(SearchSpace(Settings(), NAMES), items, world.evaluate, seed=seed).run()


def equal(variant: Variant, *, share: float) -> float:
    """Sources and fusions are all equally good."""
    return share


def unequal(variant: Variant, *, share: float) -> float:
    """The first source is as good as all fusions, the others are 5 points worse."""
    return share - 0.05 * (variant.settings.only in NAMES[1:])


def fusing_helps(variant: Variant, *, share: float) -> float:
    """Every fusion is better than the sources."""
    return share + GAIN * (variant.settings.mode != "single")


def one_helps(variant: Variant, *, share: float) -> float:
    """Only ``cool`` without the third source is better."""
    return share + GAIN * (variant.name == "cool sources=one,two")


def outcome(accuracy: Callable[[Variant], float], shared: float, n_items: int, seed: int) -> str:
    """What one run recommends: the source alone, or the name of a fusion."""
    found = calibrate(accuracy, shared, n_items, seed)
    return found.recommended.name if found.is_fused else "floor"


def main() -> None:
    """Parse the command line and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", choices=["noise", "power"])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    worlds = (equal, unequal) if given.figure == "noise" else (fusing_helps, one_helps)
    start = time.perf_counter()
    with ProcessPoolExecutor(given.jobs) as pool:
        for world in worlds:
            print(f"{world.__name__}: {world.__doc__.strip()}")
            for shared in (0.0, 0.5):
                for n_items in SIZES:
                    for share in (0.3, 0.6, 0.9) if given.figure == "noise" else (0.3, 0.6):
                        one = partial(outcome, partial(world, share=share), shared, n_items)
                        names = Counter(pool.map(one, range(given.runs), chunksize=20))
                        print(line(n_items, share, shared, names), flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


def line(n_items: int, share: float, shared: float, names: Counter[str]) -> str:
    """One row: how many runs recommended a fusion, and which most often."""
    n_runs, n_floor = names.total(), names.pop("floor", 0)
    n_fused = n_runs - n_floor
    low, high = wilson(n_fused, n_runs)
    errors = "correlated" if shared else "independent"
    return (
        f"  {n_items:3} questions, {100 * share:.0f}% right, {errors:11}: a fusion in {n_fused} of "
        f"{n_runs} runs, {100 * n_fused / n_runs:.2f}% ({100 * low:.2f}-{100 * high:.2f})"
        f"; {', '.join(f'{name} {n}' for name, n in names.most_common(2))}"
    )


if __name__ == "__main__":
    main()
