"""What the grammars made of schemas let pass, text by text, as llama.cpp reads them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from cf_local.llama.sampler import Constraint, GrammarState
from cf_local.llama.vocabulary import LlamaVocabulary, open_vocabulary
from cf_local.structured import ResponseFormat

BUILTIN = Path(__file__).parents[2] / "cf_local" / "builtin"


@pytest.fixture(scope="module")
def vocabulary() -> LlamaVocabulary:
    return open_vocabulary(BUILTIN / "ash.gguf")


class Reader:
    """A grammar that reads texts: byte tokens and words, as the vocabulary cuts them."""

    def __init__(self, vocabulary: LlamaVocabulary, grammar: str) -> None:
        self._vocabulary = vocabulary
        self._constraint = Constraint(vocabulary, grammar)
        self._ends = vocabulary.end_tokens[:1]

    def accepts(self, text: str) -> bool:
        state = self.after(text)
        return state is not None and bool(state.allowed(self._ends)[0])

    def after(self, text: str) -> GrammarState | None:
        return self._constraint._at(tuple(self._vocabulary.encode(text.encode())))


def reader(vocabulary: LlamaVocabulary, schema: Any) -> Reader:
    return Reader(vocabulary, ResponseFormat.json_schema(schema).grammar)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        *[(0, 0), (-5, 120), (7, 7), (99, 101), (10, 99), (-130, -17), (-1, 1000), (1, 2000)],
        *[(37, None), (None, -3), (None, 15), (345, 678)],
    ],
)
def test_integers_within_bounds_and_no_others(
    vocabulary: LlamaVocabulary, low: int | None, high: int | None
) -> None:
    limits = {"minimum": low, "maximum": high}
    schema = {"type": "integer", **{k: v for k, v in limits.items() if v is not None}}
    read = reader(vocabulary, schema)
    wrong = [
        n
        for n in range(-250, 2100)
        if read.accepts(str(n)) != ((low is None or n >= low) and (high is None or n <= high))
    ]
    assert wrong == []
    assert not any(map(read.accepts, ("007", "+8", "8.0", "", "--1", " 8", "8 ")))


def test_exclusive_and_fractional_bounds_of_integers(vocabulary: LlamaVocabulary) -> None:
    read = reader(vocabulary, {"type": "integer", "exclusiveMinimum": 1.5, "exclusiveMaximum": 5})
    assert [n for n in range(-3, 9) if read.accepts(str(n))] == [2, 3, 4]


def test_numbers_within_bounds(vocabulary: LlamaVocabulary) -> None:
    schema = {"type": "number", "minimum": -2, "maximum": 3}
    read = reader(vocabulary, schema)
    tenths = [f"{n / 10:.1f}" for n in range(-50, 60) if n % 10]
    assert [t for t in tenths if read.accepts(t)] == [t for t in tenths if -2 < float(t) < 3]
    assert [n for n in range(-9, 9) if read.accepts(str(n))] == [-2, -1, 0, 1, 2, 3]
    assert not any(map(read.accepts, ("3.1", "-2.5", "2.", ".5", "1e5")))


@pytest.mark.parametrize("size", [0, 1, 5, 99, 100, 101, 250, 1000, 2500])
def test_lengths_are_counted_exactly(vocabulary: LlamaVocabulary, size: int) -> None:
    low = max(0, size - 3)
    read = reader(vocabulary, {"type": "string", "minLength": low, "maxLength": size})
    found = [n for n in range(max(0, size - 6), size + 4) if read.accepts(f'"{"a" * n}"')]
    assert found == list(range(low, size + 1))
    items = reader(
        vocabulary, {"type": "array", "items": {"const": 1}, "minItems": low, "maxItems": size}
    )
    lists = [n for n in range(max(0, size - 6), size + 4) if items.accepts(str([1] * n))]
    assert lists == list(range(low, size + 1))


def test_strings_that_json_or_utf8_do_not_allow(vocabulary: LlamaVocabulary) -> None:
    read = reader(vocabulary, {"type": "string", "maxLength": 4})
    good = ('""', '"é東👍"', '"\\n\\u00e9"', '"\\"\\\\"')
    bad = ('"a', '"\n"', '"\t"', '"\\x"', '"\\ud83d\\ude00"', '"a"b', "a", '"\x7f"', '"\\u12"')
    assert all(map(read.accepts, good))
    assert not any(map(read.accepts, bad))


CONSTANTS = [
    'a"b',
    "back\\slash",
    "line\nbreak",
    "\x01",
    "東京",
    "\ud800",
    1.5,
    None,
    [1, {"k": True}],
]


@pytest.mark.parametrize("value", CONSTANTS, ids=repr)
def test_constants_are_written_as_they_are(vocabulary: LlamaVocabulary, value: Any) -> None:
    """The converter that comes with llama-cpp-python escapes no backslash: no JSON comes out."""
    read = reader(vocabulary, {"const": value})
    texts = {json.dumps(value, separators=(",", ":"), ensure_ascii=a) for a in (True, False)}
    accepted = [text for text in texts if _is_utf8(text) and read.accepts(text)]
    assert [json.loads(text) for text in accepted] == [value]


def _is_utf8(text: str) -> bool:
    return text.encode(errors="ignore").decode() == text


PATTERNS = {
    r"^[A-Z]{2}-\d{3}$": ("AB-123", "XY-000"),
    r"^(yes|no|may be)?$": ("yes", "may be", ""),
    r"^(?:a|b(c|d){2,})+$": ("a", "bcd", "abddda"),
    r"^[^\d\s]+?$": ("a-b", "%"),
    r'^"\\[\]\-^"\\]\.\x41\u00e9\/$': ('"\\].Aé/', '"\\".Aé/', '"\\\\.Aé/'),
    r"^.{2}\W\D$": ("é東-x",),
    r"^[\w.-]+@[\w]+\.de$": ("a.b-c@d.de",),
    r"^[\t\n]x$": ("\nx", "\tx"),
}
NEAR = ("", "a", "bc", "AB-12", "ab-123", "yes ", "no\n", "maybe", "a b", "1", '"', "\\", "x@y.dd")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_let_pass_what_they_match_and_nothing_else(
    vocabulary: LlamaVocabulary, pattern: str
) -> None:
    read = reader(vocabulary, {"type": "string", "pattern": pattern})
    texts = {*NEAR, *(text for texts in PATTERNS.values() for text in texts)}
    texts |= {text[:n] + "q" + text[n:] for text in PATTERNS[pattern] for n in range(len(text))}
    accepted = {t for t in texts if read.accepts(json.dumps(t, ensure_ascii=False))}
    assert accepted >= set(PATTERNS[pattern])
    assert all(re.search(pattern, text) for text in accepted)


def test_formats(vocabulary: LlamaVocabulary) -> None:
    def accepted(name: str, *texts: str) -> list[str]:
        read = reader(vocabulary, {"type": "string", "format": name})
        return [text for text in texts if read.accepts(f'"{text}"')]

    dates = ("2026-11-22", "2026-02-28", "2026-02-29", "2026-04-31", "2026-13-01", "2026-00-10")
    assert accepted("date", *dates) == ["2026-11-22", "2026-02-28"]
    assert accepted("time", "23:59:01Z", "24:00:00Z", "10:00:00.5+02:00", "1:00:00Z") == [
        "23:59:01Z",
        "10:00:00.5+02:00",
    ]
    assert accepted("ipv4", "1.2.3.255", "1.2.3.256", "01.2.3.4", "1.2.3") == ["1.2.3.255"]


def test_optional_members_keep_their_order(vocabulary: LlamaVocabulary) -> None:
    names = {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}
    read = reader(vocabulary, {"properties": names, "required": ["b"], "type": "object"})
    good = ('{"b":2}', '{"a":1,"b":2}', '{"b": 2, "c": 3}', '{"a":1,"b":2,"c":3}', '{ "b":2 }')
    bad = ("{}", '{"a":1}', '{"b":2,"a":1}', '{"b":2,}', '{,"b":2}', '{"b":2,"d":4}', '{"b":2} ')
    assert all(map(read.accepts, good))
    assert not any(map(read.accepts, bad))
    none = reader(vocabulary, {"properties": {"a": {"const": 1}}})
    assert all(map(none.accepts, ("{}", '{"a":1}', "{ }")))


def test_tuples_maps_choices_and_references(vocabulary: LlamaVocabulary) -> None:
    cases: list[tuple[Any, tuple[str, ...], tuple[str, ...]]] = [
        ({"prefixItems": [{"const": 1}, {"const": 2}]}, ("[1,2]",), ("[1]", "[1,2,3]", "[2,1]")),
        (
            {"prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 2, "maxItems": 3},
            ("[1,2]", "[1, 2, 2]"),
            ("[1]", "[1,2,2,2]"),
        ),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            ("{}", '{"x":1,"y":2}'),
            ('{"x":"1"}', '{"x":1,}'),
        ),
        (
            {"type": ["array", "null"], "items": {"$ref": "#"}},
            ("null", "[]", "[null,[[],null]]"),
            ("[1]", "nul"),
        ),
        (
            {"anyOf": [{"$ref": "#/$defs/a~1b"}, {"const": "x"}], "$defs": {"a/b": {"const": 1}}},
            ("1", '"x"'),
            ("2", "x"),
        ),
        ({}, ("1", '{"a":[null,true,-1.5e3]}', '""'), ("", "{", "[1,]", "nulll")),
    ]
    for schema, good, bad in cases:
        read = reader(vocabulary, schema)
        for text in good:
            assert read.accepts(text), (schema, text)
            jsonschema.validate(json.loads(text), schema)
        assert not any(map(read.accepts, bad)), schema


# --- Any path of allowed tokens -------------------------------------------------------------


def walks(vocabulary: LlamaVocabulary, grammar: str, seed: int) -> Iterator[bytes]:
    """Texts written by tokens drawn of those that are allowed, to the end."""
    draw = np.random.default_rng(seed)
    tokens = np.arange(vocabulary.n_tokens)
    for _ in range(4):
        constraint, path = Constraint(vocabulary, grammar), list[int]()
        while True:
            state = constraint._at(tuple(path))
            assert state is not None
            allowed = tokens[state.allowed(tokens)]
            assert len(allowed), vocabulary.decode(path)
            token = int(draw.choice(allowed))
            if token in vocabulary.end_token_set:
                yield vocabulary.decode(path)
                break
            path.append(token)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_written_is_valid(vocabulary: LlamaVocabulary, seed: int) -> None:
    import runpy

    script = Path(__file__).parents[2] / "scripts" / "schema_figures.py"
    schema = runpy.run_path(str(script))["random_schema"](random.Random(seed))
    kind = jsonschema.Draft202012Validator
    validator = kind(schema, format_checker=kind.FORMAT_CHECKER)
    for text in walks(vocabulary, ResponseFormat.json_schema(schema).grammar, seed):
        assert list(validator.iter_errors(json.loads(text))) == [], text
