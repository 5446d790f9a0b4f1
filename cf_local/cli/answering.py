"""Answers for a calibration, and on stderr how far it is and how long it will take."""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product

import click

from cf_local.evaluation import Item, Store, Task, Variant, run
from cf_local.evaluation.calibration import expected, halves
from cf_local.evaluation.marks import Verdict
from cf_local.evaluation.search_space import SearchSpace
from cf_local.progress import IsCancelled
from cf_local.runtime.fusion import Fusion

_N_TIMED = 2  # questions that the time is estimated from


class Answering:
    """Answers with the loaded sources, kept in the store; tells on stderr how far it is."""

    def __init__(self, fusion: Fusion, task: Task, store: Store, is_cancelled: IsCancelled) -> None:
        self._fusion, self._task, self._store = fusion, task, store
        self._is_cancelled = is_cancelled
        self._start = self._last_told = time.monotonic()
        self._n_done = 0
        self._expected = ""

    def __call__(self, variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
        """Answer every item by every variant, as ``Calibration`` asks for it."""
        for result in run(
            self._fusion, self._task, items, variants, self._store, is_cancelled=self._is_cancelled
        ):
            yield result.variant, result.item, result.right
            self._n_done += 1
            self._tell()

    def stage(self, text: str) -> None:
        """Say what comes next."""
        self.clear()
        click.echo(f"{text[0].upper()}{text[1:]}.", err=True)

    def estimate(self, space: SearchSpace, items: Sequence[Item], seed: int) -> None:
        """Say about how long it will take, from a few answers (which are kept)."""
        self.stage("estimating the time")
        timed, first = [*space.alone(), *space.first()], halves(items, seed)[0][:_N_TIMED]
        list(self(timed, first))
        longest: dict[str, float] = {}
        for variant, item in product(timed, first):
            found, mode = self._store.results[variant.name, item.id], variant.settings.mode
            longest[mode] = max(longest.get(mode, 0.0), found.seconds + found.prompt_seconds)
        counts = expected(space, items, seed)
        self._n_done, self._expected = 0, f" of about {counts.total()}"
        total_s = sum(longest[mode] * n_answers for mode, n_answers in counts.items())
        self.stage(f"about {counts.total()} answers, which takes about {_duration(total_s)}")

    def clear(self) -> None:
        """Wipe the line that tells how far it is."""
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)

    def _tell(self) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._last_told > 0.2:
            self._last_told = now
            spent = _duration(now - self._start)
            click.echo(
                f"\r\x1b[K{self._n_done} answers{self._expected}, {spent}", nl=False, err=True
            )


def _duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
