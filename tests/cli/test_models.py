"""`cf-local list --all` and `--json`: whole, for a small registry."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cf_local import hub
from cf_local.cli.list import list_models
from cf_local.registry.registry import CONFIG_VARIABLE

USER_FILE = Path("/home/me/models.toml")
REGISTRY = """
default = "pair"
[fusions.pair]
sources = ["near", "far"]
weights = {far = 0.5}
description = "Two of them"
[sources.near]
file = "near.gguf"
licence = "MIT"
[sources.far]
repo = "org/repo"
file = "far-Q4_K_M.gguf"
licence = "Apache-2.0"
size_bytes = 2_019_377_696
[sources.gone]
file = "builtin:gone.gguf"
size_bytes = 1_500_000
"""


@pytest.fixture
def small_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models.toml").write_text(REGISTRY, encoding="utf-8")
    (tmp_path / "near.gguf").write_bytes(b"x" * 2_500_000)
    monkeypatch.setattr(
        "cf_local.registry.registry._builtin_file", lambda: tmp_path / "models.toml"
    )
    monkeypatch.setattr("cf_local.registry.registry.user_file", lambda: USER_FILE)
    monkeypatch.setattr("cf_local.cli.registry_view.user_file", lambda: USER_FILE)
    monkeypatch.setattr(hub, "cached", lambda *_, **__: None)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_transcript(small_registry: Path) -> None:
    result = CliRunner().invoke(list_models, ["--all"])
    assert result.exit_code == 0
    near = small_registry.resolve() / "near.gguf"
    assert result.output == (
        "pair (default): Two of them\n"
        "  cool, mixture, aligned segments, weights far=0.5; built in\n"
        f"    near  here         2.5 MB   MIT         {near}\n"
        "    far   to download  2.02 GB  Apache-2.0  org/repo/far-Q4_K_M.gguf\n"
        "\n"
        "sources in no fusion\n"
        "    gone  missing  1.5 MB  licence unknown  builtin:gone.gguf\n"
        "\n"
        "Read from: built in. Your own entries go into:\n"
        f"  {USER_FILE}\n"
    )


def test_json(small_registry: Path) -> None:
    result = CliRunner().invoke(list_models, ["--json"], catch_exceptions=False)
    data = json.loads(result.output)
    assert data["default_fusion"] == "pair"
    assert data["files"] == ["built in"]
    assert data["fusions"][0]["sources"] == ["near", "far"]
    near, far, gone = data["sources"]
    assert near["path"] == str(small_registry.resolve() / "near.gguf")
    assert near["size_bytes"] == 2_500_000
    assert (far["path"], far["repo"], far["size_bytes"]) == (None, "org/repo", 2_019_377_696)
    assert gone["path"] is None


def test_what_is_in_the_hubs_cache_is_here(
    small_registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def cached(repo: str, filename: str, revision: str | None, quant: str | None) -> Path:
        asked.append((repo, filename, revision, quant))
        return small_registry / "near.gguf"

    monkeypatch.setattr(hub, "cached", cached)
    assert "far   here  2.5 MB" in CliRunner().invoke(list_models, ["--all"]).output
    assert asked == [("org/repo", "far-Q4_K_M.gguf", None, None)]


def test_embedding_models_have_a_heading_of_their_own(small_registry: Path) -> None:
    with (small_registry / "models.toml").open("a", encoding="utf-8") as file:
        file.write('[sources.bert]\nfile = "near.gguf"\nkind = "embedding"\n')
    output = CliRunner().invoke(list_models, ["--all"]).output
    others = output.partition("sources in no fusion\n")[2]
    assert "bert" not in others.partition("\n\n")[0]
    assert others.partition("\n\n")[2].startswith("embedding models\n    bert  here  2.5 MB")
    sources = json.loads(
        CliRunner().invoke(list_models, ["--json"], catch_exceptions=False).output
    )["sources"]
    assert [each["kind"] for each in sources] == [None, None, None, "embedding"]
