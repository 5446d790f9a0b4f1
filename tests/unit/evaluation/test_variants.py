"""Variants from their text: what can be set is read off the settings' own fields."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cf_local.errors import InputError
from cf_local.evaluation.variants import Variant, default_variants, distinct, parse_variant
from cf_local.settings import Sampling, Settings

SOURCES = ("ash", "birch", "cedar")
BASE = Settings(max_tokens=99, stop=("\n",))


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("cool", BASE),
        ("cool score=nll segments=shortest", replace(BASE, score="nll", segments="shortest")),
        ("cool+r weight.ash=2", replace(BASE, mode="cool+r", weights={"ash": 2.0})),
        (
            "rerank weight.cedar=0.5 weight.ash=0",
            replace(BASE, mode="rerank", weights={"cedar": 0.5, "ash": 0}),
        ),
        ("cool weights=equal score=nll", replace(BASE, weights="equal", score="nll")),
        ("cool 'weights=ash=2 cedar=3'", replace(BASE, weights={"ash": 2.0, "cedar": 3.0})),
        ("single only=birch", replace(BASE, mode="single", only="birch")),
        ("cool max_tokens=7 segment_limit=4", replace(BASE, max_tokens=7, segment_limit=4)),
        ("cool speculation=off", replace(BASE, speculation=False)),
        ("cool temperature=0.7 seed=3", replace(BASE, sampling=Sampling(0.7, seed=3))),
    ],
)
def test_a_variant_is_a_mode_and_what_differs(text: str, settings: Settings) -> None:
    assert parse_variant(text, BASE, SOURCES) == Variant(text, settings)


def test_some_of_the_sources() -> None:
    text = "cool sources=cedar,ash weight.ash=2"
    assert parse_variant(text, BASE, SOURCES) == Variant(
        text, replace(BASE, weights={"ash": 2.0}), ("cedar", "ash")
    )
    weighed = replace(BASE, weights={"ash": 3.0, "birch": 2.0})
    found = parse_variant("cool sources=cedar,ash", weighed, SOURCES)
    assert found.settings.weights == {"ash": 3.0}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("cool sources=ash,oak", "no source is named 'oak'"),
        ("cool sources=ash,birch weight.cedar=2", "no source is named 'cedar'"),
        ("", "must begin with a mode"),
        ("cold", "did you mean 'cool'?"),
        ("cool nll", "write 'nll' as key=value"),
        ("cool scores=nll", "did you mean 'score'?"),
        ("cool score=best", "score is 'best'; it must be one of mixture, nll"),
        ("cool max_tokens=many", "max_tokens cannot be 'many'"),
        ("cool speculation=perhaps", "speculation cannot be 'perhaps'"),
        ("cool weight.oak=2", "no source is named 'oak'"),
        ("cool weight.ash=heavy", "weight.ash cannot be 'heavy'"),
        ("cool weight.ash=-1", "weights: ash is -1.0"),
        ("cool weights=heavy", "weights cannot be 'heavy'"),
        ("cool weights=oak=1", "no source is named 'oak'"),
        ("cool weights=equal weight.ash=2", "give weights=equal, or the weight of a source"),
        ("cool stop=x", "unknown setting 'stop'"),
        ("cool mode=rerank", "unknown setting 'mode'"),
        ("cool 'x", "No closing quotation"),
    ],
)
def test_what_is_not_understood_is_told(text: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_variant(text, BASE, SOURCES)
    assert part in str(caught.value)
    assert repr(text)[1:-1] in str(caught.value)


def test_by_default_each_source_alone_and_every_way_to_fuse() -> None:
    found = default_variants(BASE, SOURCES)
    assert [variant.name for variant in found] == [*SOURCES, "rerank", "cool", "cool+r"]
    assert found[1].settings == replace(BASE, mode="single", only="birch")
    assert [v.settings.mode for v in found[3:]] == ["rerank", "cool", "cool+r"]


def test_the_same_variant_counts_once_and_another_of_its_name_is_refused() -> None:
    cool = parse_variant("cool", BASE, SOURCES)
    assert distinct([cool, cool]) == [cool]
    with pytest.raises(InputError, match="Two different variants are called 'cool'"):
        distinct([cool, Variant("cool", replace(BASE, score="bits_per_byte"))])
