"""Whether every answer obeys its schema: random schemas, prompts from the built-in test split.

    python scripts/schema_figures.py [--pairs 200] [--seed 1] [--temperature 0] [--model FILE]...

Prints how many answers were complete and valid by the `jsonschema` package, which are not, and the
time. The built-in models have never seen JSON, so the answers are nonsense of the right form.
Strings and lists are bounded, so that every answer can end.
"""

import argparse
import json
import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import jsonschema

import cf_local
from cf_local.builtin.problems import generate

Schema = dict[str, Any]
_WORDS = (
    "apple",
    "naïve",
    'say "hi"',
    "back\\slash",
    "line\nbreak",
    "東京",
    "",
    "x-1",
    "a b",
    "👍",
)
_NAMES = ("name", "age", "the total", "is_new", "tags", "größe", 'a"b', "id", "note", "x")
_PATTERNS = (
    r"^[A-Z]{2}-\d{3}$",
    r"^(yes|no|may be)$",
    r"^\w+@\w{1,8}\.(com|de)$".replace("+", "{1,8}"),
    r"^[^a-z]{0,4}$",
    r'^"?\\?\S{1,3}.$',
)


def main() -> None:
    """Answer as many pairs as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--mode", default="cool")
    parser.add_argument("--model", action="append", default=[], help="instead of the built-in ones")
    given = parser.parse_args()
    prompts = [p.question for p in generate(given.pairs, seed=given.seed, split="test")]
    schemas = [random_schema(random.Random(f"{given.seed} {i}")) for i in range(given.pairs)]
    counts: Counter[str] = Counter()
    start = time.perf_counter()
    with cf_local.load(models=given.model) as fusion:
        for index, (prompt, schema) in enumerate(zip(prompts, schemas, strict=True)):
            settings = replace(
                fusion.settings,
                mode=given.mode,
                max_tokens=given.max_tokens,
                sampling=cf_local.Sampling(temperature=given.temperature, seed=index),
                response_format=cf_local.ResponseFormat.json_schema(schema),
            )
            answer = fusion.answer(cf_local.chat(prompt), settings)
            found = verdict(answer, schema)
            counts[found] += 1
            counts["bytes"] += len(answer.text.encode())
            if found != "valid":
                print(f"{index}: {found}\n  {json.dumps(schema)}\n  {answer.text!r}")
    n_bytes, elapsed_s = counts.pop("bytes", 0), time.perf_counter() - start
    listed = ", ".join(f"{name} {n}" for name, n in counts.most_common())
    print(f"{given.pairs} pairs: {listed}; {n_bytes} bytes in {elapsed_s:.1f} s with the load")


def verdict(answer: cf_local.Answer, schema: Schema) -> str:
    """The word "valid", or what is wrong with an answer."""
    if answer.finish_reason != "stop":
        return f"incomplete ({answer.finish_reason})"
    try:
        value = json.loads(answer.text)
    except ValueError as error:
        return f"no JSON ({error})"
    kind = jsonschema.Draft202012Validator
    validator = kind(schema, format_checker=kind.FORMAT_CHECKER)
    problems = [error.message for error in validator.iter_errors(value)]
    return f"invalid ({problems[0]})" if problems else "valid"


def random_schema(draw: random.Random) -> Schema:
    """A schema of the supported keywords, at most 3 levels deep."""
    schema = _schema(draw, 3)
    if draw.random() < 0.3:
        schema = {
            "type": "object",
            "properties": {"first": {"$ref": "#/$defs/part"}, "rest": {"$ref": "#/$defs/part"}},
            "required": ["first"],
            "additionalProperties": False,
            "$defs": {"part": schema},
        }
    return schema


def _schema(draw: random.Random, depth: int) -> Schema:
    simple = [_enum, _const, _integer, _number, _string, _pattern, _date, _flag]
    nested = [_object, _object, _array, _tuple, _any_of, _one_of]
    return draw.choice(nested if depth == 3 else simple + nested if depth else simple)(draw, depth)


def _enum(draw: random.Random, _depth: int) -> Schema:
    values = [*draw.sample(_WORDS, 3), draw.randint(-50, 50), None, True, [1, "a"], {"k": 2.5}]
    return {"enum": draw.sample(values, draw.randint(1, 5))}


def _const(draw: random.Random, _depth: int) -> Schema:
    return {"const": draw.choice([*_WORDS, 0, -7, 2.5, None, False])}


def _integer(draw: random.Random, _depth: int) -> Schema:
    low = draw.randint(-2000, 2000)
    keys = draw.choice([(), ("minimum",), ("maximum",), ("minimum", "maximum")])
    limits = {"minimum": low, "maximum": low + draw.choice([0, 3, 250, 10_000])}
    return {"type": "integer", **{key: limits[key] for key in keys}}


def _number(draw: random.Random, _depth: int) -> Schema:
    low = draw.randint(-100, 100)
    limits = {"minimum": low, "maximum": low + draw.choice([1, 20, 300])}
    return {"type": "number", **draw.choice([{}, limits])}


def _string(draw: random.Random, _depth: int) -> Schema:
    low = draw.choice([0, 0, 1, 5])
    return {"type": "string", "minLength": low, "maxLength": low + draw.randint(0, 12)}


def _pattern(draw: random.Random, _depth: int) -> Schema:
    return {"type": "string", "pattern": draw.choice(_PATTERNS)}


def _date(draw: random.Random, _depth: int) -> Schema:
    return {"type": "string", "format": draw.choice(["date", "time", "date-time", "uuid", "ipv4"])}


def _flag(draw: random.Random, _depth: int) -> Schema:
    return {"type": draw.choice(["boolean", "null", ["boolean", "null"], ["integer", "null"]])}


def _object(draw: random.Random, depth: int) -> Schema:
    names = draw.sample(_NAMES, draw.randint(0, 4))
    return {
        "type": "object",
        "properties": {name: _schema(draw, depth - 1) for name in names},
        "required": [name for name in names if draw.random() < 0.6],
        "additionalProperties": False,
    }


def _array(draw: random.Random, depth: int) -> Schema:
    low = draw.choice([0, 0, 1, 2])
    items = _schema(draw, depth - 1)
    return {"type": "array", "items": items, "minItems": low, "maxItems": low + draw.randint(0, 2)}


def _tuple(draw: random.Random, depth: int) -> Schema:
    first = [_schema(draw, depth - 1) for _ in range(draw.randint(1, 3))]
    return {"type": "array", "prefixItems": first, "items": False, "minItems": len(first)}


def _any_of(draw: random.Random, depth: int) -> Schema:
    return {"anyOf": [_schema(draw, depth - 1) for _ in range(draw.randint(1, 3))]}


def _one_of(draw: random.Random, depth: int) -> Schema:
    def kind(name: str) -> Schema:
        properties = {"kind": {"const": name}, "value": _schema(draw, depth - 1)}
        return {"type": "object", "properties": properties, "required": ["kind", "value"]}

    return {"oneOf": [kind("a"), kind("b"), {"type": "null"}]}


if __name__ == "__main__":
    main()
