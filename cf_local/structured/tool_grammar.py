"""The format of an answer that may talk, or call tools: the arguments obey the tools' schemas.

Talk is any text without the opening of a call, as an automaton: each state is a rule that ends with
the next state, so that llama.cpp's stack does not grow with the text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from cf_local.errors import InputError
from cf_local.structured.calls import SPACE, THOUGHT
from cf_local.structured.gbnf import renamed
from cf_local.structured.response_format import ResponseFormat
from cf_local.structured.rules import Rules, char_class, json_literal, literal
from cf_local.structured.schema import resolve, schema_rule
from cf_local.structured.tools import ARGUMENTS, CLOSING, OPENING, Tool, ToolForm, tools_text

# Templates write names into JSON and markup as they are.
_NAME = re.compile(r"[\w.:/-]{1,256}")
_NOTHING = '""'
_TALK_ROOT = "root-"  # names of rules here do not end like this
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_DEEPEST = 20


def tools_format(
    tools: Sequence[Tool],
    form: ToolForm,
    *,
    choice: str = "auto",
    parallel: bool = True,
    closing: str = "",
    talk: ResponseFormat | None = None,
) -> ResponseFormat:
    """The format of an answer that may use ``tools``.

    ``choice``: "auto" (talk, talk and then calls, or calls), "required" (calls), or the name of the
    one tool to call. ``parallel`` allows several calls; the form "json" has only one. ``closing``:
    the answer starts inside thinking, which this tag ends; calls that have to come may come after
    it. ``talk`` is the form of an answer that does not call, for calls in the form "tags". Raises
    InputError for tools that cannot be used, and names what is wrong.
    """
    _check(tools)
    if talk is not None and form != "tags":
        raise InputError("Next to a required form, calls must be in the form 'tags'.")
    if choice == "auto":
        closing = ""  # anything may be said before calls
    else:
        talk = None
    stricts = tuple(tool.strict for tool in tools)
    return _made(tools_text(tools), stricts, form, choice, parallel, closing, talk)


@lru_cache(maxsize=4)
def talk_format(form: ToolForm, *, is_plain: bool = False) -> ResponseFormat:
    """The format of an answer that must not call, in a conversation that has calls to imitate.

    It never contains the opening of a call in tags, and does not begin as one without: in the form
    "json" with "{"; in the form "tags", only if it ``is_plain``, with "{" or a fence.
    """
    rules = Rules()
    root = rules.reserve("root")
    if form == "json":
        body = _spoken_json(rules)
    elif is_plain:
        body = _spoken_json(rules, tags={OPENING: ""}, barred="{`")
    else:
        body = _talk(rules, {OPENING: ""})[""]
    rules.define(root, body)
    return ResponseFormat("tools", rules.text(), form)


# By text, which tells 1 from True: a server asks early, to refuse early, and its engine again.
@lru_cache(maxsize=32)
def _made(
    text: str,
    stricts: tuple[bool, ...],
    form: ToolForm,
    choice: str,
    parallel: bool,
    closing: str,
    talk: ResponseFormat | None,
) -> ResponseFormat:
    functions = [json.loads(line)["function"] for line in text.split("\n")]
    tools = [Tool(**function, strict=s) for function, s in zip(functions, stricts, strict=True)]
    allowed = tools if choice in ("auto", "required") else [t for t in tools if t.name == choice]
    if not allowed:
        names = ", ".join(tool.name for tool in tools)
        raise InputError(f"No tool is named {choice!r}; the tools are {names}.")
    rules = Rules()
    root = rules.reserve("root")
    key = literal(f', "{ARGUMENTS[form]}": ')
    arguments = {tool.name: _arguments(rules, tool) for tool in allowed}
    calls = [f"{json_literal(name)} {key} {rule}" for name, rule in arguments.items()]
    call = rules.add("call", f'"{{\\"name\\": " ( {" | ".join(calls)} ) "}}"')
    if form == "json":
        body = _spoken_json(rules, call) if choice == "auto" else call
        after_tag = {}
    else:
        line, end, again = map(literal, ("\n", f"\n{CLOSING}", f"\n{OPENING}"))
        rest = rules.add("call-rest", f"{line} {call} {end}")
        if parallel:
            rest = rules.add("calls", f"{rest} ( {again} {rest} )*")
        tagged = f"{literal(OPENING)} {rest}"
        after_tag = {OPENING: rest}
        if talk is not None:
            rules.define(root, f"{tagged} | {_TALK_ROOT}")
            return ResponseFormat("tools", rules.text() + renamed(talk.grammar, "-"))
        body = _spoken_tags(rules, rest, arguments) if choice == "auto" else tagged
    if closing:
        then = rules.add("after-thinking", f"{_spaces(rules)} {body}")
        body = _talk(rules, {**after_tag, closing: then}, may_end=False)[""]
    rules.define(root, body)
    return ResponseFormat("tools", rules.text(), form, tuple(arguments))


def _check(tools: Sequence[Tool]) -> None:
    if not tools:
        raise InputError("There are no tools. Leave out the format, or add a tool.")
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


def _talk(rules: Rules, tags: Mapping[str, str], *, may_end: bool = True) -> dict[str, str]:
    """States of text that may end anywhere, or goes on with a rule of ``tags`` after that tag.

    Unless it ``may_end``, it has to go on. A tag without a rule does not come.

    The name of each rule, by the longest start of a tag that the text so far ends with.
    """
    starts = sorted({tag[:n] for tag in tags for n in range(len(tag))})
    states = {start: rules.reserve(f"talk-{start}") for start in starts}
    chars = sorted({char for tag in tags for char in tag})
    for start, state in states.items():
        after = {}
        for char in chars:
            seen = start + char
            ends = [seen[n:] for n in range(len(seen) + 1)]
            longest = next(end for end in ends if end in states or end in tags)
            if longest:
                after[char] = tags[longest] if longest in tags else states[longest]
        rules.define(state, _ways(after, states, may_end=may_end))
    return states


def _ways(after: Mapping[str, str], talk: Mapping[str, str], *, may_end: bool = True) -> str:
    """The body of a state: the rule ``after`` a character, if any, else talk; or the end."""
    known = {**({"<": talk["<"]} if "<" in talk else {}), **after}
    others = char_class([(ord(char), ord(char)) for char in sorted(known)], negated=True)
    ways = [f"{literal(char)} {name}" for char, name in known.items() if name]
    return " | ".join([*ways, f"{others} {talk['']}", *[_NOTHING] * may_end])


def _spoken_json(
    rules: Rules, call: str = "", *, tags: Mapping[str, str] | None = None, barred: str = "{"
) -> str:
    """The name of the rule for a ``call``, if any, or talk that does not begin as one does.

    ``tags`` are those of ``_talk``, ``barred`` what a call begins with. After thinking the choice
    is open again.
    """
    start = rules.reserve("start")
    talk = _talk(rules, {**(tags or {}), THOUGHT: start})
    said = rf"[^< {barred}\t\n\r] {talk['']} | {literal('<')} {talk['<']}"
    ways = " | ".join(filter(None, (call, said, _NOTHING)))
    rules.define(start, f"{_spaces(rules)} ( {ways} )")
    return start


def _spoken_tags(rules: Rules, calls: str, arguments: Mapping[str, str]) -> str:
    """The name of the rule for talk, which may end with tagged ``calls``, or a bare call.

    Models for code write calls as bare JSON, also in a fence. So JSON at the start, or after
    thinking, whose "name" is that of a tool has to go on as a call of it: ``arguments`` has the
    rule of each tool. Other JSON is talk.
    """
    start = rules.reserve("start")
    talk = _talk(rules, {OPENING: calls, THOUGHT: start})

    def before(text: str, then: str, *, is_spaced: bool = False) -> str:
        """The state before ``text`` and the rule ``then``, with any space first if it may come."""
        for char in reversed(text):
            after, then = {char: then}, rules.reserve("head")
            spaces = dict.fromkeys(SPACE, then) if is_spaced else {}
            rules.define(then, _ways({**after, **spaces}, talk))
        return then

    value = before('"', _named(rules, arguments, talk), is_spaced=True)
    key = before('"', before('name"', before(":", value, is_spaced=True)), is_spaced=True)
    fenced = before("{", key, is_spaced=True)
    spaced = dict.fromkeys(SPACE, fenced)
    json, fence = rules.reserve("fence-json"), rules.reserve("fence")
    rules.define(json, _ways(spaced, talk))
    rules.define(fence, _ways({**spaced, "j": before("son", json)}, talk))
    opened = {"{": key, "`": before("``", fence)}
    rules.define(start, _ways({**opened, **dict.fromkeys(SPACE, start)}, talk))
    return start


def _named(rules: Rules, arguments: Mapping[str, str], talk: Mapping[str, str]) -> str:
    """The state within the name of a bare call; after that of a tool, the call goes on."""
    spaces = _spaces(rules)
    end = rules.add("bare-end", f'{spaces} "}}" ( {spaces} "```" )?')
    key = f'{spaces} "," {spaces} {json_literal(ARGUMENTS["tags"])} {spaces} ":" {spaces}'
    ends = {f'{n}"': rules.add("bare-call", f"{key} {rule} {end}") for n, rule in arguments.items()}
    states = {name[:n]: "" for name in ends for n in range(len(name))}
    for begun in states:
        states[begun] = rules.reserve(f"name-{begun}")
    after: dict[str, dict[str, str]] = {begun: {} for begun in states}
    for name, rule in {**states, **ends}.items():
        if name:
            after[name[:-1]][name[-1]] = rule
    for begun, state in states.items():
        rules.define(state, _ways(after[begun], talk))
    return states[""]


def _spaces(rules: Rules) -> str:
    return rules.add("spaces", r"[ \t\n\r]*")
