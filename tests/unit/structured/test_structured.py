"""Which schemas and grammars are kept, and that all others are refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cf_local.errors import InputError
from cf_local.settings import Settings
from cf_local.structured import ResponseFormat


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (
            {"type": "string", "minLenght": 3},
            "this keyword does not exist; did you mean minLength?",
        ),
        ({"properties": {"a": {"multipleOf": 3}}}, "#/properties/a/multipleOf"),
        ({"type": "array", "items": {"not": {}}}, "#/items/not"),
        ({"type": "array", "uniqueItems": True}, "#/uniqueItems"),
        ({"type": "array", "contains": {}}, "#/contains"),
        ({"type": "object", "minProperties": 1}, "#/minProperties"),
        ({"type": "object", "patternProperties": {}}, "#/patternProperties"),
        ({"if": {}, "then": {}}, "#/if"),
        ({"allOf": [{}, {}]}, "#/allOf"),
        ({"anyOf": [{}], "type": "object"}, "#/type"),
        ({"enum": [1, 2], "minimum": 2}, "#/minimum"),
        ({"enum": ["a"], "type": "integer"}, "no value satisfies"),
        ({"enum": []}, "no value satisfies"),
        ({"const": 1, "enum": [True]}, "no value satisfies"),
        ({"$ref": "https://example.org/schema"}, "outside of the schema"),
        ({"$ref": "other.json#/a"}, "outside of the schema"),
        ({"$ref": "#/$defs/x"}, "no #/$defs/x"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "never end"),
        ({"$ref": "#"}, "never end"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "never end"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "may overlap"),
        ({"oneOf": [{"type": "string"}, {"const": "a"}]}, "may overlap"),
        ({"type": "number", "minimum": 0.5, "exclusiveMaximum": 0.5}, "no number between"),
        ({"const": float("inf")}, "cannot express one of its constants"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no number between"),
        ({"type": "integer", "minimum": "3"}, "must be a number"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "is above"),
        ({"type": "string", "maxLength": -1}, "#/maxLength"),
        ({"type": "string", "maxLength": 10**9}, "are not supported"),
        ({"type": "string", "format": "iri"}, "#/format"),
        ({"type": "string", "pattern": "a+"}, "must start with ^"),
        ({"type": "string", "pattern": "^a|b$"}, "parentheses"),
        ({"type": "string", "pattern": "^(?=a)b$"}, "only the groups"),
        ({"type": "string", "pattern": r"^\bA$"}, r"\b is not supported"),
        ({"type": "string", "pattern": r"^(a)\1$"}, r"\1 is not supported"),
        ({"type": "string", "pattern": "^(a$"}, "is missing"),
        ({"type": "string", "pattern": "^[z-a]$"}, "below its start"),
        ({"type": "string", "pattern": "^a{1,99999}$"}, "at most 1000"),
        ({"type": "string", "pattern": "^(ab)+$", "maxLength": 3}, "cannot narrow this pattern"),
        ({"type": "string", "format": "uuid", "maxLength": 3}, "36 to 36 characters"),
        ({"type": "string", "pattern": "^a$", "format": "date"}, "use only one"),
        ({"type": "text"}, "#/type"),
        ({"type": []}, "#/type"),
        ({"type": "array", "items": [{}]}, "prefixItems"),
        ({"type": "array", "minItems": 3, "prefixItems": [{}], "items": False}, "fewer items"),
        ({"additionalProperties": False, "required": ["a"]}, "not among the properties"),
        ({"properties": {"a": False}, "required": ["a"]}, "allows nothing"),
        ({"type": "object", "nullable": True}, '"null"'),
        ({"properties": []}, "must be an object"),
        ({"required": "a"}, "must be a list"),
        (False, "allows nothing"),
        ([], "not a schema"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(schema: Any, text: str) -> None:
    with pytest.raises(InputError) as refused:
        ResponseFormat.json_schema(schema)
    assert text in str(refused.value)


def test_a_schema_that_is_very_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"type": "array", "items": schema, "minItems": 1}
    with pytest.raises(InputError, match="levels deep"):
        ResponseFormat.json_schema(schema)
    with pytest.raises(InputError, match="not JSON"):
        ResponseFormat.json_schema("[" * 200_000)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ("", "no rule `root"),
        ('foo ::= "a"', "no rule `root"),
        ("root ::= foo", "no rule is named 'foo'"),
        ('root ::= "a"\n\nroot ::= "b"', "line 3: the rule 'root' is defined twice"),
        ('root ::= root "a" | "b"', "left recursion"),
        ('root ::= a\na ::= b "x"\nb ::= a | "y"', "left recursion"),
        ('root ::= a root "z" | "y"\na ::= b\nb ::= "" | "x"', "left recursion"),
        ('root ::= "a" root', "never end"),
        ('root ::= "a"{1,1000000}', "count above 2000"),
        ('root ::= (("a"{1,900}){1,900}){1,900}', "too large"),
        ('root ::= ("a"?){0,100}', "may be empty is repeated 100 times"),
        ('root ::= ("a"? "b"?)*', "repeated without limit"),
        ('root ::= ""*', "empty literal cannot be repeated"),
        ("root ::= " + "(" * 100_000, "more than 64 deep"),
        ('root ::= "a', "is missing"),
        ("root ::= [a", "is missing"),
        ("root ::= []", "is empty"),
        ('root ::= "\\q"', "escape is wrong"),
        ('root ::= "\\', "escape is wrong"),
        ('root ::= "\\UFFFFFFFF"', "above U+10FFFF"),
        ('root ::= "\\x00"', "NUL"),
        ('root ::= "a\0b"', "NUL"),
        ('root ::= "\ud800"', "surrogate"),
        ("root ::= <[1]>", "tokens are not supported"),
        ('root ::= "a" )', "')' is not allowed here"),
        ('root = "a"', "::= is expected"),
        ('root ::= "a"\n  | "b"', "line 2"),
        ('root ::= "a"{2,1}', "below its minimum"),
        ("root ::= " + "[a-z]{2000} " * 26, "symbols"),
        ("\n".join(f"r{i} ::= r{i + 1}" for i in range(6000)), "rules"),
    ],
)
def test_a_grammar_that_would_harm_is_refused(grammar: str, text: str) -> None:
    with pytest.raises(InputError) as refused:
        ResponseFormat.gbnf(grammar)
    assert text in str(refused.value)


def test_openai_shapes() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = ResponseFormat.json_schema(schema)
    wrapped = {"type": "json_schema", "json_schema": {"name": "x", "strict": True}}
    assert ResponseFormat.openai({"type": "text"}) is None
    assert ResponseFormat.openai({"type": "json_object"}) == ResponseFormat.json_object()
    assert ResponseFormat.openai({"type": "json_object", "schema": schema}) == wanted
    with pytest.raises(InputError, match="must contain"):
        ResponseFormat.openai(wrapped)
    wrapped["json_schema"] = {"schema": schema}
    assert ResponseFormat.openai(wrapped) == wanted
    with pytest.raises(InputError, match="type is 'xml'"):
        ResponseFormat.openai({"type": "xml"})


def test_settings_with_a_form_can_be_hashed_and_compared() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, {"b": []}]}}}
    one = Settings(response_format=ResponseFormat.json_schema(schema))
    other = Settings(response_format=ResponseFormat.json_schema(json.dumps(schema)))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Settings()
