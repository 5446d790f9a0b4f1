"""How disputed a piece of an answer was, from what a step tells."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from answers import NAMES, agreed, disputed, traced, whole

from cf_local.trace import Trace, heat, pieces
from cf_local.types import ScoredCandidate, Step


def scored(*scores: Mapping[str, float], winner: int = 0) -> Step:
    """A dispute with one candidate of each source, and these scores for them."""
    step = disputed(*"abc"[: len(scores)], winner=winner)
    candidates = tuple(
        ScoredCandidate(one.text, False, (name,), given, None)
        for one, name, given in zip(step.candidates, NAMES, scores, strict=False)
    )
    return replace(step, candidates=candidates)


def weighted(step: Step, *weights: float, score: str = "mixture") -> Trace:
    one = traced([step])
    assert one.heading is not None
    sources = [replace(s, weight=w) for s, w in zip(one.sources, weights, strict=True)]
    settings = {**one.heading.settings, "score": score}
    return replace(one, heading=replace(one.heading, settings=settings), sources=tuple(sources))


def share(step: Step, one: Trace | None = None) -> float:
    return heat.disagreement(step, one or traced([step]))


def test_nobody_wanted_anything_else() -> None:
    assert share(agreed("a")) == 0
    assert heat.level(0.0) == 0


def test_a_source_wants_candidates_by_their_probabilities() -> None:
    step = scored({"ash": -math.log(0.6)}, {"ash": -math.log(0.2)})
    one = traced([step], names=["ash"])
    assert share(step, one) == pytest.approx(0.25)


def test_scores_of_other_kinds_are_probabilities_too() -> None:
    step = scored({"ash": 2.0}, {"ash": 4.0})
    for kind, expected in (("perplexity", 1 / 3), ("bits_per_byte", 0.2), (["x"], 0.1192)):
        one = weighted(step, 1.0, 0.0, 0.0, score=kind)
        assert share(step, replace(one, sources=one.sources[:1])) == pytest.approx(expected, 1e-3)


def test_sources_count_by_their_weights() -> None:
    only_own = scored({"ash": 0.5}, {"birch": 0.5}, {"cedar": 0.5})  # nobody scored another's word
    assert share(only_own) == pytest.approx(2 / 3)
    assert share(only_own, weighted(only_own, 6.0, 1.0, 1.0)) == pytest.approx(1 / 4)
    assert share(only_own, weighted(only_own, 0.0, 0.0, 0.0)) == 0


def test_sources_that_were_not_asked_do_not_count() -> None:
    assert share(scored({"ash": 0.5}, {"birch": 0.5})) == pytest.approx(1 / 2)


def test_without_scores_what_was_proposed_counts() -> None:
    assert share(scored({}, {}, {})) == pytest.approx(2 / 3)


@pytest.mark.parametrize("score", [math.inf, -math.inf, 1e308, -1e308, 0.0])
@pytest.mark.parametrize("kind", ["mixture", "perplexity", "bits_per_byte"])
def test_any_number_of_a_file_gives_a_share(score: float, kind: str) -> None:
    step = scored(dict.fromkeys(NAMES, score), dict.fromkeys(NAMES, 1.0))
    assert 0 <= share(step, weighted(step, 1.0, 1.0, 1.0, score=kind)) <= 1


def test_the_most_disputed_come_first_and_whole_answers_are_left_out() -> None:
    steps = [scored({"ash": 1.0}, {"ash": 2.0}), agreed(" b"), disputed("c", "d", "e", winner=2)]
    one = traced(steps)
    found = heat.hottest(pieces(steps), one, "a2")
    assert [(hot.id, hot.text) for hot in found] == [("a2s3", "e"), ("a2s1", "a")]
    choice = whole("x", "y")
    assert heat.hottest(pieces([choice]), traced([choice]), "") == ()


def test_columns_are_as_high_as_the_share() -> None:
    steps = [agreed("a"), scored({}, {}, {})]
    (column,) = heat.columns(pieces(steps), traced(steps))
    assert (column.x, column.width) == (360.0, 359.0)
    assert (column.y, column.height) == (20.0, 40.0)
    many = [scored({}, {}, {})] * 1000
    assert len(heat.columns(pieces(many), traced(many))) == 90


def test_levels_are_quarters() -> None:
    assert [heat.level(value) for value in (0.01, 0.25, 0.26, 0.5, 0.75, 0.76, 1.0)] == [
        1, 1, 2, 2, 3, 4, 4,
    ]  # fmt: skip
