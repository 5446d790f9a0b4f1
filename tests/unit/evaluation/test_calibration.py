"""Calibrating on simulated verdicts: what is searched, what is confirmed, and the floor."""

from __future__ import annotations

import runpy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest

from cf_local.errors import Cancelled, InputError
from cf_local.evaluation import Item, Variant
from cf_local.evaluation.calibration import Calibration, Outcome, expected, falling, halves
from cf_local.evaluation.marks import Verdict
from cf_local.evaluation.search_space import SearchSpace, weights_of
from cf_local.evaluation.statistics import wilson
from cf_local.evaluation.summary import Comparison
from cf_local.settings import Settings
from cf_local.types import RawText

NAMES = ("ash", "birch", "cedar")
SPACE = SearchSpace(Settings(max_tokens=99), NAMES)
NOISE = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "calibration_noise.py"))


def questions(n: int, groups: str = "x") -> list[Item]:
    return [Item(f"q{i}", RawText("?"), "", groups[i % len(groups)]) for i in range(n)]


class Sure:
    """Variants are right on the questions whose number, mod 10, is below their mark of ten."""

    def __init__(self, marks: Mapping[str, int], default: int) -> None:
        self.marks, self.default = marks, default
        self.asked: Counter[tuple[str, str]] = Counter()

    def __call__(self, variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
        for item in items:
            for variant in variants:
                self.asked[variant.name, item.id] += 1
                mark = self.marks.get(variant.name, self.default)
                yield variant.name, item.id, float(int(item.id[1:]) // 7 % 10 < mark)


def calibrated(evaluate: Sure, n: int = 200, **more: object) -> Outcome:
    return Calibration(SPACE, questions(n), evaluate, **more).run()  # type: ignore[arg-type]


ALONE = {"ash": 3, "birch": 4, "cedar": 2}


def test_defaults_that_are_better_are_kept_and_confirmed() -> None:
    evaluate = Sure(ALONE, default=8)
    found = calibrated(evaluate)
    assert (found.reason, found.recommended.name) == ("confirmed", "cool")
    assert found.recommended.settings == SPACE.base
    assert (found.best_alone.name, found.n_search, found.n_confirm) == ("birch", 100, 100)
    assert found.versus is not None
    assert found.versus.lost == 0
    assert found.accuracy["cool"].value == pytest.approx(0.8, abs=0.1)
    assert set(evaluate.asked.values()) == {1}


def test_the_floor_when_fusing_hurts_and_little_is_spent_on_it() -> None:
    evaluate = Sure(ALONE, default=1)
    found = calibrated(evaluate)
    assert (found.reason, found.recommended.name) == ("nothing above", "birch")
    assert (found.chosen, found.versus, found.is_fused) == (None, None, False)
    assert found.recommended.settings.mode == "single"
    fused = [each for each in found.tried if not each.is_alone]
    assert all(each.is_dropped and each.accuracy.n < 100 for each in fused)


def test_a_bad_source_is_left_out() -> None:
    evaluate = Sure({"ash": 0, "birch": 6, "cedar": 5, "cool sources=birch,cedar": 9}, default=3)
    found = calibrated(evaluate)
    assert (found.reason, found.recommended.name) == ("confirmed", "cool sources=birch,cedar")
    assert found.recommended.sources == ("birch", "cedar")


def test_a_setting_is_found_around_the_defaults() -> None:
    found = calibrated(Sure({**ALONE, "cool": 7, "cool segments=shortest": 10}, default=5))
    assert found.recommended.name == "cool segments=shortest"
    assert found.recommended.settings.segments == "shortest"


def test_what_is_little_better_does_not_replace_the_defaults() -> None:
    class OneMore(Sure):
        def __call__(self, variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
            for name, item, right in super().__call__(variants, items):
                yield name, item, max(right, float(name == "cool+r" and item in more))

    search, _ = halves(questions(200), 0)
    more = [item.id for item in search if int(item.id[1:]) // 7 % 10 > 7][:3]
    found = calibrated(OneMore(ALONE, default=8))
    assert found.recommended.name == "cool"
    share = {each.variant.name: each.accuracy.value for each in found.tried}
    assert share["cool+r"] == share["cool"] + 0.03


def test_what_the_confirm_half_refutes_is_not_recommended() -> None:
    search, _ = halves(questions(200), 0)
    lucky = {item.id for item in search}

    class Lucky(Sure):
        def __call__(self, variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
            for name, item, right in super().__call__(variants, items):
                yield name, item, float(name == "cool" and item in lucky) or right

    found = calibrated(Lucky(ALONE, default=4))
    assert (found.reason, found.recommended.name) == ("not confirmed", "birch")
    assert found.chosen is not None
    assert found.chosen.name == "cool"


def test_a_group_that_falls_is_told_and_prevents_it() -> None:
    def evaluate(variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
        for item in items:
            for variant in variants:
                is_alone = variant.settings.mode == "single"
                yield variant.name, item.id, float(is_alone == (item.group == "y"))

    found = Calibration(SPACE, questions(300, "xxxxy"), evaluate).run()
    assert (found.reason, found.falling) == ("a group falls", ("y",))
    assert found.recommended.name == "ash"
    assert found.groups["y"].lost == 30


def test_interrupted_it_still_knows_what_was_found() -> None:
    evaluate = Sure(ALONE, default=8)

    def stopped(variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
        for verdict in evaluate(variants, items):
            if len(evaluate.asked) > 320:
                raise Cancelled("Stop.")
            yield verdict

    calibration = Calibration(SPACE, questions(200), stopped)
    with pytest.raises(Cancelled):
        calibration.run()
    tried = {each.variant.name: each for each in calibration.tried()}
    assert tried["ash"].accuracy.n == 100
    assert tried["cool"].is_dropped  # it has not come to the end
    assert 0 < tried["cool"].accuracy.n < 100


def test_too_little_to_calibrate_on() -> None:
    with pytest.raises(InputError, match="19 questions are too few"):
        Calibration(SPACE, questions(19), Sure({}, 1))
    with pytest.raises(InputError, match="name two or more"):
        Calibration(SearchSpace(Settings(), ("ash",)), questions(40), Sure({}, 1))


def test_halves_share_every_group_and_nothing_else() -> None:
    items = questions(101, "xxxyz")
    search, confirm = halves(items, 3)
    assert (len(search), len(confirm)) == (51, 50)
    assert {i.id for i in search} | {i.id for i in confirm} == {i.id for i in items}
    for group in "xyz":
        counts = [sum(i.group == group for i in half) for half in (search, confirm)]
        assert abs(counts[0] - counts[1]) <= 1
    assert halves(items, 3) == (search, confirm)
    assert halves(items, 4) != (search, confirm)


def test_groups_fall_only_beyond_chance_for_all_of_them() -> None:
    sure, unsure = Comparison(0, 9, 0.004), Comparison(1, 8, 0.039)
    assert falling({"a": unsure}) == ("a",)
    assert falling({"a": unsure, "b": Comparison(3, 3, 1.0)}) == ()
    assert falling({"a": unsure, "b": sure}) == ("b", "a")
    assert falling({"a": Comparison(9, 0, 0.004)}) == ()


def test_the_expected_number_of_answers() -> None:
    counts = expected(SPACE, questions(100), 0)
    assert counts["single"] == 300
    assert counts["cool"] >= 4 * 50


# ---- What is tried -------------------------------------------------------------------------------


def test_the_first_candidates() -> None:
    assert [each.name for each in SPACE.first()] == [
        "cool",
        "cool sources=ash,birch",
        "cool sources=ash,cedar",
        "cool sources=birch,cedar",
        "rerank",
        "cool+r",
    ]
    four = [each.name for each in SearchSpace(Settings(), ("a", "b", "c", "d")).first()]
    assert len(four) == 1 + 4 + 6 + 2
    assert [each.name for each in SearchSpace(Settings(), ("a", "b")).first()] == [
        "cool", "rerank", "cool+r"
    ]  # fmt: skip


def test_neighbours_differ_in_one_choice_and_names_tell_all() -> None:
    cool = SPACE.first()[0]
    near = SPACE.near(cool, {"ash": 0.5, "birch": 0.9, "cedar": 0.3})
    names = [each.name for each in near]
    assert len(names) == len(set(names))
    assert {"rerank", "cool+r", "cool score=perplexity", "cool segments=shortest"} <= set(names)
    assert "cool weight.ash=0.3 weight.birch=1 weight.cedar=0.15" in names
    assert "cool sources=birch,cedar" in names
    (shortest,) = [each for each in near if each.name == "cool segments=shortest"]
    again = [each.name for each in SPACE.near(shortest, dict.fromkeys(NAMES, 0.5))]
    assert "rerank" in again  # it has no segments
    assert "cool score=perplexity segments=shortest" in again
    assert "cool segments=shortest weights=equal" in again
    assert not any("weight." in name for name in again)  # all are equally good
    (equal,) = [each for each in near if each.name == "cool weights=equal"]
    assert "cool weight.ash=0.3 weight.birch=1 weight.cedar=0.15" in [
        each.name for each in SPACE.near(equal, {"ash": 0.5, "birch": 0.9, "cedar": 0.3})
    ]
    assert SPACE.n_changes(cool) == 0
    assert SPACE.n_changes(shortest) == 1
    assert SPACE.n_changes(equal) == 1
    assert SPACE.n_changes(SPACE.first()[4]) > SPACE.n_changes(SPACE.first()[1]) == 1


def test_the_users_settings_of_other_kinds_are_kept() -> None:
    base = Settings(score="perplexity", weights={"b": 2.0}, max_tokens=7, stop=("x",))
    cool = SearchSpace(base, NAMES).first()[0]
    assert cool.settings == Settings(max_tokens=7, stop=("x",))


def test_every_choice_of_the_types_is_tried() -> None:
    near = SPACE.near(SPACE.first()[0], dict.fromkeys(NAMES, 0.5))
    for field in fields(Settings):
        if field.name in ("score", "segments", "segment_words"):
            assert len({getattr(each.settings, field.name) for each in near}) > 1


def test_weights() -> None:
    assert weights_of({"a": 0.25, "b": 0.5}) == {"a": 0.42, "b": 1.0}
    assert weights_of({"a": 0.0, "b": 1.0}) == {"a": 0.01, "b": 1.0}
    assert weights_of({"a": 0.4, "b": 0.4}) == {"a": 1.0, "b": 1.0}


# ---- Noise, counted ------------------------------------------------------------------------------


def n_fused(world: Callable[..., float], share: float, n: int, n_runs: int, shared: float) -> int:
    names = [
        NOISE["outcome"](partial(world, share=share), shared, n, seed) for seed in range(n_runs)
    ]
    return sum(name != "floor" for name in names)


@pytest.mark.parametrize("world", ["equal", "unequal"])
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_noise_is_seldom_recommended(world: str, shared: float) -> None:
    n = n_fused(NOISE[world], 0.6, 200, 300, shared)
    assert wilson(n, 300)[0] < 0.025
    assert n <= 15  # 5%


def test_what_is_much_better_is_mostly_found() -> None:
    assert n_fused(NOISE["fusing_helps"], 0.6, 600, 60, 0.5) > 30
