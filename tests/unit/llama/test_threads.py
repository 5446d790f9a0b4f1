"""Threads of a pass: what other processes leave, and no more than there are cores."""

from __future__ import annotations

import pytest

from cf_local.llama import threads
from cf_local.llama.threads import Threads, _Cores, _OtherWork


class Machine:
    """Clocks that tests turn: of the wall, of all processes, of this one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.all_s = self.own_s = 0.0
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(threads.time, "process_time", lambda: self.own_s)
        self.n_asked = 0
        monkeypatch.setattr(_OtherWork, "_busy_s", lambda _: self._busy_s())
        monkeypatch.setattr(threads, "_usable_cores", lambda: [0, 1, 2, 3])

    def _busy_s(self) -> float:
        self.n_asked += 1
        return self.all_s

    def go_on(self, seconds: float, *, own: float, others: float) -> None:
        self.now += seconds
        self.own_s += own * seconds
        self.all_s += (own + others) * seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def n_threads(cores: _Cores, *, gives_way: bool = True) -> int:
    with cores.share(4, gives_way=gives_way) as found:
        return found


def test_all_cores_while_nobody_else_works(machine: Machine) -> None:
    cores = _Cores()
    cores.look()
    machine.go_on(1.0, own=4.0, others=0.1)
    assert n_threads(cores) == 4


def test_other_processes_keep_their_cores_and_give_them_back(machine: Machine) -> None:
    cores = _Cores()
    cores.look()
    for _ in range(8):
        machine.go_on(0.2, own=2.0, others=2.0)
        found = n_threads(cores)
    assert found == 2
    for _ in range(8):
        machine.go_on(0.2, own=2.0, others=0.0)
        found = n_threads(cores)
    assert found == 4


def test_at_least_one_thread(machine: Machine) -> None:
    cores = _Cores()
    cores.look()
    for _ in range(8):
        machine.go_on(0.2, own=0.1, others=9.0)
        assert n_threads(cores) >= 1


def test_a_short_moment_decides_nothing(machine: Machine) -> None:
    cores = _Cores()
    cores.look()
    machine.go_on(0.01, own=0.0, others=4.0)
    assert n_threads(cores) == 4


def alternating(machine: Machine, cores: _Cores, *, others_meanwhile: float) -> int:
    """Passes that take a third of the time, and three others work in between."""
    for _ in range(40):
        machine.go_on(0.04, own=0.0, others=3.0)
        with cores.share(4, gives_way=True) as found:
            machine.go_on(0.02, own=float(found), others=others_meanwhile)
    return found


def test_processes_that_take_turns_do_not_take_cores_from_each_other(machine: Machine) -> None:
    cores = _Cores()
    cores.look()
    assert alternating(machine, cores, others_meanwhile=0.0) < 4
    cores.take_turns()
    assert alternating(machine, cores, others_meanwhile=0.0) == 4


def test_who_takes_turns_still_leaves_others_their_cores(machine: Machine) -> None:
    cores = _Cores()
    cores.take_turns()
    assert alternating(machine, cores, others_meanwhile=2.0) == 2
    assert alternating(machine, cores, others_meanwhile=0.0) == 4
    n_before = machine.n_asked
    alternating(machine, cores, others_meanwhile=0.0)
    assert 0 < machine.n_asked - n_before <= 30  # in 40 passes


def test_threads_that_were_asked_for_stay(machine: Machine) -> None:
    cores = _Cores()
    cores.look()
    for _ in range(8):
        machine.go_on(0.2, own=0.0, others=4.0)
        assert n_threads(cores, gives_way=False) == 4


def test_passes_at_the_same_time_share_the_cores(machine: Machine) -> None:
    cores = _Cores()
    with cores.share(4, gives_way=True), cores.share(4, gives_way=True) as second:
        assert second == 2


def test_other_threads_than_the_first_compute_alone(machine: Machine) -> None:
    import threading

    mine = Threads(4)
    with mine.share() as found:
        assert found == 4
    others: list[int] = []

    def compute() -> None:
        with mine.share() as found:
            others.append(found)

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    assert others == [1]


def test_the_clock_of_this_machine_counts_other_work() -> None:
    busy_s = _OtherWork()._busy_s()
    assert busy_s > 0
