"""Additions to configuration files of clients: nothing that was there is lost."""

import json
import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cf_local.cli.connect.additions import (
    OthersError,
    with_json,
    with_toml,
    with_yaml_item,
    with_yaml_keys,
)
from cf_local.cli.connect.clients import CLIENTS, Connection

TO = Connection("http://127.0.0.1:8642", "laptop")
WRITABLE = {name: client for name, client in CLIENTS.items() if client.add is not None}
ITEM = {"name": "x", "roles": ["chat"]}

ZED = """\
// Zed's settings; "//" in a text is no comment
{
  "theme": "One // Dark", /* mine */
  "ui_font_size": 16,
}
"""
CONTINUE = """\
name: Mine
models:
- name: Other # the best
  provider: ollama
  model: x

# What it reads:
context:
- provider: code
"""


@pytest.mark.parametrize("name", WRITABLE)
def test_a_second_time_changes_nothing(name: str) -> None:
    add = WRITABLE[name].add
    assert add is not None
    once = add("", TO)
    assert once
    assert add(once, TO) == once
    assert TO.v1 in once


@pytest.mark.parametrize("name", CLIENTS)
def test_lines_name_the_server_and_the_model(name: str) -> None:
    lines = CLIENTS[name].lines(TO)
    assert TO.address in lines
    assert "$" not in lines
    if name not in ("env", "ollama"):
        assert "laptop" in lines


def test_another_model_is_added() -> None:
    other = Connection(TO.address, "other")
    for name in ("llm", "continue"):
        add = WRITABLE[name].add
        assert add is not None
        both = add(add("", TO), other)
        found = yaml.safe_load(both)
        assert len(found if name == "llm" else found["models"]) == 2
    add = WRITABLE["opencode"].add
    assert add is not None
    both = add(add("", TO), other)
    assert [*json.loads(both)["provider"]["cf-local"]["models"]] == ["laptop", "other"]


def test_comments_of_json_stay() -> None:
    add = WRITABLE["zed"].add
    assert add is not None
    new = add(ZED, TO)
    assert all(line in new for line in ZED.splitlines() if line != "{")
    assert '"language_models"' in new
    assert add(new, TO) == new
    with pytest.raises(OthersError, match="language_models and comments"):
        add(new, Connection(TO.address, "other"))


def test_zed_gets_the_capabilities_that_it_requires() -> None:
    settings = json.loads(CLIENTS["zed"].lines(TO))
    (model,) = settings["language_models"]["openai_compatible"]["cf-local"]["available_models"]
    # Its settings have no defaults for these (settings_content/src/language_model.rs).
    required = {"tools", "images", "parallel_tool_calls", "prompt_cache_key"}
    assert model["capabilities"].keys() >= required
    assert model["max_tokens"] > 0


def test_comments_of_yaml_stay() -> None:
    add = WRITABLE["continue"].add
    assert add is not None
    new = add(CONTINUE, TO)
    assert all(line in new.splitlines() for line in CONTINUE.splitlines())
    models = yaml.safe_load(new)["models"]
    assert [model["name"] for model in models] == ["Other", "cf-local laptop"]
    assert new.index("cf-local laptop") < new.index("# What it reads:")


def test_windows_line_ends_are_no_obstacle() -> None:
    new = with_yaml_item(CONTINUE.replace("\n", "\r\n"), ITEM, key="models")
    assert yaml.safe_load(new)["models"][-1] == ITEM
    assert new.count("\r\n") >= CONTINUE.count("\n") - 1


@pytest.mark.parametrize(
    "text",
    ["[1]", "{", '"text"', '{"a": {"b": 1}}', '{"a": 5}', '{"a": [2]} // x'],
)
def test_json_that_its_owner_must_change(text: str) -> None:
    with pytest.raises(OthersError):
        with_json(text, {"a": {"b": 2}})


@pytest.mark.parametrize(
    "text",
    [
        "models: [{name: y}]", "models: 5", "- 1", "a: [", "models:\n- name: x\n",
        "a: 1\n---\nb: 2", "{models: [{name: y}]}", "models: &m\n- name: y\nother: *m\n",
    ],
)  # fmt: skip
def test_yaml_that_its_owner_must_change(text: str) -> None:
    with pytest.raises(OthersError):
        with_yaml_item(text, ITEM, key="models")


def test_keys_of_toml() -> None:
    added = {"model": "x", "a": {"b": {"c": 1}}}
    text = "# mine\nother = 2\n\n[a] # mine, too\nd = 3\n\n[z]\n"
    new = with_toml(text, added)
    assert tomllib.loads(new) == {"other": 2, "model": "x", "a": {"d": 3, "b": {"c": 1}}, "z": {}}
    assert all(line in new.splitlines() for line in text.splitlines())
    assert with_toml(new, added) == new
    for other in ("a = 5", "model = 'y'", "model = ", "[a.b]\nc = 2\n"):
        with pytest.raises(OthersError):
            with_toml(other, added)


def test_keys_of_yaml() -> None:
    assert yaml.safe_load(with_yaml_keys("# mine\nb: 1", {"a": "x"})) == {"b": 1, "a": "x"}
    assert with_yaml_keys("a: x # mine\n", {"a": "x"}) == "a: x # mine\n"
    for text in ("a: y\n", "{b: 1}", "- a\n"):
        with pytest.raises(OthersError):
            with_yaml_keys(text, {"a": "x"})


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(before=st.dictionaries(st.sampled_from(["a", "b", "provider", "models"]), VALUES))
def test_what_is_there_is_there_afterwards(before: dict[str, object]) -> None:
    for text in (json.dumps(before), json.dumps(before, indent=4) + "// end"):
        try:
            new = with_json(text, {"provider": {"cf-local": {"x": [1]}}})
        except OthersError:
            continue
        found = json.loads(new.replace("// end", ""))
        assert 1 in found["provider"]["cf-local"]["x"]
        assert {k: v for k, v in found.items() if k != "provider"} == {
            k: v for k, v in before.items() if k != "provider"
        }
    text = yaml.safe_dump(before, allow_unicode=True)
    try:
        new = with_yaml_item(text, ITEM, key="models")
    except OthersError:
        return
    found, old = yaml.safe_load(new), yaml.safe_load(text)
    assert found.pop("models")[-1] == ITEM
    old.pop("models", None)
    assert found == old
