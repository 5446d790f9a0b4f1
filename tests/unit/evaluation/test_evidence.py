"""What a calibration says about what it found."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from cf_local.evaluation import Variant, evidence
from cf_local.evaluation.calibration import Outcome
from cf_local.evaluation.summary import Comparison, Share
from cf_local.registry.registry import FUSION_KEYS
from cf_local.settings import Settings

BIRCH = Variant("birch", Settings(mode="single", only="birch"))
PART = Variant(
    "cool sources=ash,cedar", Settings(score="nll", weights={"cedar": 0.5}), ("ash", "cedar")
)
FUSED = Outcome(
    recommended=PART,
    reason="confirmed",
    best_alone=BIRCH,
    chosen=PART,
    versus=Comparison(30, 10, 0.0022),
    accuracy={PART.name: Share(100, 0.6, 0.502, 0.691), "birch": Share(100, 0.4, 0.309, 0.498)},
    alone={"birch": Share(200, 0.41, 0.344, 0.479)},
    groups={"add": Comparison(20, 10, 0.1)},
    falling=(),
    tried=(),
    n_search=100,
    n_confirm=100,
)
FLOOR = replace(FUSED, recommended=BIRCH, reason="not confirmed")
DAY = dt.date(2026, 11, 22)


def test_the_keys_of_a_fusion() -> None:
    values = evidence.values_of(PART, {"ash": "ash", "cedar": "my-cedar"})
    assert values == {
        "sources": ("ash", "my-cedar"), "mode": "cool", "score": "nll", "weights": {"my-cedar": 0.5}
    }  # fmt: skip
    assert values.keys() <= FUSION_KEYS.keys()
    assert evidence.values_of(BIRCH, {"birch": "birch"}) == {
        "sources": ("birch",),
        "mode": "single",
    }
    equal = Variant("cool weights=equal", Settings(weights="equal", segments="shortest"))
    assert evidence.values_of(equal, {"a": "a", "b": "b"}) == {
        "sources": ("a", "b"),
        "mode": "cool",
        "segments": "shortest",
        "score": "mixture",
        "weights": "equal",
    }
    assert evidence.names_of(BIRCH, ("ash", "birch")) == ("birch",)
    assert evidence.names_of(PART, ("ash", "birch", "cedar")) == ("ash", "cedar")
    assert evidence.names_of(Variant("cool", Settings()), ("a", "b")) == ("a", "b")


def test_the_sentence() -> None:
    assert evidence.sentence(FUSED, "builtin", DAY) == (
        "Calibrated 2026-11-22 on builtin: cool sources=ash,cedar answers 60.0% (50.2-69.1) of 100 "
        "questions right that played no part in its choice, birch alone 40.0% (30.9-49.8) "
        "(p = 0.0022)."
    )
    assert evidence.sentence(FLOOR, "builtin", DAY) == (
        "Calibrated 2026-11-22 on builtin: birch alone answers 41.0% (34.4-47.9) of 200 questions "
        "right; no fusion was better beyond chance."
    )


def test_the_verdict_says_why() -> None:
    assert evidence.verdict(FUSED).startswith("Recommended: cool sources=ash,cedar. Confirmed: on")
    assert evidence.verdict(FLOOR).startswith("Recommended: birch alone. Not beyond chance: on 100")
    falls = replace(FLOOR, reason="a group falls", falling=("add",))
    assert evidence.verdict(falls).endswith("it is worse beyond chance on 'add'.")
    nothing = replace(FLOOR, reason="nothing above", chosen=None, versus=None)
    assert "no fusion was above the best source" in evidence.verdict(nothing)


def test_the_notes_hold_what_was_measured() -> None:
    mark, about, *rest = evidence.notes(FUSED, 7, {"ash": "/m/ash.gguf"}, version="0.1")
    assert mark == evidence.MARK
    assert "seed 7; 100 questions to search, 100 to confirm" in about
    assert rest == [
        "birch alone: 41.0% (34.4-47.9) of all 200",
        "cool sources=ash,cedar on the confirm half: 60.0% (50.2-69.1); against birch won 30, "
        "lost 10, p = 0.0022",
        "group add: won 20, lost 10, p = 0.1",
        "ash: /m/ash.gguf",
    ]
