"""Count how often a calibration recommends a fusion on simulated verdicts.

    python scripts/calibration_noise.py noise       no fusion is better: is one recommended?
    python scripts/calibration_noise.py power       one is 10 points better: is it found?
    python scripts/calibration_noise.py references  both, on simulated walks along texts

Each verdict is a coin with the accuracy of its variant. Independent errors: a coin for every
variant and question. Correlated errors: with probability one half, all variants share one draw of
the question (its difficulty). There are three sources; the calibration is that of the command.

A simulated walk has texts of 20 to 60 words. At each word the sources agree or each has its own
draft, and all score all drafts. Texts differ: in how often any draft is right and, as "moods", in
whose draft is then more often the right one.
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
from cf_local.evaluation.walk import Walk, Word
from cf_local.evaluation.word_calibration import calibrate_words
from cf_local.evaluation.word_marks import WordMarks
from cf_local.method.reranker import Matrix, decide
from cf_local.settings import Settings
from cf_local.types import Candidate, RawText, Score, SourceInfo

NAMES = ("one", "two", "three")
SIZES = (60, 200, 600)
GAIN = 0.1

N_TEXTS = (24, 72)
SOURCES = [SourceInfo(name, "", n_parameters=n) for n, name in enumerate(NAMES, start=2)]
WEIGHTS = Settings().weights_of(SOURCES)
WORLDS = {
    "equal": "sources and fusions are all equally good",
    "rival": "the first source and `cool` are equally good, where they differ; the others are not",
    "helps": "the sources find right drafts 10% likelier, in nats",
}


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


def walk(rng: np.random.Generator, name: str, world: str, mood: float) -> Walk:
    """A simulated walk in one of the WORLDS."""
    n_words, share = int(rng.integers(20, 61)), rng.beta(4, 3)
    favour = np.exp(rng.normal(0, mood, len(NAMES)))
    words = tuple(word(rng, share, favour, world) for _ in range(n_words))
    return Walk(name, n_words, words)


def word(rng: np.random.Generator, share: float, favour: Matrix, world: str) -> Word:
    """A simulated word: a draft is right with probability ``share``, and by ``favour`` whose."""
    n = 1 if rng.random() < 0.5 else len(NAMES)
    candidates = tuple(Candidate(b" word%d" % index, False) for index in range(n))
    nats, n_terms = (
        rng.gamma(2, 1, (len(NAMES), n)),
        rng.integers(1, 4, (len(NAMES), n)).astype(np.float64),
    )
    chances = favour[:n].copy()
    if world == "rival" and n > 1:
        winner = decide(scores_of(nats, n_terms), candidates, "mixture", WEIGHTS).winner
        chances *= [index in (0, winner) for index in range(n)]
    right = int(rng.choice(n, p=chances / chances.sum())) if rng.random() < share else None
    if world == "helps" and right is not None:
        nats[:, right] *= 1 - GAIN
    return Word(
        candidates,
        tuple(range(n)) if n > 1 else (0,) * len(NAMES),
        tuple(index == right for index in range(n)),
        scores_of(nats, n_terms) if n > 1 else (),
        tuple(Score(float(nll), 1) for nll in rng.gamma(2, 1, len(NAMES))),
    )


def scores_of(nats: Matrix, n_terms: Matrix) -> tuple[tuple[Score, ...], ...]:
    """The scores of a word from two arrays of shape (n_sources, n_candidates)."""
    return tuple(
        tuple(Score(float(nll), int(terms), 0.1) for nll, terms in zip(*rows, strict=True))
        for rows in zip(nats, n_terms, strict=True)
    )


def outcome_on_words(world: str, mood: float, n_texts: int, seed: int) -> str:
    """What one run on simulated walks recommends."""
    rng = np.random.default_rng([seed, n_texts])
    items = [Item(str(i), RawText("?"), "", group="ab"[i % 2]) for i in range(n_texts)]
    marks = WordMarks([walk(rng, item.id, world, mood) for item in items], SOURCES)
    found = calibrate_words(SearchSpace(Settings(), NAMES), items, marks, seed=seed)
    return found.recommended.name if found.is_fused else "floor"


def print_references(n_runs: int, jobs: int) -> None:
    """Print how often a fusion is recommended on reference texts."""
    with ProcessPoolExecutor(jobs) as pool:
        for world, about in WORLDS.items():
            print(f"{world}: {about}")
            for mood in (0.0, 1.0):
                for n_texts in N_TEXTS:
                    one = partial(outcome_on_words, world, mood, n_texts)
                    names = Counter(pool.map(one, range(n_runs), chunksize=5))
                    moods = ", with moods" if mood else ""
                    print(f"  {n_texts:3} texts{moods}: {counted(names)}", flush=True)


def main() -> None:
    """Parse the command line and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", choices=["noise", "power", "references"])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.figure == "references":
        print_references(given.runs, given.jobs)
        return
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
    errors = "correlated" if shared else "independent"
    return f"  {n_items:3} questions, {100 * share:.0f}% right, {errors:11}: {counted(names)}"


def counted(names: Counter[str]) -> str:
    """How many runs recommended a fusion, and which most often."""
    n_runs, n_floor = names.total(), names.pop("floor", 0)
    n_fused = n_runs - n_floor
    low, high = wilson(n_fused, n_runs)
    found = f"a fusion in {n_fused} of {n_runs} runs, {100 * n_fused / n_runs:.2f}%"
    interval = f"({100 * low:.2f}-{100 * high:.2f})"
    most = ", ".join(f"{name} {n}" for name, n in names.most_common(2))
    return f"{found} {interval}{'; ' if most else ''}{most}"


if __name__ == "__main__":
    main()
