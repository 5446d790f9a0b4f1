"""Layers of models.toml: keys are merged, each value knows its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.errors import ConfigError
from cf_local.registry.registry import CONFIG_VARIABLE, check_file, load_registry
from cf_local.registry.toml import TomlFile, merge

KEYS = ("start", "a", "b", "quant")
TABLES = st.dictionaries(
    st.sampled_from(("x", "y")), st.dictionaries(st.sampled_from(KEYS), st.integers()), max_size=2
)


def file_of(name: str) -> TomlFile:
    return TomlFile(Path(name), name, "", {})


@given(st.lists(TABLES, max_size=5))
def test_each_key_is_the_highest_since_the_entry_began(
    layers: list[dict[str, dict[str, int]]],
) -> None:
    files = [file_of(str(index)) for index in range(len(layers))]
    merged = merge(zip(files, layers, strict=True), {"start"}, {"quant": {"a"}})
    assert merged.keys() == {name for tables in layers for name in tables}
    for name, entry in merged.items():
        said = [(i, tables[name]) for i, tables in enumerate(layers) if name in tables]
        first = max([i for i, table in said if "start" in table], default=said[0][0])
        said = [(i, table) for i, table in said if i >= first]
        assert [int(file.origin) for file in entry.layers] == [i for i, _ in said]
        for key in KEYS:
            givers = [i for i, table in said if key in table]
            dropped = key == "a" and any(
                "quant" in table and i > max(givers, default=-1) for i, table in said
            )
            if not givers or dropped:
                assert key not in entry.values
                continue
            assert entry.values[key] == layers[givers[-1]][name][key]
            assert entry.files_by_key[key] is files[givers[-1]]
        assert entry.values.keys() == entry.files_by_key.keys()


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    monkeypatch.setattr("cf_local.registry.registry.user_file", lambda: tmp_path / "user.toml")
    return tmp_path


def project(folders: Path, text: str) -> Path:
    path = folders / "project" / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def user(folders: Path, text: str) -> Path:
    path = folders / "user.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_project_changes_one_key_of_a_built_in_source(folders: Path) -> None:
    path = project(folders, '# mine\n[sources."llama-3.2-1b"]\ncontext = 8192\n')
    registry = load_registry()
    spec = registry.source("llama-3.2-1b")
    assert (spec.context, spec.repo) == (8192, "bartowski/Llama-3.2-1B-Instruct-GGUF")
    assert (spec.licence, spec.origin) == ("Llama 3.2 Community License", "built in")
    assert str(registry.origin("sources", "llama-3.2-1b", "context")) == f"{path}:3"
    assert str(registry.origin("sources", "llama-3.2-1b", "repo")) == "built in"
    assert registry.origin("sources", "llama-3.2-1b", "threads") is None
    assert registry.layers("sources", "llama-3.2-1b") == ("built in", str(path))


def test_three_layers_of_one_fusion(folders: Path) -> None:
    own = user(folders, '[fusions.builtin]\nscore = "perplexity"\nmode = "rerank"\n')
    path = project(folders, '[fusions.builtin]\nmode = "cool+r"\nweights = {birch = 2}\n')
    registry = load_registry()
    fusion = registry.fusion("builtin")
    settings = fusion.settings
    assert (settings.mode, settings.score) == ("cool+r", "perplexity")
    assert settings.weights == {"birch": 2}
    assert fusion.sources == ("ash", "birch", "cedar")
    origins = [str(registry.origin("fusions", "builtin", k)) for k in ("sources", "score", "mode")]
    assert origins == ["built in", f"{own}:2", f"{path}:2"]


def test_another_model_inherits_nothing(folders: Path) -> None:
    user(folders, '[sources.ash]\nfile = "/mine.gguf"\n')
    spec = load_registry().source("ash")
    assert (spec.licence, spec.description, spec.origin) == (None, None, str(folders / "user.toml"))


def test_other_sources_inherit_no_weights(folders: Path) -> None:
    user(folders, '[fusions.f]\nsources = ["ash", "birch"]\nweights = {ash = 2}\n')
    project(folders, '[fusions.f]\nsources = ["cedar"]\n')
    assert load_registry().fusion("f").settings.weights == "size"


def test_another_quantization_is_another_file_of_the_same_repository(folders: Path) -> None:
    project(folders, '[sources."llama-3.2-1b"]\nquant = "Q8_0"\n')
    spec = load_registry().source("llama-3.2-1b")
    assert (spec.file, spec.quant, spec.size_bytes) == ("", "Q8_0", None)
    assert spec.repo == "bartowski/Llama-3.2-1B-Instruct-GGUF"


def test_a_path_is_relative_to_the_file_that_names_it(folders: Path) -> None:
    user(folders, '[sources.x]\nfile = "x.gguf"\n')
    project(folders, "[sources.x]\ncontext = 9\n")
    assert load_registry().source("x").local_path == folders.resolve() / "x.gguf"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[fusions.builtin]\nweights = [1]\n",
            'line 2: weights must be a table, or "size" or "equal", not [1].',
        ),
        ('[fusions.builtin]\nweights = "age"\n', "line 2: weights is 'age'"),
        ('[fusions.builtin]\nmode = "hot"\n', "line 2: mode is 'hot'"),
        ("[sources.ash]\ncontext = 0\n", "line 2: context is 0; it must be at least 1."),
        (
            f"[sources.ash]\nthreads = {2**31}\n",
            "line 2: threads is 2147483648; it must be at most",
        ),
        ("[sources.new]\ncontext = 5\n", "line 1: source 'new' names no file."),
        ('[sources.ash]\nquant = "Q8_0"\n', "line 2: quant chooses a file in a repo"),
        ('[sources.x]\nfile = "a\\u0000b"\n', "line 2: file contains a NUL character."),
        ("[fusions.builtin]\nweights = {ash = true}\n", "line 2: weights: True is not a number"),
    ],
)
def test_a_mistake_is_told_of_the_layer_that_made_it(
    folders: Path, text: str, message: str
) -> None:
    path = project(folders, text)
    with pytest.raises(ConfigError) as caught:
        load_registry()
    assert str(caught.value).startswith(f"{path}, {message}")


def test_what_two_layers_make_impossible_together(folders: Path) -> None:
    user(folders, '[fusions.f]\nsources = ["ash"]\nsegment_words = 2\n')
    path = project(folders, '[fusions.f]\nsegments = "sentence"\n')
    with pytest.raises(ConfigError, match="segments 'sentence' do not count words") as caught:
        load_registry()
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default = 'a'\ndefault = 'b'\n", "A key or a table occurs twice."),
        ("[sources.x]\n[sources.x]\n", "A key or a table occurs twice."),
        ("x = " + "[" * 5000, "this is not valid TOML"),
        ("x = " + "9" * 5000, "this is not valid TOML"),
    ],
)
def test_what_no_toml_reader_takes(folders: Path, text: str, message: str) -> None:
    project(folders, text)
    with pytest.raises(ConfigError, match=message):
        load_registry()


def test_a_byte_order_mark_is_skipped(folders: Path) -> None:
    project(folders, "\ufeffdefault = 'laptop'\n")
    registry = load_registry()
    assert registry.default_fusion == "laptop"
    assert str(registry.default_origin).endswith("models.toml:1")


def test_a_home_that_there_is_not(folders: Path) -> None:
    project(folders, '[sources.x]\nfile = "~nobody-of-that-name/x.gguf"\n')
    assert load_registry().source("x").local_path is not None


def test_a_file_is_checked_over_the_users(folders: Path) -> None:
    user(folders, '[sources.x]\nfile = "x.gguf"\n')
    other = folders / "other.toml"
    other.write_text('default = "f"\n[fusions.f]\nsources = ["x"]\n', encoding="utf-8")
    assert check_file(other).files == ("built in", str(folders / "user.toml"), str(other))
    assert check_file(folders / "user.toml").files == (
        "built in",
        str(folders / "user.toml"),
    )
