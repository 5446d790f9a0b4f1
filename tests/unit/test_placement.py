"""Threads and overlap are chosen by what passes take."""

from __future__ import annotations

import threading
import time

import pytest

from cf_local.errors import Cancelled
from cf_local.placement import measure
from cf_local.types import SourceInfo


class Timed:
    """A source whose passes sleep: alone, or with a lock that lets one pass at a time."""

    def __init__(self, name: str, pass_s: float, lock: threading.Lock | None = None) -> None:
        self.info = SourceInfo(name, "scripted", n_threads=8)
        self.single_is_slower = True
        self._pass_s, self._lock = pass_s, lock

    def use_threads(self, n_threads: int) -> None:
        self.info = SourceInfo(self.info.name, "scripted", n_threads=n_threads)

    def time_pass(self, n_tokens: int) -> float:
        slow = self.info.n_threads == 1 and self.single_is_slower
        pass_s = self._pass_s * (2 if slow else 1)
        start = time.perf_counter()
        if self._lock:
            with self._lock:
                time.sleep(pass_s)
        else:
            time.sleep(pass_s)
        return time.perf_counter() - start


def test_sources_that_do_not_slow_each_other_overlap() -> None:
    sources = [Timed(name, 0.02) for name in "abc"]
    placed = measure(sources, fixed_threads=[True] * 3, overlap=None)
    assert placed.overlap
    assert placed.costs["b"].of(1) >= 0.02


def test_sources_that_wait_for_each_other_do_not() -> None:
    lock = threading.Lock()
    sources = [Timed(name, 0.02, lock) for name in "abc"]
    assert not measure(sources, fixed_threads=[True] * 3, overlap=None).overlap


def test_what_the_user_says_is_not_measured() -> None:
    sources = [Timed(name, 0.0) for name in "ab"]
    assert measure(sources, fixed_threads=[True, True], overlap=True).overlap
    assert not measure(sources, fixed_threads=[True, True], overlap=False).overlap


def test_measuring_stops_when_it_is_cancelled() -> None:
    asked: list[bool] = []

    def is_cancelled() -> bool:
        asked.append(True)
        return len(asked) == 2

    with pytest.raises(Cancelled):
        measure([Timed("a", 0.0)], fixed_threads=[True], overlap=None, is_cancelled=is_cancelled)
    assert len(asked) == 2


def test_one_source_has_nothing_to_overlap_with() -> None:
    assert not measure([Timed("a", 0.01)], fixed_threads=[True], overlap=None).overlap


def test_one_thread_is_enough_where_more_do_not_help() -> None:
    helped, hindered, fixed = (Timed(name, 0.01) for name in "abc")
    hindered.single_is_slower = fixed.single_is_slower = False
    hindered.time_pass = lambda _n: 0.01 * hindered.info.n_threads  # type: ignore[method-assign]
    measure([helped, hindered, fixed], fixed_threads=[False, False, True], overlap=False)
    assert [s.info.n_threads for s in (helped, hindered, fixed)] == [8, 1, 8]
