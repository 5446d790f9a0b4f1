"""One table of settings: what is in it can be set everywhere, and means the same everywhere."""

import shlex
from typing import Any

import click
import pytest

from cf_local.cli.ask import ask
from cf_local.cli.chat.engine import listed
from cf_local.cli.models import add_fusion
from cf_local.errors import InputError
from cf_local.evaluation.variants import parse_variant
from cf_local.registry.registry import FUSION_KEYS
from cf_local.server.dialects.chat import ChatBody
from cf_local.server.dialects.fields import Extension
from cf_local.settings import OPTIONS, SIZE_POWER, Sampling, Settings
from cf_local.types import SourceInfo

NAMES = ("ash", "birch")
# Another value than the default of each kind, as text and as it is.
OTHER: dict[str, tuple[str, Any]] = {
    "mode": ("rerank", "rerank"),
    "score": ("perplexity", "perplexity"),
    "segments": ("shortest", "shortest"),
    "weights": ("ash=2 birch=0.5", {"ash": 2.0, "birch": 0.5}),
    "only": ("birch", "birch"),
    "stop": ("END", ("END",)),
    "max_thinking_tokens": ("512", 512),
    "temperature": ("0.5", 0.5),
    "top_p": ("0.9", 0.9),
    "min_p": ("0.1", 0.1),
    "logit_bias": ("fox=-100 ' the dog=2.5'", {"fox": -100.0, " the dog": 2.5}),
}


def other(name: str) -> tuple[str, Any]:
    if name in OTHER:
        return OTHER[name]
    default = OPTIONS[name].default
    return ("off", False) if default is True else (str(default + 1), default + 1)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_front_end_offers_it_with_its_help(name: str) -> None:
    for command in (ask, add_fusion):
        flags = {p.name: p for p in command.params if isinstance(p, click.Option)}
        assert OPTIONS[name].help.rstrip(".") in (flags[name].help or "")
    assert name in FUSION_KEYS
    assert name in dict(listed(Settings()))
    assert name in ChatBody.model_fields or name in Extension.model_fields


@pytest.mark.parametrize("name", OPTIONS)
def test_text_and_value_are_two_ways_to_say_it(name: str) -> None:
    text, value = other(name)
    option = OPTIONS[name]
    assert option.parse(text) == value
    if option.kind != "texts":
        assert option.parse(option.text(value)) == value
    changed = Settings().with_options({name: value})
    assert changed.get(name) == value
    assert {each for each in OPTIONS if changed.get(each) != Settings().get(each)} == (
        {"only", "mode"} if name == "only" else {name}
    )


@pytest.mark.parametrize("name", [n for n, o in OPTIONS.items() if o.kind not in ("texts",)])
def test_variants_of_an_evaluation_know_it(name: str) -> None:
    text, value = other(name)
    if name == "mode":
        found = parse_variant(text, Settings(), NAMES)
    elif name == "weights":
        found = parse_variant("cool weight.ash=2 weight.birch=0.5", Settings(), NAMES)
    else:
        found = parse_variant(f"cool {shlex.quote(f'{name}={text}')}", Settings(), NAMES)
    assert found.settings.get(name) == value


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("speculation", "perhaps", "speculation is on or off, not 'perhaps'"),
        ("max_tokens", "many", "max_tokens is a whole number, not 'many'"),
        ("temperature", "warm", "temperature is a number, not 'warm'"),
        ("weights", "ash=heavy", "'ash=heavy' is not SOURCE=NUMBER"),
        ("logit_bias", "=3", "'=3' is not TEXT=NUMBER"),
        ("logit_bias", "'fox=3", "cannot be read: No closing quotation"),
    ],
)
def test_text_that_says_nothing(name: str, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        OPTIONS[name].parse(text)


@pytest.mark.parametrize("name", ["only", "stop", "logit_bias", "max_thinking_tokens"])
def test_off_takes_it_back(name: str) -> None:
    assert OPTIONS[name].parse("off") == OPTIONS[name].default
    assert OPTIONS[name].text(OPTIONS[name].default) == "off"


def test_one_source_alone_implies_its_mode_unless_another_is_given() -> None:
    assert Settings().with_options({"only": "ash"}).mode == "single"
    assert Settings().with_options({"only": "ash", "mode": "cool"}).mode == "cool"
    assert Settings(mode="rerank").with_options({"only": None}).mode == "rerank"


def infos(*sizes: int) -> list[SourceInfo]:
    return [
        SourceInfo(name, "", n_parameters=size) for name, size in zip(NAMES, sizes, strict=False)
    ]


def test_named_weights_are_1_unless_given() -> None:
    both = infos(10, 20)
    assert Settings(weights={"birch": 0.5}).weights_of(both) == [1.0, 0.5]
    assert Settings(weights={}).weights_of(both) == [1.0, 1.0]
    with pytest.raises(InputError, match="no source is named 'oak'; the sources are ash, birch"):
        Settings(weights={"oak": 1.0}).weights_of(both)
    with pytest.raises(InputError, match="All weights are zero"):
        Settings(weights={"ash": 0.0}).weights_of(both[:1])


def test_weights_by_size_grow_with_the_number_of_parameters() -> None:
    assert Settings().weights == "size"
    weights = Settings().weights_of(infos(500, 2000))
    assert weights[1] / weights[0] == pytest.approx(4**SIZE_POWER)
    assert Settings().weights_of(infos(7, 7)) == [1.0, 1.0]


def test_weights_by_size_are_equal_where_a_size_is_unknown() -> None:
    assert Settings().weights_of(infos(500, 0)) == [1.0, 1.0]
    assert Settings().weights_of(infos(0, 0)) == [1.0, 1.0]


def test_equal_weights_ignore_sizes() -> None:
    assert Settings(weights="equal").weights_of(infos(500, 2000)) == [1.0, 1.0]


@pytest.mark.parametrize("weights", ["size", "equal", {"ash": 2.0}])
def test_one_source_alone_has_weight_1(weights: Any) -> None:
    assert Settings(weights=weights).weights_of(infos(500)) == [1.0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("size", "size"),
        ("equal", "equal"),
        ("ash=2", {"ash": 2.0}),
        ("ash=0 birch=1.5", {"ash": 0.0, "birch": 1.5}),
        ("a=b=3", {"a=b": 3.0}),  # a name may have an equals sign
    ],
)
def test_all_kinds_of_weights_as_text(text: str, value: Any) -> None:
    option = OPTIONS["weights"]
    assert option.parse(text) == value
    assert option.text(value) == text
    option.check(value)
    assert Settings().with_options({"weights": value}).weights == value


@pytest.mark.parametrize("text", ["off", "none", "age", "ash"])
def test_other_words_are_no_weights(text: str) -> None:
    with pytest.raises(InputError, match=f"'{text}' is not SOURCE=NUMBER"):
        OPTIONS["weights"].parse(text)


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ("age", "it must be size, equal, or SOURCE=NUMBER"),
        ({"ash": -1.0}, "weights: ash is -1.0"),
        ({"ash": float("inf")}, "weights: ash is inf"),
        ({"ash": float("nan")}, "weights: ash is nan"),
    ],
)
def test_weights_that_make_no_sense(weights: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Settings(weights=weights)


def test_settings_can_be_keys() -> None:
    assert len({Settings(weights={"a": 1.0}), Settings(), Settings(sampling=Sampling(0.5))}) == 3
