"""The format of an answer that may talk, or call tools: the arguments obey the tools' schemas.

Talk is any text without the opening of a call, as an automaton: each state is a rule that ends with
the next state, so that llama.cpp's stack does not grow with the text.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cf_local.errors import InputError
from cf_local.structured.calls import THOUGHT
from cf_local.structured.response_format import ResponseFormat
from cf_local.structured.rules import Rules, char_class, json_literal, literal
from cf_local.structured.schema import resolve, schema_rule
from cf_local.structured.tools import ARGUMENTS, CLOSING, OPENING, Tool, ToolForm, tools_text

# Templates write names into JSON and markup as they are.
_NAME = re.compile(r"[\w.:/-]{1,256}")
_NOTHING = '""'
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_DEEPEST = 20


def tools_format(
    tools: Sequence[Tool], form: ToolForm, *, choice: str = "auto", parallel: bool = True
) -> ResponseFormat:
    """The format of an answer that may use ``tools``.

    ``choice``: "auto" (talk, talk and then calls, or calls), "required" (calls), or the name of the
    one tool to call. ``parallel`` allows several calls; the form "json" has only one. Raises
    InputError for tools that cannot be used, and names what is wrong.
    """
    _check(tools)
    allowed = tools if choice in ("auto", "required") else [t for t in tools if t.name == choice]
    if not allowed:
        names = ", ".join(tool.name for tool in tools)
        raise InputError(f"There is no tool {choice!r} to choose; there are {names}.")
    rules = Rules()
    root = rules.reserve("root")
    key = literal(f', "{ARGUMENTS[form]}": ')
    calls = [f"{json_literal(tool.name)} {key} {_arguments(rules, tool)}" for tool in allowed]
    call = rules.add("call", f'"{{\\"name\\": " ( {" | ".join(calls)} ) "}}"')
    if form == "json":
        rules.define(root, _spoken_json(rules, call) if choice == "auto" else call)
        return ResponseFormat("tools", rules.text(), form)
    line, end, again = map(literal, ("\n", f"\n{CLOSING}", f"\n{OPENING}"))
    rest = rules.add("call-rest", f"{line} {call} {end}")
    if parallel:
        more = rules.add("call-more", f"{again} {rest}")
        rest = rules.add("calls", f"{rest} {more}*")
    start = f"{literal(OPENING)} {rest}"
    rules.define(root, _until(rules, OPENING, rest)[0] if choice == "auto" else start)
    return ResponseFormat("tools", rules.text(), form)


def _check(tools: Sequence[Tool]) -> None:
    if not tools:
        raise InputError("There is no tool. Leave out the format, or add a tool.")
    names = [tool.name for tool in tools]
    for name in names:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"A tool cannot be named {name!r}: a name has letters, digits and . _ - : / only."
            )
        if names.count(name) > 1:
            raise InputError(f"Two tools are named {name!r}.")
    tools_text(tools)


def _arguments(rules: Rules, tool: Tool) -> str:
    """The name of the rule for the arguments of a tool."""
    where = f"The parameters of the tool {tool.name!r} cannot be used. "
    try:
        schema = _of_object(tool.parameters, is_strict=tool.strict)
        return schema_rule(rules, schema, is_lenient=not tool.strict)
    except InputError as error:
        raise InputError(where + str(error)) from None


def _of_object(schema: Any, *, is_strict: bool) -> Mapping[str, Any]:
    """The schema of arguments, which are an object whatever else it allows."""
    if not isinstance(schema, Mapping):
        raise InputError("They must be a JSON schema.")
    if not _is_object(schema, schema):
        if is_strict:
            raise InputError('#/type: it must be "object".')
        schema = {k: v for k, v in schema.items() if k not in ("$ref", "anyOf", "oneOf", "enum")}
        schema = {**schema, "type": "object"}
    is_open = schema.keys() & {"additionalProperties", "patternProperties", "required"}
    has_parts = schema.get("properties") or schema.keys() & {"$ref", "anyOf", "oneOf", "allOf"}
    # Tools without arguments are described in many ways; a model would make some up.
    return schema if has_parts or is_open else _NO_ARGUMENTS


def _is_object(schema: Any, document: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether a schema describes objects only."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return False
    if "$ref" in schema:
        return _is_object(resolve(document, schema["$ref"], "#"), document, depth + 1)
    if "type" in schema or "properties" in schema or not schema:
        return bool(schema.get("type", "object") == "object")
    parts = [schema[key] for key in ("anyOf", "oneOf", "allOf") if key in schema]
    return all(
        isinstance(ways, Sequence) and all(_is_object(way, document, depth + 1) for way in ways)
        for ways in parts
    )


def _until(rules: Rules, opening: str, rest: str) -> list[str]:
    """States of text that may end anywhere, or goes on with ``rest`` after ``opening``.

    State i is the name of the rule after text that ends with i characters of ``opening``, at most.
    """
    states = [rules.reserve(f"talk-{i}") for i in range(len(opening))]
    for i, state in enumerate(states):
        after = {}
        for char in sorted({*opening[: i + 1]}):
            seen = opening[:i] + char
            n_seen = max(n for n in range(len(seen) + 1) if seen.endswith(opening[:n]))
            if n_seen:
                after[char] = rest if n_seen == len(opening) else states[n_seen]
        ways = [f"{literal(char)} {name}" for char, name in after.items()]
        others = char_class([(ord(char), ord(char)) for char in after], negated=True)
        rules.define(state, " | ".join([*ways, f"{others} {states[0]}", _NOTHING]))
    return states


def _spoken_json(rules: Rules, call: str) -> str:
    """The name of the rule for a call, or talk, which does not start as a call does.

    After thinking the choice is open again.
    """
    start = rules.reserve("start")
    talk = _until(rules, THOUGHT, start)
    spaces = rules.add("spaces", r"[ \t\n\r]*")
    said = rf"[^< {{\t\n\r] {talk[0]} | {literal(THOUGHT[0])} {talk[1]}"
    rules.define(start, f"{spaces} ( {call} | {said} | {_NOTHING} )")
    return start
