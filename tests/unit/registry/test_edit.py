"""Adding to the user's models.toml: comments stay, nothing is half written, names are guarded."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cf_local.errors import ConfigError, InputError
from cf_local.registry.edit import RegistryEntry, check_name, sources_of, with_entry, write_entry
from cf_local.registry.registry import CONFIG_VARIABLE, load_registry

MARK = "Written by me."
ENTRY = RegistryEntry(
    "calibrated",
    {
        "sources": ("ash", "birch"),
        "mode": "cool",
        "weights": {"birch": 0.5},
        "description": 'a "b"\n',
    },
    (MARK, "two\nlines"),
)
ALONE = RegistryEntry("calibrated", {"sources": ("ash",), "mode": "single"}, (MARK,))
USUAL = """# my models

default = "mine"  # the one I use

[fusions.mine]
# both
sources = ["ash", "birch"]

# big ones
[sources.x]
file = "x.gguf"  # from a friend

[fusions.last]
sources = ["x"]
# the end"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file, which is not there yet; no other file but the built-in one."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    path = tmp_path / "user" / "models.toml"
    monkeypatch.setattr("cf_local.registry.registry.user_file", lambda: path)
    monkeypatch.setattr("cf_local.registry.edit.user_file", lambda: path)
    return path


def begin(user: Path, text: str) -> None:
    user.parent.mkdir()
    user.write_bytes(text.encode())


# ---- The text ------------------------------------------------------------------------------------


def test_into_an_empty_file() -> None:
    text = with_entry("", ENTRY)
    assert text == (
        "[fusions.calibrated]\n# Written by me.\n# two lines\n"
        'sources = ["ash", "birch"]\nmode = "cool"\nweights = {birch = 0.5}\n'
        'description = "a \\"b\\"\\n"\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "# only a comment\n",
        USUAL,
        USUAL.replace("\n", "\r\n"),
        '[fusions]\n[fusions.a]\nsources = ["ash"] # a\n',
        '[fusions]\na = { sources = ["ash"] }\n\n# more\n[sources.q]\nfile = "q"\n',
        'fusions.a.sources = ["ash"] # dotted\n[sources.q]\nfile = "q"\n',
        '[sources.x]\nfile = "x"\n[fusions.a]\nsources = ["ash"]\n[sources.y]\nfile = "y" # y\n',
    ],
)
def test_all_else_is_kept_line_by_line(text: str) -> None:
    once = with_entry(text, ENTRY)
    twice = with_entry(
        once, RegistryEntry(ALONE.name, ALONE.values, ALONE.notes, {"new": {"file": "/n.gguf"}})
    )
    for new in (once, twice):
        lines = iter(new.splitlines())
        assert all(line in lines for line in text.splitlines())  # all, and in their order
    tables = tomllib.loads(twice)
    assert tables["fusions"].pop("calibrated") == {"sources": ["ash"], "mode": "single"}
    assert tables["sources"].pop("new") == {"file": "/n.gguf"}
    assert "two lines" not in twice
    if not tables["sources"]:
        del tables["sources"]
    if not tables["fusions"]:
        del tables["fusions"]
    assert tables == tomllib.loads(text)


def test_what_stands_behind_a_replaced_entry_stays() -> None:
    text = with_entry("", ALONE) + '\n# about b\n[fusions.b]\nsources = ["ash"]\n'
    new = with_entry(text, ENTRY)
    assert new.index("weights") < new.index("# about b") < new.index("[fusions.b]")


def test_a_table_that_cannot_be_added_to() -> None:
    with pytest.raises(ConfigError, match="cannot be edited"):
        with_entry('fusions = { a = { sources = ["ash"] } }\n', ENTRY)


# ---- The file ------------------------------------------------------------------------------------


def test_written_and_read_again(user: Path) -> None:
    assert write_entry(ENTRY) == user
    spec = load_registry().fusion("calibrated")
    assert (spec.sources, spec.settings.mode, spec.settings.weights) == (
        ("ash", "birch"),
        "cool",
        {"birch": 0.5},
    )
    assert spec.origin == str(user)
    assert list(user.parent.iterdir()) == [user]


def test_a_source_alone_is_a_fusion(user: Path) -> None:
    write_entry(ALONE)
    spec = load_registry().fusion("calibrated")
    assert (spec.sources, spec.settings.mode) == (("ash",), "single")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sources": ("ash",), "warmth": 1}, "has no key warmth"),
        ({"sources": ("oak",)}, "no source is named 'oak'"),
        ({"sources": ("ash",), "mode": "cold"}, "mode is 'cold'"),
    ],
)
def test_what_would_not_be_read_is_not_written(
    user: Path, values: dict[str, Any], message: str
) -> None:
    begin(user, USUAL)
    with pytest.raises(ConfigError, match=message):
        write_entry(RegistryEntry("calibrated", values, (MARK,)))
    assert user.read_bytes() == USUAL.encode()
    assert list(user.parent.iterdir()) == [user]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_stays_a_link_and_the_rights_stay(user: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text("# mine\n")
    real.chmod(0o600)
    user.parent.mkdir()
    user.symlink_to(real)
    write_entry(ENTRY)
    assert user.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert "# mine" in real.read_text()
    assert "calibrated" in load_registry().fusions


def test_a_folder_that_cannot_be_made(user: Path) -> None:
    user.parent.write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        write_entry(ENTRY)


# ---- Names ---------------------------------------------------------------------------------------


def test_a_name_of_ones_own_is_not_taken(user: Path) -> None:
    begin(user, USUAL)
    check_name("calibrated", MARK)
    with pytest.raises(ConfigError, match="already a fusion 'mine'"):
        check_name("mine", MARK)
    check_name("mine", MARK, force=True)
    with pytest.raises(ConfigError, match="already a fusion 'laptop'"):
        check_name("laptop", MARK)
    with pytest.raises(ConfigError, match="is not a valid name"):
        check_name("a b", MARK, force=True)


def test_what_bears_the_mark_may_be_replaced(user: Path) -> None:
    write_entry(ENTRY)
    check_name("calibrated", MARK)
    with pytest.raises(ConfigError, match="already"):
        check_name("calibrated", "Written by somebody else.")


def test_a_name_that_would_be_hidden(user: Path) -> None:
    Path("models.toml").write_text('[fusions.calibrated]\nsources = ["ash"]\n')
    with pytest.raises(ConfigError, match="would hide"):
        check_name("calibrated", MARK, force=True)


# ---- Sources -------------------------------------------------------------------------------------


def test_known_sources_keep_their_names_and_files_get_entries(user: Path, tmp_path: Path) -> None:
    registry = load_registry()
    ash, birch = (registry.source(name).local_path for name in ("ash", "birch"))
    assert ash is not None
    assert birch is not None
    for name in ("my model (1)", "ash", "b.gguf"):
        (tmp_path / f"{name}.gguf").write_bytes(name.encode())
    names, tables = sources_of(
        {
            "ash": tmp_path / "ash.gguf",  # another one than the built-in
            "birch": birch,
            "my model (1)": tmp_path / "my model (1).gguf",
            "b.gguf": tmp_path / "b.gguf.gguf",
        },
        n_ctx=512,
    )
    assert names == {
        "ash": "ash-2", "birch": "birch", "my model (1)": "my-model-1", "b.gguf": "b"
    }  # fmt: skip
    assert tables["ash-2"] == {"file": str((tmp_path / "ash.gguf").resolve()), "context": 512}
    assert set(tables) == {"ash-2", "my-model-1", "b"}
    write_entry(RegistryEntry("calibrated", {"sources": tuple(names.values())}, (MARK,), tables))
    again, none = sources_of({"ash-2": tmp_path / "ash.gguf", "ash": ash})
    assert (again, none) == ({"ash-2": "ash-2", "ash": "ash"}, {})
