"""Whether sources gain from working at the same time, and what their passes cost: measured once.

A pass over one token reads all weights, and often one core reads as fast as two: then it is faster
to let sources work at the same time. This depends on the machine and on the format of the weights,
so it is measured, once for each set of models: after the first answer, never before it, and not
while other processes are busy. It changes no text (docs/speed.md).

Pass costs do decide, at near ties, what is written. So they are measured only on demand.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Protocol, runtime_checkable

from cf_local.errors import Cancelled
from cf_local.llama.threads import CORES
from cf_local.loading import measured
from cf_local.method.costs import PassCosts
from cf_local.progress import IsCancelled, never
from cf_local.types import SourceInfo

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32)  # tokens of the passes that are timed
_TRIALS = 3  # of each way, in turn; the fastest of each counts
_TINY_PASS_S = 0.001  # below this, waking a thread costs more than it saves
_GAIN = 0.9  # working together must take less than this share of the time, or it may be noise
_BUSY_CORES = 0.25  # used by other processes; with more, a measurement means nothing


@runtime_checkable
class Timed(Protocol):
    """A source whose passes can be timed."""

    @property
    def info(self) -> SourceInfo:
        """Its name and file."""

    def time_pass(self, n_tokens: int) -> float:
        """Seconds of a pass. Raises Cancelled if the pass was stopped."""


class MeasuredOverlap:
    """Whether the sources of some files gain from working at the same time, if that is known."""

    def __init__(self, files: Sequence[Path], n_threads: Sequence[int | None]) -> None:
        self._key = measured.key_of(*files, of=f"overlap {list(n_threads)}")

    @property
    def pays(self) -> bool | None:
        """Whether they gain; None if that was not measured yet."""
        known = measured.get(self._key).get("pays")
        return known if isinstance(known, bool) else None

    def measure(self, sources: Sequence[Timed]) -> None:
        """Measure it, and save the result unless other processes were busy meanwhile."""
        CORES.look()
        found = overlap_pays(sources)
        if CORES.look() <= _BUSY_CORES:
            measured.put(self._key, {"pays": found})


def overlap_pays(sources: Sequence[Timed]) -> bool:
    """Whether passes over one token take less time together than one after the other."""
    together_s, in_turn_s = [], []
    try:
        with ThreadPoolExecutor(len(sources)) as pool:
            for _ in range(_TRIALS):
                in_turn_s.append(sum(source.time_pass(1) for source in sources))
                # By the clock: of passes that a busy machine starts late, each alone looks short.
                start = perf_counter()
                list(pool.map(lambda source: source.time_pass(1), sources))
                together_s.append(perf_counter() - start)
    except RuntimeError as error:  # pools accept no more work
        raise Cancelled("Python is exiting.") from error
    is_tiny = min(in_turn_s) < _TINY_PASS_S * len(sources)
    return not is_tiny and min(together_s) < _GAIN * min(in_turn_s)


def known_costs(file: Path, n_threads: int) -> PassCosts | None:
    """What passes of a model cost, None unless that was measured."""
    record = measured.get(_costs_key(file, n_threads))
    try:
        return PassCosts.measured({int(n): float(pass_s) for n, pass_s in record["seconds"]})
    except (KeyError, TypeError, ValueError):  # not measured, or damaged
        return None


def measure_costs(source: Timed, is_cancelled: IsCancelled = never) -> PassCosts:
    """Time passes of a source and save the result, which the next load uses.

    Raises Cancelled once ``is_cancelled`` returns true; nothing is saved then.
    """
    seconds: dict[int, list[float]] = {size: [] for size in _SIZES}
    source.time_pass(1)  # pages the weights in
    for _ in range(_TRIALS):
        for size, found in seconds.items():
            if is_cancelled():
                raise Cancelled("Measuring was interrupted.")
            found.append(source.time_pass(size))
    typical = {size: median(found) for size, found in seconds.items()}
    info = source.info
    record = {"seconds": list(typical.items())}
    measured.put(_costs_key(Path(info.file), info.n_threads), record)
    return PassCosts.measured(typical)


def _costs_key(file: Path, n_threads: int) -> str:
    return measured.key_of(file, of=f"passes {n_threads}")
