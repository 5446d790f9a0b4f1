"""Additions to configuration files of other programs: what they have stays as it is.

Text is inserted, and the new file must then parse to the old values and the new ones. Where that
does not work out, the file is left to its owner.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import tomlkit
import yaml
from tomlkit.exceptions import TOMLKitError

from cf_local.errors import InputError

# A text in quotes, or a comment, of JSON as editors have it.
_QUOTED = r'"(?:\\.|[^"\\])*"'
_COMMENT = re.compile(rf"({_QUOTED})|//[^\n]*|/\*.*?\*/", re.DOTALL)
_LAST_COMMA = re.compile(rf"({_QUOTED})|,(?=\s*[}}\]])", re.DOTALL)


class OthersError(InputError):
    """A configuration file that its owner has to change."""


def with_json(text: str, added: Mapping[str, Any]) -> str:
    """``text`` with objects and lists of ``added`` merged into those that it has.

    ``text`` may have comments if it only gets a new key at the top. Raises OthersError.
    """
    before = _read_json(text)
    wanted = _merged(before, added, ())
    if wanted == before:
        return text
    if not text.strip() or _is_plain_json(text):
        return json.dumps(wanted, ensure_ascii=False, indent=_indent(text)) + "\n"
    if before.keys() & added.keys():
        raise OthersError(f"It has {_names(before.keys() & added.keys())} and comments.")
    start = _without_comments(text).index("{") + 1
    inside = json.dumps(added, ensure_ascii=False, indent=2)[1:-2]
    new = f"{text[:start]}{inside}{',' if before else ''}{text[start:]}"
    return _checked(new, _read_json(new) == wanted)


def with_toml(text: str, added: Mapping[str, Any]) -> str:
    """``text`` with more keys, also in the tables that it has. Raises OthersError."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise OthersError(f"It is not TOML: {error}.") from None
    before = document.unwrap()
    wanted = _merged(before, added, ())
    if wanted == before:
        return text
    _add(document, added)
    new = tomlkit.dumps(document)
    return _checked(new, tomlkit.parse(new).unwrap() == wanted)


def _add(table: Any, added: Mapping[str, Any]) -> None:
    for key, value in added.items():
        if key not in table:
            table[key] = value
        elif isinstance(value, Mapping):
            _add(table[key], value)


def with_yaml_keys(text: str, added: Mapping[str, str]) -> str:
    """``text`` with more keys at the top. Raises OthersError."""
    before = _read_yaml(text, {})
    missing = _merged(before, added, ()).keys() - before.keys()
    new = {key: value for key, value in added.items() if key in missing}
    return _appended(text, yaml.safe_dump(new, sort_keys=False), before | new) if new else text


def with_yaml_item(
    text: str, item: Mapping[str, Any], *, key: str | None = None, named: str = "name"
) -> str:
    """``text`` with one more item in its list, or in that of ``key``.

    Raises OthersError, also for another item of the same name.
    """
    before = _read_yaml(text, [] if key is None else {})
    items = before if key is None else before.get(key) or []
    if not isinstance(items, list):
        raise OthersError(f"Its {key or 'top level'} is not a list.")
    if item in items:
        return text
    if any(isinstance(old, dict) and old.get(named) == item[named] for old in items):
        raise OthersError(f"It already has a different {item[named]!r}.")
    wanted = [*items, item]
    if key is None:
        return _appended(text, _list_text(item, 0), wanted)
    if key not in before:
        return _appended(text, f"{key}:\n{_list_text(item, 2)}", before | {key: wanted})
    head = re.search(rf"^{key}:[ \t]*(#.*)?\r?$", text, re.MULTILINE)
    if head is None:
        raise OthersError(f"Its {key} are on one line.")
    rest = text[head.end() :]
    first = re.search(r"^( *)- ", rest, re.MULTILINE)
    after = re.search(r"(^#.*\n|^\s*\n)*^[^\s#-]|\s*\Z", rest, re.MULTILINE)
    block = rest[: after.start() if after else None].rstrip()
    added = f"\n{_list_text(item, len(first[1]) if first else 2)}"
    end = head.end() + len(block)
    new = f"{text[:end]}{added}{text[end:].removeprefix(chr(10))}"
    return _checked(new, _read_yaml(new, {}) == before | {key: wanted})


def _list_text(item: Mapping[str, Any], indent: int) -> str:
    lines = yaml.safe_dump([dict(item)], sort_keys=False, allow_unicode=True).splitlines()
    return "".join(f"{' ' * indent}{line}\n" for line in lines)


def _appended(text: str, added: str, wanted: Any) -> str:
    between = "\n" if text and not text.endswith("\n") else ""
    new = f"{text}{between}{added}"
    return _checked(new, _read_yaml(new, None) == wanted)


def _checked(new: str, is_right: bool) -> str:
    if not is_right:
        raise OthersError("It is written in an unusual way.")
    return new


def _merged(before: Any, added: Any, place: tuple[str, ...]) -> Any:
    """Both values; where both have something, only objects and lists can be merged."""
    if isinstance(before, dict) and isinstance(added, Mapping):
        more = {
            key: _merged(before[key], value, (*place, key)) if key in before else value
            for key, value in added.items()
        }
        return before | more
    if isinstance(before, list) and isinstance(added, list):
        return before + [each for each in added if each not in before]
    if before != added:
        raise OthersError(f"Its {'.'.join(place) or 'top level'} has another value.")
    return before


def _read_json(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        plain = _LAST_COMMA.sub(lambda match: match[1] or " ", _without_comments(text))
        found = json.loads(plain)
    except (ValueError, RecursionError) as error:
        raise OthersError(f"It is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise OthersError("It is not a JSON object.")
    return found


def _without_comments(text: str) -> str:
    """The text with spaces in the place of comments, so that positions stay."""
    return _COMMENT.sub(lambda match: match[1] or " " * len(match[0]), text)


def _is_plain_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _indent(text: str) -> int:
    found = re.search(r"^( +)\S", text, re.MULTILINE)
    return len(found[1]) if found else 2


def _read_yaml(text: str, empty: Any) -> Any:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise OthersError(f"It is not YAML: {str(error).splitlines()[0]}.") from None
    found = empty if found is None else found
    if empty is not None and not isinstance(found, type(empty)):
        raise OthersError(
            f"Its top level is not a {'list' if isinstance(empty, list) else 'mapping'}."
        )
    return found


def _names(keys: Any) -> str:
    return ", ".join(sorted(keys))
