"""Adding and removing entries of the user's file: all else stays, byte for byte."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.errors import ConfigError
from cf_local.registry.edit import (
    KINDS,
    RegistryEntry,
    check_free,
    remove_entry,
    with_entry,
    without_entry,
    write_entry,
)
from cf_local.registry.registry import CONFIG_VARIABLE, load_registry

SOURCE = RegistryEntry(
    "new", {"file": "/n.gguf", "context": 9, "template": "a\n[b]\n# c\n"}, (), kind="sources"
)
USUAL = """# my models

default = "mine"  # the one I use

[fusions.mine]
# both
sources = ["ash", "x"]

# big ones
[sources.x]
file = "x.gguf"  # from a friend
template = '''
[sources.not-a-header]
# no comment
'''

# about the last

[fusions.last]
sources = [
  "x",  # first
]
# the end"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    path = tmp_path / "user" / "models.toml"
    monkeypatch.setattr("cf_local.registry.registry.user_file", lambda: path)
    monkeypatch.setattr("cf_local.registry.edit.user_file", lambda: path)
    return path


def begin(user: Path, text: str) -> None:
    user.parent.mkdir()
    user.write_bytes(text.encode())


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", USUAL + "\n", USUAL.replace("\n", "\r\n") + "\r\n"]
)
def test_added_and_removed_is_as_before(text: str) -> None:
    added = with_entry(text, SOURCE)
    assert added.startswith(text)
    assert without_entry(added, "sources", "new") == text


PARTS = st.lists(
    st.sampled_from(
        [
            "# a comment\n",
            "\n",
            '[fusions.{n}]\nsources = ["ash"]  # why\n',
            '[sources.{n}]\n# inside\nfile = "f.gguf"\n',
            "[sources.{n}]\nfile = \"f\"\ntemplate = '''\n[sources.z]\n'''\n",
            '[sources."{n}.5"]\nfile = "f.gguf"\ncontext = 5\n\n# behind\n',
        ]
    ),
    max_size=8,
)


@given(PARTS)
def test_any_file_gives_an_entry_back(parts: list[str]) -> None:
    text = "".join(part.replace("{n}", f"n{index}") for index, part in enumerate(parts))
    assert without_entry(with_entry(text, SOURCE), "sources", "new").rstrip("\n") == text.rstrip(
        "\n"
    )
    tables = tomllib.loads(text)
    for kind in KINDS:
        for name in tables.get(kind, {}):
            rest = without_entry(text, kind, name)
            assert name not in tomllib.loads(rest).get(kind, {})
            # what goes is one stretch of lines, and what stays is as it was
            start = next(i for i in range(len(text) + 1) if not rest.startswith(text[: i + 1]))
            n_gone = len(text) - len(rest)
            assert any(text[:i] + text[i + n_gone :] == rest for i in range(start + 1))
            for comment in ("# a comment\n", "# behind\n"):
                assert rest.count(comment) == text.count(comment)


def test_only_the_entry_goes() -> None:
    rest = without_entry(USUAL, "sources", "x")
    start, end = USUAL.index("[sources.x]"), USUAL.index("\n# about the last")
    assert rest == USUAL[:start] + USUAL[end:]
    assert without_entry(USUAL, "fusions", "last").endswith("# about the last\n\n# the end")


@pytest.mark.parametrize(
    "text",
    [
        '# a\nsources.x.file = "x" # dotted\n[fusions.f]\nsources = ["ash"] # b\n',
        '[sources]\nx = { file = "x" }\n# more\ny = { file = "y" }\n',
    ],
)
def test_an_entry_without_a_header(text: str) -> None:
    rest = without_entry(text, "sources", "x")
    assert "x" not in tomllib.loads(rest).get("sources", {})
    assert all(line in rest for line in text.splitlines() if "x" not in line)


def test_a_table_in_one_line() -> None:
    text = 'sources = { x = { file = "x" }, y = { file = "y" } }\n'
    assert tomllib.loads(without_entry(text, "sources", "x")) == {"sources": {"y": {"file": "y"}}}


# ---- The user's file -----------------------------------------------------------------------------


def test_removed_from_the_users_file(user: Path) -> None:
    begin(user, USUAL)
    assert remove_entry("last") == (user, "fusions")
    assert "last" not in load_registry().fusions
    assert list(user.parent.iterdir()) == [user]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x", "'x' is used by the fusions 'mine', 'last'. Remove the fusions first"),
        ("mine", "'mine' is the default fusion"),
        ("ash", "'ash' is built in and cannot be removed"),
        ("lats", r"has no entry 'lats' \(did you mean 'last'\?\)"),
    ],
)
def test_what_cannot_go(user: Path, name: str, message: str) -> None:
    begin(user, USUAL)
    with pytest.raises(ConfigError, match=message):
        remove_entry(name)
    assert user.read_bytes() == USUAL.encode()
    assert list(user.parent.iterdir()) == [user]


def test_what_another_file_defines(user: Path) -> None:
    Path("models.toml").write_text('[sources.q]\nfile = "q.gguf"\n')
    with pytest.raises(ConfigError, match=r"'q' is defined in .*models\.toml, not in"):
        remove_entry("q")


def test_a_used_source_may_go_where_a_built_in_one_comes_to_light(user: Path) -> None:
    begin(user, '[sources.ash]\nfile = "mine.gguf"\n[fusions.f]\nsources = ["ash"]\n')
    remove_entry("ash")
    assert load_registry().source("ash").origin == "built in"


def test_one_name_for_two_things(user: Path) -> None:
    begin(user, '[sources.x]\nfile = "x.gguf"\n[fusions.x]\nsources = ["ash"]\n')
    assert remove_entry("x") == (user, "fusions")
    assert remove_entry("x") == (user, "sources")


def test_a_name_is_free_once(user: Path) -> None:
    check_free("sources", "new")
    write_entry(SOURCE)
    with pytest.raises(ConfigError, match="already a source 'new'"):
        check_free("sources", "new")
    check_free("sources", "new", force=True)
    check_free("fusions", "new")
    for name in ("a b", "x.gguf", ""):
        with pytest.raises(ConfigError, match="is not a valid name"):
            check_free("sources", name)
    Path("models.toml").write_text("[sources.ash]\ncontext = 5\n")
    with pytest.raises(ConfigError, match="would hide"):
        check_free("sources", "ash", force=True)


def test_a_mistake_names_the_users_file_and_nothing_is_written(user: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_entry(RegistryEntry("x", {"file": "x.gguf", "threads": 0}, (), kind="sources"))
    assert str(caught.value) == (
        f"{user}, line 3: threads is 0; it must be at least 1. Nothing was written."
    )
    assert not user.exists()
