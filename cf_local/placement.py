"""Where the work is done, chosen by measuring the loaded sources: threads, and what overlaps.

A pass for one token reads all weights, and often one core reads as fast as two: then sources had
better work at the same time. A pass for many tokens computes, and wants all cores. Which is
which depends on the machine, so it is tried. It takes about eight passes of each source.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from cf_local.costs import PassCosts
from cf_local.errors import Cancelled
from cf_local.source import IsCancelled, never
from cf_local.types import SourceInfo

_SIZES = (1, 2, 8)  # tokens of the passes that are timed
_TINY_PASS_S = 0.001  # below this, waking a thread costs more than it saves
_GAIN = 0.9  # what is tried must take less than this share of the time, or it may be noise


class Timed(Protocol):
    """A source whose passes can be timed."""

    @property
    def info(self) -> SourceInfo:
        """Its name and threads."""

    def use_threads(self, n_threads: int) -> None:
        """Compute with so many threads from now on."""

    def time_pass(self, n_tokens: int) -> float:
        """Seconds of a pass; raises Cancelled where it can be stopped and was."""


@dataclass(frozen=True, slots=True)
class Placement:
    """``overlap``: sources work at the same time. ``costs``: of their passes, by their names."""

    overlap: bool
    costs: Mapping[str, PassCosts]


def measure(
    sources: Sequence[Timed],
    *,
    fixed_threads: Sequence[bool],
    overlap: bool | None,
    is_cancelled: IsCancelled = never,
) -> Placement:
    """Time the passes of all sources, and choose.

    Sets the threads of a source unless they are fixed; ``overlap`` None lets measurement decide.
    Raises Cancelled once ``is_cancelled`` turned true.
    """
    costs = {}
    for source, is_fixed in zip(sources, fixed_threads, strict=True):
        source.time_pass(1)  # pages the weights in
        if not is_fixed and source.info.n_threads > 1:
            _choose_threads(source)
        known = costs[source.info.name] = PassCosts()
        for n_tokens in _SIZES:
            if is_cancelled():
                raise Cancelled("Loading was cancelled.")
            known.note(n_tokens, source.time_pass(n_tokens))
    if overlap is None:
        overlap = len(sources) > 1 and _overlap_pays(sources)
    return Placement(overlap, costs)


def _choose_threads(source: Timed) -> None:
    """All cores, or one where others only stand in the way."""
    n_threads, size = source.info.n_threads, _SIZES[-1]
    together_s = source.time_pass(size)
    source.use_threads(1)
    if source.time_pass(size) > _GAIN * together_s:
        source.use_threads(n_threads)


def _overlap_pays(sources: Sequence[Timed]) -> bool:
    one_by_one_s = sum(source.time_pass(1) for source in sources)
    if one_by_one_s < _TINY_PASS_S * len(sources):
        return False
    with ThreadPoolExecutor(len(sources)) as pool:
        start = time.perf_counter()
        list(pool.map(lambda source: source.time_pass(1), sources))
        return time.perf_counter() - start < _GAIN * one_by_one_s
