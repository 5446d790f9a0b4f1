"""Seconds of passes by their size."""

import pytest

from cf_local.costs import PassCosts


def costs(**seconds: float) -> PassCosts:
    known = PassCosts()
    for size, elapsed_s in seconds.items():
        known.note(int(size[1:]), elapsed_s)
    return known


def test_sizes_between_are_interpolated() -> None:
    assert costs(n1=1.0, n4=4.0).of(2) == pytest.approx(2.0)
    assert costs(n1=1.0, n8=1.0).of(5) == pytest.approx(1.0)


def test_beyond_what_was_seen_it_grows_slower_than_the_size() -> None:
    known = costs(n8=1.0)
    assert 1.0 < known.of(16) < 2.0
    assert 0.1 < known.of(1) < 1.0


def test_one_disturbed_pass_spoils_little() -> None:
    known = costs(n1=1.0)
    known.note(1, 100.0)
    assert known.of(1) < 1.5


def test_it_follows_what_changes() -> None:
    known = costs(n1=1.0)
    for _ in range(30):
        known.note(1, 0.5)
    assert known.of(1) == pytest.approx(0.5, rel=0.01)


def test_nothing_known_is_one() -> None:
    assert PassCosts().of(7) == 1.0


def test_a_copy_goes_its_own_way() -> None:
    known = costs(n1=1.0)
    other = known.copy()
    other.note(1, 0.1)
    assert known.of(1) == 1.0
