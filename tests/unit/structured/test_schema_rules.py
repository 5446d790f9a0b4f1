"""Rules of numbers and patterns, and annotations: what they write obeys the schema."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field

from cf_local.structured import ResponseFormat
from cf_local.structured.pattern import pattern_rule
from cf_local.structured.scalars import bounds, number_rule

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\[[^\]]*\])|([(){}?*+|,0-9])|\s+')


def regex(rule: str) -> re.Pattern[str]:
    """A rule of literals, classes, groups and counts as a regular expression of Python."""
    found = []
    for match in _TOKEN.finditer(rule):
        literal, chars, other = match.groups()
        if literal is not None:
            found.append(f"(?:{re.escape(literal)})")
        else:
            found.append(chars or other or "")
    return re.compile("".join(found))


bound = st.none() | st.decimals(-30, 30, places=3) | st.integers(-1200, 1200).map(Decimal)
KEYS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
HOLDS = {
    "minimum": Decimal.__ge__,
    "exclusiveMinimum": Decimal.__gt__,
    "maximum": Decimal.__le__,
    "exclusiveMaximum": Decimal.__lt__,
}


@given(st.fixed_dictionaries(dict.fromkeys(KEYS, bound)), st.data())
def test_numbers_within_any_bounds(limits: dict[str, Decimal | None], data: st.DataObject) -> None:
    given_limits = {key: value for key, value in limits.items() if value is not None}
    lows = [value for key, value in given_limits.items() if key in KEYS[:2]]
    highs = [value for key, value in given_limits.items() if key in KEYS[2:]]
    if not given_limits or (lows and highs and max(lows) >= min(highs)):
        return
    schema = {key: float(value) for key, value in given_limits.items()}
    rule = regex(number_rule(*bounds(schema, "#", whole=False)))
    step = st.integers(-3_000_000, 3_000_000).map(lambda n: Decimal(n) / 1_000_000)
    value = data.draw(st.sampled_from([*lows, *highs, Decimal(0)]))
    value += data.draw(step | st.just(Decimal(0)))
    text = f"{value.normalize():f}"
    if text == "-0":
        return
    is_allowed = all(HOLDS[key](value, limit) for key, limit in given_limits.items())
    assert bool(rule.fullmatch(text)) == is_allowed, (schema, text)


@pytest.mark.parametrize(
    ("pattern", "low", "high"),
    [
        ("^[A-Z]{3}$", 3, 3),
        ("^[a-c]+$", 2, 4),
        ("^x[a-c]*y?$", 0, None),
        ("^x[a-c]*y$", 3, 5),
        ("^(ab|c)$", 1, 2),
        ("^[ab]{2,}$", 0, 3),
    ],
)
def test_a_pattern_with_a_length(pattern: str, low: int, high: int | None) -> None:
    rule = regex(pattern_rule(pattern, "#", low, high))
    middles = ("", "a", "ab", "abc", "aabb")
    texts = {"", "A", "ABC", "ABCD"}
    texts |= {x + m + y for x in ("", "x") for y in ("", "y") for m in middles}
    texts |= {"c" * n for n in range(7)} | {"ab" * n for n in range(4)}
    for text in texts:
        fits = low <= len(text) <= (99 if high is None else high)
        obeys = bool(re.fullmatch(pattern, text)) and fits
        assert bool(rule.fullmatch(text)) == obeys, text


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(gt=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    weight: float = Field(gt=0.5, le=80.25)


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    page: AnyUrl
    code: str = Field(pattern=r"^[A-Z]{3}$", min_length=3, max_length=3, examples=["ABC"])
    age: int = Field(json_schema_extra={"example": 3, "x-order": 1})
    colours: set[Literal["red", "green", "blue"]] = Field(min_length=1)


def test_a_model_of_pydantic_as_it_comes() -> None:
    grammar = ResponseFormat.json_schema(Owner.model_json_schema()).grammar
    assert grammar is not None
    assert grammar.startswith("root ::=")


@pytest.mark.parametrize(
    "more",
    [
        {"example": 3},
        {"x-order": 1},
        {"contentEncoding": "base64"},
        {"discriminator": {"propertyName": "kind"}},
        {"format": "made-up"},
    ],
)
def test_annotations_change_nothing(more: dict[str, Any]) -> None:
    plain = ResponseFormat.json_schema({"type": "string"})
    assert ResponseFormat.json_schema({"type": "string", **more}).grammar == plain.grammar
