"""Seconds of passes by their size: fixed numbers, so that they decide the same every time."""

import pytest

from cf_local.method.costs import PassCosts


def test_sizes_between_are_interpolated() -> None:
    known = PassCosts.measured({4: 4.0, 1: 1.0, 8: 4.0})
    assert known.of(2) == pytest.approx(2.0)
    assert known.of(5) == pytest.approx(4.0)


def test_beyond_the_largest_size_it_is_as_steep_as_before_it() -> None:
    assert PassCosts.measured({1: 1.0, 8: 2.0, 16: 4.0}).of(32) == pytest.approx(8.0)


def test_a_larger_model_costs_more_at_every_size() -> None:
    small, large = (PassCosts.estimated(n, "packed") for n in (100_000_000, 500_000_000))
    for n_tokens in (1, 3, 8, 40):
        assert large.of(n_tokens) == pytest.approx(5 * small.of(n_tokens))


@pytest.mark.parametrize(
    ("n_bytes", "n_layers", "measured_s"),
    [(98e6, 30, 0.009), (253e6, 18, 0.018), (491e6, 24, 0.031), (1117e6, 28, 0.068)],
)
def test_estimates_are_near_what_real_models_take(
    n_bytes: float, n_layers: int, measured_s: float
) -> None:
    """SmolLM2 135M, Gemma 270M, Qwen 0.5B and 1.5B on two cores (docs/LOG.md, 2026-11-28)."""
    costs = PassCosts.estimated(int(n_bytes), "packed-wide", n_layers)
    assert costs.of(1) == pytest.approx(measured_s, rel=0.1)


def test_a_gpu_reads_several_tokens_for_little_more_than_one() -> None:
    gpu, cpu = (PassCosts.estimated(1, kind) for kind in ("gpu", "plain"))
    assert gpu.of(8) / gpu.of(1) < 2 < cpu.of(8) / cpu.of(1)


def test_nothing_known_is_the_same_for_all_sizes() -> None:
    assert PassCosts().of(1) == PassCosts().of(7) == 1.0
