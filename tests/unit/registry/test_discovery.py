"""GGUF files are found where each tool keeps them, as it lays them out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import platformdirs
import pytest
from huggingface_hub import constants

from cf_local.registry.discovery import FoundFile, discover

COMMIT = "c" * 40


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home, work = tmp_path / "home", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("LLAMA_CACHE", "OLLAMA_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(work)
    return home


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def by_label(found: list[FoundFile]) -> dict[str, FoundFile]:
    return {each.label: each for each in found}


def test_nothing(home: Path) -> None:
    assert discover() == []


def test_the_hub(home: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--org--m-GGUF" / "snapshots" / COMMIT
    path = write(snapshot / "deep" / "m-Q4_K_M.gguf")
    write(snapshot / "README.md")
    for part in (1, 2):
        write(snapshot / f"big-0000{part}-of-00002.gguf")
    found = by_label(discover())
    assert found.keys() == {"m-Q4_K_M.gguf", "big-00001-of-00002.gguf"}
    assert found["m-Q4_K_M.gguf"] == FoundFile(
        path, "Hugging Face hub", "m-Q4_K_M.gguf", "org/m-GGUF", "deep/m-Q4_K_M.gguf"
    )


@pytest.mark.parametrize("folder", [".lmstudio/models", ".cache/lm-studio/models"])
def test_lm_studio(home: Path, folder: str) -> None:
    path = write(home / folder / "publisher" / "repo" / "a-Q4_K_M.gguf")
    write(home / folder / "publisher" / "repo" / "a-00002-of-00002.gguf")
    assert discover() == [FoundFile(path, "LM Studio", "a-Q4_K_M.gguf")]


def test_lm_studio_elsewhere(home: Path, tmp_path: Path) -> None:
    other, third = tmp_path / "other", tmp_path / "third"
    write(home / ".lmstudio-home-pointer", f"{other}\n")
    write(other / "settings.json", json.dumps({"downloadsFolder": str(third)}))
    paths = [write(other / "models" / "p" / "a.gguf"), write(third / "p" / "b.gguf")]
    assert [each.path for each in discover()] == paths


@pytest.mark.parametrize("named", [False, True])
def test_ollama(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    folder = home / ".ollama" / "models"
    if named:
        folder = tmp_path / "ollama"
        monkeypatch.setenv("OLLAMA_MODELS", str(folder))
    digest = "sha256:" + "a" * 64
    blob = write(folder / "blobs" / digest.replace(":", "-"))
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:1"},
        {"mediaType": "application/vnd.ollama.image.model", "digest": digest},
    ]
    library = folder / "manifests" / "registry.ollama.ai" / "library"
    write(library / "llama3.2" / "3b", json.dumps({"layers": layers}))
    write(library / "llama3.2" / "latest", json.dumps({"layers": layers}))  # the same blob
    gone = [{"mediaType": layers[1]["mediaType"], "digest": "sha256:" + "b" * 64}]
    write(library / "gone" / "latest", json.dumps({"layers": gone}))
    for number, text in enumerate(("{", "[]", "{}", '{"layers": [1]}', '{"layers": 3}')):
        write(library / "broken" / str(number), text)
    assert discover() == [FoundFile(blob, "Ollama", "llama3.2:3b")]


@pytest.mark.parametrize("named", [False, True])
def test_llama_cpp(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    folder = platformdirs.user_cache_path("llama.cpp", appauthor=False, opinion=False)
    if named:
        folder = tmp_path / "llama"
        monkeypatch.setenv("LLAMA_CACHE", str(folder))
    path = write(folder / "org_m-GGUF_m-Q4_K_M.gguf")
    write(folder / "org_m-GGUF_m-Q4_K_M.gguf.json")
    assert discover() == [FoundFile(path, "llama.cpp", path.name)]


def test_folders(home: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    paths = [
        write(tmp_path / "named" / "1" / "2" / "3" / "n.GGUF"),
        write(work / "w.gguf"),
        write(work / "1" / "2" / "near.gguf"),
        write(home / "models" / "h.gguf"),
    ]
    write(work / "1" / "2" / "3" / "far.gguf")
    write(work / ".hidden" / "x.gguf")
    write(work / "a.gguf.part")
    assert [each.path for each in discover([tmp_path / "named"])] == paths


@pytest.mark.skipif(os.name == "nt", reason="links need a permission there")
def test_a_file_counts_once(home: Path, tmp_path: Path) -> None:
    path = write(home / "models" / "a.gguf")
    (tmp_path / "work" / "link.gguf").symlink_to(path)
    (tmp_path / "work" / "nothing.gguf").symlink_to(tmp_path / "gone.gguf")
    assert [each.label for each in discover()] == ["link.gguf"]
