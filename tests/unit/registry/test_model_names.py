"""What a user may call a model, and what is meant by it."""

from pathlib import Path

import pytest

from cf_local.errors import ConfigError, InputError
from cf_local.registry.model_names import hub_spec_of, spec_of, specs_of
from cf_local.registry.registry import Registry, SourceSpec, load_registry


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def registry() -> Registry:
    return load_registry(Path("none.toml"))


@pytest.mark.parametrize(
    ("text", "repo", "file", "quant", "name"),
    [
        ("org/model-GGUF", "org/model-GGUF", "", None, "model"),
        ("org/model.gguf:Q8_0", "org/model.gguf", "", "Q8_0", "model"),
        ("Qwen/Qwen2.5-1.5B-GGUF:q4_k_m", "Qwen/Qwen2.5-1.5B-GGUF", "", "q4_k_m", "Qwen2.5-1.5B"),
        ("org/m:x/m-Q4_0.gguf", "org/m", "x/m-Q4_0.gguf", None, "m"),
    ],
)
def test_a_repository_of_the_hub(
    registry: Registry, text: str, repo: str, file: str, quant: str | None, name: str
) -> None:
    spec = spec_of(registry, text)
    assert (spec.repo, spec.file, spec.quant, spec.name) == (repo, file, quant, name)
    assert spec.local_path is None


@pytest.mark.parametrize(
    "text",
    [
        *("model.gguf", "./model.gguf", "a/model.gguf", "/a/b.gguf", "../a/b", "./a/b", "/a/b"),
        *("a/b/c", "C:\\models\\a.gguf", "~/m.gguf", "here/is-it"),
    ],
)
def test_a_path(registry: Registry, text: str) -> None:
    Path("here").mkdir()
    Path("here/is-it").touch()
    spec = spec_of(registry, text)
    assert (spec.repo, spec.file) == (None, str(Path(text).expanduser()))


def test_a_path_object_is_a_path(registry: Registry) -> None:
    assert spec_of(registry, Path("org/model")).repo is None


def test_an_alias_wins(registry: Registry) -> None:
    assert spec_of(registry, "ash") == registry.source("ash")
    assert [spec.name for spec in specs_of(registry, "builtin")] == ["ash", "birch", "cedar"]
    assert [spec.name for spec in specs_of(registry, "birch")] == ["birch"]


@pytest.mark.parametrize("text", ["nothing", "nothing:Q4_0", ""])
def test_what_is_nothing(registry: Registry, text: str) -> None:
    with pytest.raises(ConfigError, match="No source is named"):
        spec_of(registry, text)


def test_what_can_be_removed(registry: Registry) -> None:
    assert hub_spec_of(registry, "llama-3.2-1b").repo is not None
    assert hub_spec_of(registry, "org/m:Q4_0").quant == "Q4_0"
    for name in ("ash", "./a.gguf"):
        with pytest.raises(InputError, match=f"^{name} "):
            hub_spec_of(registry, name)


TOML = """
[sources.a]
repo = "org/a"
quant = "Q8_0"
[sources.b]
repo = "org/b"
[sources.c]
repo = "org/c"
file = "c.gguf"
"""


def test_a_source_may_name_a_quantization() -> None:
    Path("models.toml").write_text(TOML, encoding="utf-8")
    sources = load_registry(Path("none.toml")).sources
    assert (sources["a"].repo, sources["a"].file, sources["a"].quant) == ("org/a", "", "Q8_0")
    assert (sources["b"].file, sources["b"].quant) == ("", None)
    assert (sources["c"].file, sources["c"].quant) == ("c.gguf", None)
    assert all(isinstance(sources[name], SourceSpec) and sources[name].repo for name in "abc")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('repo = "org/a"\nfile = "a.gguf"\nquant = "Q8_0"', 4, "give repo and quant, without file"),
        ('file = "a.gguf"\nquant = "Q8_0"', 3, "quant chooses a file in a repo"),
        ('quant = "Q8_0"', 2, "quant chooses a file in a repo"),
        ('repo = "org/a"\nquant = 8', 3, "quant must be text"),
        ('repo = ""', 1, "names no file"),
    ],
)
def test_a_quantization_goes_with_a_repository(text: str, line: int, message: str) -> None:
    Path("models.toml").write_text(f"[sources.a]\n{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"line {line}: .*{message}"):
        load_registry(Path("none.toml"))


@pytest.mark.parametrize(
    "name", ["tiny.bin", "noending", "UPPER.GGUF", "two words.gguf", "my model"]
)
def test_a_file_that_exists_is_that_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"GGUF")
    for written in (name, f"./{name}", str(tmp_path / name)):
        spec = spec_of(load_registry(), written)
        assert spec.repo is None
        assert Path(spec.file).resolve() == (tmp_path / name).resolve()
        assert spec.name == Path(name).stem


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "m.bin").write_bytes(b"GGUF")
    assert spec_of(load_registry(), "~/m.bin").file == str(tmp_path / "m.bin")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf.co/org/repo:Q8_0", ("org/repo", "", "Q8_0", None)),
        ("huggingface.co/org/repo", ("org/repo", "", None, None)),
        ("https://huggingface.co/org/repo/", ("org/repo", "", None, None)),
        ("https://huggingface.co/org/repo/tree/main", ("org/repo", "", None, None)),
        ("https://hf.co/org/repo/blob/main/a/m.gguf", ("org/repo", "a/m.gguf", None, None)),
        (
            "https://huggingface.co/org/repo/resolve/v1/m.gguf?download=true",
            ("org/repo", "m.gguf", None, "v1"),
        ),
    ],
)
def test_an_address_of_the_hub(address: str, expected: tuple[str, str, str, str]) -> None:
    spec = spec_of(load_registry(), address)
    assert (spec.repo, spec.file, spec.quant, spec.revision) == expected


def test_an_address_of_another_file_and_a_name_that_no_file_can_have() -> None:
    with pytest.raises(InputError, match=r"not the address of a \.gguf file. Name org/repo"):
        spec_of(load_registry(), "https://huggingface.co/org/repo/blob/main/README.md")
    with pytest.raises(InputError, match="cannot be a file"):
        spec_of(load_registry(), "x" * 300 + "/y")
