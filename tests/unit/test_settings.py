"""One table of settings: what is in it can be set everywhere, and means the same everywhere."""

from typing import Any

import click
import pytest

from cf_local.cli.ask import ask
from cf_local.cli.chat.engine import listed
from cf_local.cli.models import add_fusion
from cf_local.errors import InputError
from cf_local.evaluation.variants import parse_variant
from cf_local.registry.registry import FUSION_KEYS
from cf_local.server.parameters import CHAT
from cf_local.settings import OPTIONS, Sampling, Settings

NAMES = ("ash", "birch")
# Another value than the default of each kind, as text and as it is.
OTHER: dict[str, tuple[str, Any]] = {
    "mode": ("rerank", "rerank"),
    "score": ("perplexity", "perplexity"),
    "segments": ("shortest", "shortest"),
    "weights": ("ash=2 birch=0.5", {"ash": 2.0, "birch": 0.5}),
    "only": ("birch", "birch"),
    "stop": ("END", ("END",)),
    "temperature": ("0.5", 0.5),
    "top_p": ("0.9", 0.9),
    "min_p": ("0.1", 0.1),
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
    properties = CHAT["properties"]
    assert name in properties or name in properties["cf_local"]["properties"]


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
        found = parse_variant(f"cool {name}={text}", Settings(), NAMES)
    assert found.settings.get(name) == value


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("speculation", "perhaps", "speculation is on or off, not 'perhaps'"),
        ("max_tokens", "many", "max_tokens is a whole number, not 'many'"),
        ("temperature", "warm", "temperature is a number, not 'warm'"),
        ("weights", "ash=heavy", "'ash=heavy' is not SOURCE=NUMBER"),
    ],
)
def test_text_that_says_nothing(name: str, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        OPTIONS[name].parse(text)


@pytest.mark.parametrize("name", ["only", "stop", "weights"])
def test_off_takes_it_back(name: str) -> None:
    assert OPTIONS[name].parse("off") == OPTIONS[name].default
    assert OPTIONS[name].text(OPTIONS[name].default) == "off"


def test_one_source_alone_implies_its_mode_unless_another_is_given() -> None:
    assert Settings().with_options({"only": "ash"}).mode == "single"
    assert Settings().with_options({"only": "ash", "mode": "cool"}).mode == "cool"
    assert Settings(mode="rerank").with_options({"only": None}).mode == "rerank"


def test_weights_are_by_name_and_1_unless_given() -> None:
    assert Settings().weights_of(NAMES) == [1.0, 1.0]
    assert Settings(weights={"birch": 0.5}).weights_of(NAMES) == [1.0, 0.5]
    with pytest.raises(InputError, match="no source is named 'oak'; there are ash, birch"):
        Settings(weights={"oak": 1.0}).weights_of(NAMES)
    with pytest.raises(InputError, match="All weights are zero"):
        Settings(weights={"ash": 0.0}).weights_of(["ash"])


def test_settings_can_be_keys() -> None:
    assert len({Settings(weights={"a": 1.0}), Settings(), Settings(sampling=Sampling(0.5))}) == 3
