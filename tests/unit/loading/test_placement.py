"""Whether sources overlap, and what their passes cost, is measured once and kept."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from cf_local.files import cache_root
from cf_local.loading import placement
from cf_local.loading.placement import MeasuredOverlap, known_costs, measure_costs, overlap_pays
from cf_local.types import SourceInfo


class Timed:
    """A source whose passes sleep: alone, or with a lock that lets one pass at a time."""

    def __init__(self, file: Path, pass_s: float, lock: threading.Lock | None = None) -> None:
        self.info = SourceInfo(file.stem, str(file), n_threads=2)
        self.n_passes = 0
        self._pass_s, self._lock = pass_s, lock

    def time_pass(self, n_tokens: int) -> float:
        self.n_passes += 1
        start = time.perf_counter()
        if self._lock:
            with self._lock:
                time.sleep(self._pass_s)
        else:
            time.sleep(self._pass_s)
        return time.perf_counter() - start


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{name}.gguf" for name in "ab"]
    for file in found:
        file.write_bytes(file.stem.encode())
    return found


def test_sources_that_do_not_slow_each_other_overlap(files: list[Path]) -> None:
    assert overlap_pays([Timed(file, 0.02) for file in files])


def test_sources_that_wait_for_each_other_do_not(files: list[Path]) -> None:
    lock = threading.Lock()
    assert not overlap_pays([Timed(file, 0.02, lock) for file in files])


def test_passes_too_short_to_wake_a_thread_do_not(files: list[Path]) -> None:
    assert not overlap_pays([Timed(file, 0.0) for file in files])


def test_it_is_measured_once_for_a_set(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement.CORES, "look", lambda: 0.0)
    known = MeasuredOverlap(files, [None, None])
    assert known.pays is None
    known.measure([Timed(file, 0.02) for file in files])
    assert MeasuredOverlap(files, [None, None]).pays is True
    assert MeasuredOverlap(files[:1], [None]).pays is None
    assert MeasuredOverlap(files, [1, 1]).pays is None
    files[0].write_bytes(b"another model")
    assert MeasuredOverlap(files, [None, None]).pays is None


def test_beside_busy_processes_nothing_is_learnt(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement.CORES, "look", lambda: 1.0)
    known = MeasuredOverlap(files, [None, None])
    known.measure([Timed(file, 0.02) for file in files])
    assert known.pays is None


def test_costs_are_known_once_they_were_measured(files: list[Path]) -> None:
    assert known_costs(files[0], 2) is None
    found = measure_costs(Timed(files[0], 0.001))
    assert known_costs(files[0], 2) == found
    assert known_costs(files[0], 1) is None
    assert known_costs(files[1], 2) is None
    assert found.of(1) >= 0.001


def test_a_damaged_record_is_none(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    measure_costs(Timed(files[0], 0.0))
    for record in (cache_root() / "measured").iterdir():
        record.write_text('{"seconds": [["x"]], "pays": 3}')
    assert known_costs(files[0], 2) is None
    assert MeasuredOverlap(files, [2, 2]).pays is None
