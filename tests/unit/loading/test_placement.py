"""Whether sources overlap, and what their passes cost, is measured once and kept."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cf_local.files import cache_root
from cf_local.loading import placement
from cf_local.loading.placement import MeasuredOverlap, known_costs, measure_costs, overlap_pays
from cf_local.types import SourceInfo


class Clock:
    """Time that passes only in the passes of ``Timed``; in a pool of threads, all begin first."""

    now = 0.0
    waits = False  # passes at the same time wait for each other
    is_late = False  # one begins only when the other has ended, as happens on a busy machine

    def __init__(self, n_sources: int) -> None:
        self.together = threading.Barrier(n_sources)
        self.lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def spend(self, pass_s: float) -> float:
        """What a pass takes by itself; by the clock, passes at the same time may take no more."""
        if threading.current_thread() is threading.main_thread():
            self.now += pass_s
            return pass_s
        place = self.together.wait()
        with self.lock:
            if place == 0 or self.waits or self.is_late:
                self.now += pass_s
            return 2 * pass_s if self.waits else pass_s


class Timed:
    """A source whose passes take ``pass_s`` of a clock."""

    def __init__(self, file: Path, pass_s: float, clock: Clock) -> None:
        self.info = SourceInfo(file.stem, str(file), n_threads=2)
        self._pass_s, self._clock = pass_s, clock

    def time_pass(self, n_tokens: int) -> float:
        return self._clock.spend(self._pass_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(2)
    monkeypatch.setattr(placement, "perf_counter", found)
    return found


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{name}.gguf" for name in "ab"]
    for file in found:
        file.write_bytes(file.stem.encode())
    return found


def test_sources_that_do_not_slow_each_other_overlap(files: list[Path], clock: Clock) -> None:
    assert overlap_pays([Timed(file, 0.02, clock) for file in files])


def test_sources_that_wait_for_each_other_do_not(files: list[Path], clock: Clock) -> None:
    clock.waits = True
    assert not overlap_pays([Timed(file, 0.02, clock) for file in files])


def test_passes_that_began_late_do_not_look_short(files: list[Path], clock: Clock) -> None:
    clock.is_late = True
    assert not overlap_pays([Timed(file, 0.02, clock) for file in files])


def test_passes_too_short_to_wake_a_thread_do_not(files: list[Path], clock: Clock) -> None:
    assert not overlap_pays([Timed(file, 0.0, clock) for file in files])


def test_it_is_measured_once_for_a_set(
    files: list[Path], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement.CORES, "look", lambda: 0.0)
    known = MeasuredOverlap(files, [None, None])
    assert known.pays is None
    known.measure([Timed(file, 0.02, clock) for file in files])
    assert MeasuredOverlap(files, [None, None]).pays is True
    assert MeasuredOverlap(files[:1], [None]).pays is None
    assert MeasuredOverlap(files, [1, 1]).pays is None
    files[0].write_bytes(b"another model")
    assert MeasuredOverlap(files, [None, None]).pays is None


def test_beside_busy_processes_nothing_is_learnt(
    files: list[Path], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement.CORES, "look", lambda: 1.0)
    known = MeasuredOverlap(files, [None, None])
    known.measure([Timed(file, 0.02, clock) for file in files])
    assert known.pays is None


def test_costs_are_known_once_they_were_measured(files: list[Path], clock: Clock) -> None:
    assert known_costs(files[0], 2) is None
    found = measure_costs(Timed(files[0], 0.001, clock))
    assert known_costs(files[0], 2) == found
    assert known_costs(files[0], 1) is None
    assert known_costs(files[1], 2) is None
    assert found.of(1) >= 0.001


def test_a_damaged_record_is_none(files: list[Path], clock: Clock) -> None:
    measure_costs(Timed(files[0], 0.0, clock))
    for record in (cache_root() / "measured").iterdir():
        record.write_text('{"seconds": [["x"]], "pays": 3}')
    assert known_costs(files[0], 2) is None
    assert MeasuredOverlap(files, [2, 2]).pays is None
