"""A JSON schema as a GBNF grammar that writes nothing the schema refuses.

The grammar may be narrower than the schema (members come in the schema's order, and no others), but
never wider: an unsupported constraint is an error that names it, where converters that ignore it
would let wrong answers pass. Keywords that do not constrain are annotations, and ignored. JSON is
written on one line, with nothing after its end. Draft 2020-12; docs/structured.md lists what is
supported.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from cf_local.errors import InputError
from cf_local.structured.lenient import relaxed
from cf_local.structured.rules import Rules, json_literal
from cf_local.structured.scalars import (
    any_string,
    bounds,
    integer_rule,
    lengths,
    number_rule,
    string_rule,
)

JsonSchema = Mapping[str, Any] | bool

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_OF_TYPE = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
}
_OF_TYPE["integer"] = _OF_TYPE["number"]
_SUPPORTED = frozenset().union(*_OF_TYPE.values()) | {"type", "enum", "const", "$ref"}
_SUPPORTED |= {"anyOf", "oneOf", "allOf"}
# Keywords that constrain and that no grammar here can guarantee. All others are annotations.
_REFUSED = frozenset({"not", "if", "then", "else", "dependentSchemas", "dependentRequired"})
_REFUSED |= {"dependencies", "multipleOf", "contains", "minContains", "maxContains"}
_REFUSED |= {"patternProperties", "propertyNames", "minProperties", "maxProperties"}
_REFUSED |= {"unevaluatedItems", "unevaluatedProperties", "additionalItems", "nullable"}
_REFUSED |= {"$dynamicRef", "$recursiveRef", "divisibleBy", "extends", "disallow"}
_CONSTRAINTS = _SUPPORTED | _REFUSED
_NO_EFFECT = {"uniqueItems": False, "minProperties": 0, "additionalItems": True}
_NEAR = 0.85  # how alike a mistyped keyword is to the one that was meant
_DEEPEST = 60
_DEEPEST_PROOF = 6
_NUMBERS = frozenset({"integer", "number"})
_SPACE = '" "?'  # no line breaks: a model could fill its context with indentation


def grammar_of(schema: JsonSchema) -> str:
    """The GBNF grammar of a schema. Raises InputError that names what is unsupported, and where."""
    rules = Rules()
    root = rules.reserve("root")
    rules.define(root, schema_rule(rules, schema))
    return rules.text()


def schema_rule(rules: Rules, schema: JsonSchema, *, is_lenient: bool = False) -> str:
    """The name of the rule for a schema, added to ``rules``. Raises InputError as ``grammar_of``.

    ``is_lenient`` leaves out what is unsupported instead, as ``relaxed`` does.
    """
    return _Converter(schema, rules, is_lenient=is_lenient).visit(schema, "#", 0)


class _Converter:
    """One conversion: the document, its rules so far, and the references that have a rule."""

    def __init__(self, document: JsonSchema, rules: Rules, *, is_lenient: bool) -> None:
        self._document = document
        self._rules = rules
        self._is_lenient = is_lenient
        self._referred: dict[str, str] = {}
        self._visited: dict[int, tuple[Any, str]] = {}  # holds the schemas, so that ids stay theirs
        self._any: str | None = None

    def visit(self, schema: Any, where: str, depth: int) -> str:
        """The name of the rule for the schema at ``where`` in the document."""
        if not self._is_lenient:
            return self._visit(schema, where, depth)
        if id(schema) not in self._visited:  # or a schema would be visited once for each retry
            name = self._first_possible(schema, where, depth)
            self._visited[id(schema)] = schema, name
        return self._visited[id(schema)][1]

    def _first_possible(self, schema: Any, where: str, depth: int) -> str:
        for wider in relaxed(schema):
            with suppress(InputError):
                return self._visit(wider, where, depth)
        return self._any_value()

    def _visit(self, schema: Any, where: str, depth: int) -> str:
        if depth > _DEEPEST:
            raise InputError(f"{where}: the schema is more than {_DEEPEST} levels deep")
        if schema is True or schema == {}:
            return self._any_value()
        if not isinstance(schema, Mapping):
            raise InputError(f"{where}: {schema!r} allows nothing, or is not a schema")
        schema = dict(schema)
        _check_keywords(schema, where)
        if "$ref" in schema:
            _check_alone(schema, "$ref", where)
            return self._reference(schema["$ref"], where, depth)
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                _check_alone(schema, key, where)
                return self._choice(key, schema[key], where, depth)
        if "enum" in schema or "const" in schema:
            return self._values(schema, where)
        ways = [self._of_type(kind, schema, where, depth) for kind in types_of(schema, where)]
        return ways[0] if len(ways) == 1 else self._rules.add(where, " | ".join(ways))

    def _reference(self, ref: Any, where: str, depth: int) -> str:
        name = self._referred.get(str(ref))
        if name is None:
            target = resolve(self._document, ref, where)
            name = self._referred[ref] = self._rules.reserve(f"ref{ref}")
            self._rules.define(name, self.visit(target, ref, depth + 1))
        return name

    def _choice(self, key: str, schemas: Any, where: str, depth: int) -> str:
        if not isinstance(schemas, Sequence) or isinstance(schemas, str) or not schemas:
            raise InputError(f"{where}/{key}: it must be a list of schemas")
        if key == "allOf" and len(schemas) > 1:
            raise InputError(f"{where}/allOf: several schemas are not supported; merge them")
        names = [self.visit(s, f"{where}/{key}/{i}", depth + 1) for i, s in enumerate(schemas)]
        if key == "oneOf":
            self._check_disjoint(schemas, f"{where}/oneOf")
        return self._rules.add(f"{where}/{key}", " | ".join(dict.fromkeys(names)))

    def _check_disjoint(self, schemas: Sequence[Any], where: str) -> None:
        def resolved(schema: Any) -> Any:
            for _ in range(_DEEPEST):
                if not (isinstance(schema, Mapping) and "$ref" in schema):
                    return schema
                schema = resolve(self._document, schema["$ref"], where)
            return True

        for index, schema in enumerate(schemas):
            for other in schemas[:index]:
                if not are_disjoint(schema, other, resolved):
                    raise InputError(
                        f"{where}: alternative {index} may overlap an earlier one, and oneOf "
                        "refuses what two allow; use anyOf, or add a constant that differs"
                    )

    def _values(self, schema: dict[str, Any], where: str) -> str:
        """A choice of constants."""
        for key in (schema.keys() & _CONSTRAINTS) - {"type", "enum", "const"}:
            raise InputError(f"{where}/{key}: it cannot be combined with enum or const")
        values = schema.get("enum", [schema.get("const")])
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise InputError(f"{where}/enum: it must be a list of values")
        if "const" in schema:
            values = [value for value in values if _same(value, schema["const"])]
        if "type" in schema:
            allowed = types_of(schema, where)
            values = [value for value in values if any(_is_of(value, kind) for kind in allowed)]
        if not values:
            raise InputError(f"{where}: no value satisfies all its keywords")
        try:
            written = dict.fromkeys(json_literal(value) for value in values)
        except ValueError:
            raise InputError(f"{where}: JSON cannot express one of its constants") from None
        return self._rules.add(where, " | ".join(written))

    def _of_type(self, kind: str, schema: dict[str, Any], where: str, depth: int) -> str:
        if kind == "object":
            return self._object(schema, where, depth)
        if kind == "array":
            return self._array(schema, where, depth)
        if kind == "string":
            return string_rule(self._rules, schema, where)
        if kind == "integer":
            return self._rules.add("integer", integer_rule(*bounds(schema, where, whole=True)))
        if kind == "number":
            return self._rules.add("number", number_rule(*bounds(schema, where, whole=False)))
        return self._rules.add(kind, '"true" | "false"' if kind == "boolean" else '"null"')

    def _array(self, schema: dict[str, Any], where: str, depth: int) -> str:
        if schema.get("uniqueItems") is True:
            return self._set(schema, where)
        low, high = lengths(schema, "minItems", "maxItems", where)
        first = schema.get("prefixItems", [])
        if not isinstance(first, Sequence) or isinstance(first, str):
            raise InputError(f"{where}/prefixItems: it must be a list of schemas")
        rest = schema.get("items", not first)
        if isinstance(rest, Sequence):
            raise InputError(f"{where}/items: a list of schemas is now called prefixItems")
        if rest is False:
            high = len(first) if high is None else min(high, len(first))
        if high is not None and high < max(low, len(first)):
            raise InputError(f"{where}: it allows fewer items than minItems or prefixItems require")
        space = self._space()
        names = [self.visit(s, f"{where}/prefixItems/{i}", depth + 1) for i, s in enumerate(first)]
        is_closed = rest is False or high == len(first) or (first and low <= len(first))
        body = f' "," {space} '.join(names)
        if not is_closed:
            item = self.visit(rest, f"{where}/items", depth + 1)
            body = self._many(body, item, max(0, low - len(first)), high, len(first))
        inside = f"{space} {body} {space}" if body else space
        return self._rules.add(where, f'"[" {inside} "]"')

    def _set(self, schema: dict[str, Any], where: str) -> str:
        """An array without duplicates: of constants, in the order of the schema."""
        items = schema.get("items")
        for _ in range(_DEEPEST):
            if isinstance(items, Mapping) and "$ref" in items:
                items = resolve(self._document, items["$ref"], where)
        values = _constants(items) if isinstance(items, Mapping) else None
        if values is None or "prefixItems" in schema:
            raise InputError(
                f"{where}/uniqueItems: it is only supported for items with an enum; remove it, and "
                "drop duplicates yourself"
            )
        low, high = lengths(schema, "minItems", "maxItems", where)
        written = list(dict.fromkeys(json_literal(value) for value in values))
        high = len(written) if high is None else min(high, len(written))
        if low > high:
            raise InputError(f"{where}: it requires more different items than exist")
        space = self._space()
        # What may follow the first i values, n of which were written: the last of all comes first.
        then = {(len(written), n): space for n in range(low, high + 1)}
        for i in reversed(range(len(written))):
            for n in range(min(i, high), -1, -1):
                ways = []
                if (i + 1, n + 1) in then:
                    comma = f'"," {space} ' if n else f"{space} "
                    ways.append(f"{comma}{written[i]} {then[i + 1, n + 1]}")
                if (i + 1, n) in then:
                    ways.append(then[i + 1, n])
                if ways:
                    then[i, n] = self._rules.add(f"{where}-set", " | ".join(ways))
        return self._rules.add(where, f'"[" {then[0, 0]} "]"')

    def _many(self, first: str, item: str, low: int, high: int | None, n_first: int) -> str:
        """``first`` (may be empty), then items, separated by commas."""
        more = self._rules.add("more", f'"," {self._space()} {item}')
        most = None if high is None else high - n_first
        if first:
            return f"{first} {self._rules.counted(more, low, most)}"
        fewest = max(0, low - 1)
        body = f"{item} {self._rules.counted(more, fewest, None if most is None else most - 1)}"
        return body if low else f"( {body} )?"

    def _object(self, schema: dict[str, Any], where: str, depth: int) -> str:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        required = schema.get("required", [])
        if not isinstance(properties, Mapping):
            raise InputError(f"{where}/properties: it must be an object")
        if not isinstance(required, list | tuple) or not all(isinstance(r, str) for r in required):
            raise InputError(f"{where}/required: it must be a list of names")
        unknown = [name for name in required if name not in properties]
        if unknown and others is False:
            raise InputError(f"{where}/required: {unknown[0]!r} is not among the properties")
        members = {name: (s, f"{where}/properties/{name}") for name, s in properties.items()}
        members |= dict.fromkeys(unknown, (others, f"{where}/additionalProperties"))
        if not members:
            return self._map(others, where, depth)
        pairs = []
        for name, (value, path) in members.items():
            if value is False and name not in required:
                continue  # it is forbidden, and never written
            colon = f'{json_literal(name)} ":" {self._space()}'
            pairs.append((f"{colon} {self.visit(value, path, depth + 1)}", name in required))
        return self._rules.add(where, f'"{{" {self._members(pairs, where)} "}}"')

    def _members(self, pairs: Sequence[tuple[str, bool]], where: str) -> str:
        """Pairs in their order, with commas between those that are written."""
        space = self._space()
        later, alone = space, space  # what follows after a pair, and before the first one
        for pair, is_required in reversed(pairs):
            start = self._rules.add(f"{where}-from", f"{space} {pair} {later}")
            next_ = self._rules.add(f"{where}-then", f'"," {space} {pair} {later}')
            if is_required:
                later, alone = next_, start
            else:
                later = self._rules.add(f"{where}-rest", f"{next_} | {later}")
                alone = self._rules.add(f"{where}-start", f"{start} | {alone}")
        return alone

    def _map(self, others: Any, where: str, depth: int) -> str:
        """An object with any names."""
        space = self._space()
        if others is False:
            return self._rules.add(where, f'"{{" {space} "}}"')
        value = self.visit(others, f"{where}/additionalProperties", depth + 1)
        pair = self._rules.add("pair", f'{any_string(self._rules)} ":" {space} {value}')
        body = f'( {pair} ( "," {space} {pair} )* )?'
        return self._rules.add(where, f'"{{" {space} {body} {space} "}}"')

    def _any_value(self) -> str:
        if self._any is None:
            self._any = self._rules.reserve("value")
            parts = [self._of_type(kind, {}, f"any-{kind}", 0) for kind in _JSON_TYPES]
            self._rules.define(self._any, " | ".join(parts))
        return self._any

    def _space(self) -> str:
        return self._rules.add("space", _SPACE)


_JSON_TYPES = ("object", "array", "string", "number", "boolean", "null")


def types_of(schema: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The types a schema allows; without ``type``, those its keywords belong to, or all."""
    given = schema.get("type")
    if given is None and "type" not in schema:
        if "enum" in schema or "const" in schema:
            return _JSON_TYPES
        meant = [k for k in _JSON_TYPES if _OF_TYPE.get(k, frozenset()) & schema.keys()]
        return tuple(meant) or _JSON_TYPES
    kinds = [given] if isinstance(given, str) else given
    if not isinstance(kinds, Sequence) or not kinds or any(k not in TYPES for k in kinds):
        raise InputError(f"{where}/type: {given!r} is not one of {', '.join(TYPES)}")
    return tuple(kinds)


def resolve(document: JsonSchema, ref: Any, where: str) -> Any:
    """The target of a reference within the document; nothing is fetched. Raises InputError."""
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        raise InputError(
            f"{where}/$ref: {ref!r} is outside of the schema; only references like "
            "#/$defs/name are supported"
        )
    target: Any = document
    for part in _pointer(ref):
        if isinstance(target, Sequence) and not isinstance(target, str) and part.isdecimal():
            target = target[int(part)] if int(part) < len(target) else None
        else:
            target = target.get(part) if isinstance(target, Mapping) else None
        if target is None:
            raise InputError(f"{where}/$ref: the schema has no {ref}")
    return target


def _pointer(ref: str) -> Iterator[str]:
    for part in ref.split("/")[1:]:
        yield unquote(part).replace("~1", "/").replace("~0", "~")


def _check_keywords(schema: Mapping[str, Any], where: str) -> None:
    for key, value in schema.items():
        if key in _SUPPORTED or (key in _NO_EFFECT and _same(value, _NO_EFFECT[key])):
            continue
        if key == "nullable":
            raise InputError(f'{where}/nullable: write "type": ["...", "null"] instead')
        if key in _REFUSED:
            raise InputError(
                f"{where}/{key}: this keyword is not supported; remove it, and check the answer "
                "yourself"
            )
        from difflib import get_close_matches  # here, so that `import cf_local` stays fast

        if meant := get_close_matches(key, _SUPPORTED, n=1, cutoff=_NEAR):
            raise InputError(
                f"{where}/{key}: this keyword does not exist; did you mean {meant[0]}?"
            )
    if "$id" in schema and where != "#":
        raise InputError(f"{where}/$id: a schema within the schema cannot have its own address")


def _check_alone(schema: Mapping[str, Any], key: str, where: str) -> None:
    for other in (schema.keys() & _CONSTRAINTS) - {key}:
        raise InputError(f"{where}/{other}: it cannot be combined with {key}")


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal in JSON, where true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _is_of(value: Any, kind: str) -> bool:
    """Whether a value has a JSON type."""
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and value % 1 == 0)
    found = "null" if value is None else "string" if isinstance(value, str) else "object"
    return kind == ("array" if isinstance(value, list | tuple) else found)


def are_disjoint(
    one: Any, other: Any, resolved: Callable[[Any], Any], depth: int = _DEEPEST_PROOF
) -> bool:
    """Whether no value can obey both schemas; False also if that is uncertain.

    The proof is by constants, by types, or by a property that both require.
    """
    one, other = resolved(one), resolved(other)
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)) or depth == 0:
        return False
    values, more = _values(one), _values(other)
    if values is not None and more is not None:
        return not any(_equal(a, b) for a in values for b in more)
    kinds, others = _kinds(one, values), _kinds(other, more)
    if kinds is not None and others is not None and not kinds & others:
        return True
    if kinds != {"object"} or others != {"object"}:
        return False
    both = set(one.get("required", ())) & set(other.get("required", ()))
    return any(
        are_disjoint(one["properties"][n], other["properties"][n], resolved, depth - 1)
        for n in both
        if n in one.get("properties", {}) and n in other.get("properties", {})
    )


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _constants(schema: Mapping[str, Any]) -> list[Any] | None:
    """All values of a schema, where they can be listed."""
    if schema.get("type") == "boolean":
        return [False, True]
    return _values(schema)


def _kinds(schema: Mapping[str, Any], values: list[Any] | None) -> set[str] | None:
    """The JSON types a schema allows, with integers as numbers; None for any type."""
    if values is not None:
        return {_kind(value) for value in values}
    given = schema.get("type")
    if given is None:
        return None
    kinds = {given} if isinstance(given, str) else set(given)
    return kinds - {"integer"} | {"number"} if kinds & _NUMBERS else kinds


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object"


def _equal(one: Any, other: Any) -> bool:
    return _kind(one) == _kind(other) and bool(one == other)
