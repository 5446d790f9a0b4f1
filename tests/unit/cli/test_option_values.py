"""Sizes, and on or off, as people write them."""

import click
import pytest

from cf_local.cli.options import OnOff, Size, settings_of
from cf_local.settings import Settings


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("500", 500),
        ("500MB", 500_000_000),
        ("1.5 gb", 1_500_000_000),
        ("4G", 4_000_000_000),
        ("4GiB", 4 << 30),
        ("2kib", 2048),
        ("0B", 0),
    ],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert Size().convert(text, None, None) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4XB", "4 GB 2", "1e9", "1,5GB", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="500MB or 4GB"):
        Size().convert(text, None, None)


def test_on_and_off() -> None:
    assert OnOff().convert("on", None, None) is True
    assert OnOff().convert("off", None, None) is False
    with pytest.raises(click.BadParameter, match="neither"):
        OnOff().convert("yes", None, None)


def test_the_papers_settings_are_one_flag_away_and_give_way_to_others() -> None:
    names, usual = ["a", "b"], Settings()
    plain = settings_of(usual, names, {"paper": None, "weights": None, "score": None})
    paper = settings_of(usual, names, {"paper": True, "weights": None, "score": None})
    given = settings_of(usual, names, {"paper": True, "weights": {"a": 2.0}, "score": "nll"})
    assert (plain.score, plain.weights) == ("mixture", "size")
    assert (paper.score, paper.weights, paper.mode) == ("perplexity", "equal", "cool")
    assert (given.score, given.weights) == ("nll", {"a": 2.0})
    assert settings_of(usual, names, {"weights": "equal"}).weights == "equal"
