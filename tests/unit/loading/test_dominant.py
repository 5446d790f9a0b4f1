"""A source whose size gives it nearly all of the vote is named at load."""

import pytest

from cf_local.loading.load import dominant
from cf_local.settings import Settings
from cf_local.types import SourceInfo


@pytest.mark.parametrize(
    ("sizes", "name"),
    [
        ([1, 1, 1], None),
        ([135, 494, 1544], "c"),
        ([134, 268, 494], None),
        ([3, 1], "a"),
        ([2, 1], None),  # two thirds are not more than two thirds
        ([5], None),
        ([5, 0], None),  # unknown: all weights are equal
    ],
)
def test_more_than_two_thirds_of_all_weight(sizes: list[int], name: str | None) -> None:
    sources = [SourceInfo(n, "", n_parameters=s) for n, s in zip("abc", sizes, strict=False)]
    assert dominant(Settings(), sources) == name
    assert dominant(Settings(weights="equal"), sources) is None
    assert dominant(Settings(weights={"a": 9.0}), sources) is None  # the user's own choice
