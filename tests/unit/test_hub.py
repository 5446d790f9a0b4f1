"""Finding files in a hub cache made by hand, and what is said when one cannot be had."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from cf_local import hub
from cf_local.errors import MissingModelError

REPO, FILE, COMMIT = "org/model-GGUF", "model-Q4_K_M.gguf", "0123456789" * 4


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no network. huggingface_hub read the environment when it was imported."""

    def no_network(*_: Any, **__: Any) -> str:
        pytest.fail("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_network)
    return tmp_path


def store(cache: Path) -> Path:
    """Lay a file into the cache as the hub's own client does."""
    folder = cache / "models--org--model-GGUF"
    path = folder / "snapshots" / COMMIT / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return path


def fails_with(error: Exception) -> Callable[..., str]:
    def download(*_: Any, **__: Any) -> str:
        raise error

    return download


def http_error(kind: type[errors.HfHubHTTPError], text: str = "no") -> errors.HfHubHTTPError:
    response: Any = SimpleNamespace(headers={}, status_code=404, request=None)
    return kind(text, response=response)


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_file_is_used_without_asking(
    cache: Path, offline: bool, revision: str | None
) -> None:
    path = store(cache)
    assert hub.cached(REPO, FILE, revision) == path
    assert hub.locate(REPO, FILE, revision, offline=offline) == path


def test_what_is_not_cached_is_not_found(cache: Path) -> None:
    store(cache)
    assert hub.cached(REPO, "other.gguf") is None
    assert hub.cached(REPO, FILE, "v2") is None


def test_offline_names_the_missing_file_and_says_what_to_do(cache: Path) -> None:
    with pytest.raises(MissingModelError) as caught:
        hub.locate(REPO, FILE, offline=True)
    assert str(caught.value).startswith(f"{FILE} of {REPO} is not on this machine")
    assert "name a .gguf file that you have" in str(caught.value)
    assert caught.value.exit_code == 3


def test_the_environment_decides_cache_and_offline(tmp_path: Path) -> None:
    path = store(tmp_path)
    code = (
        "from cf_local import hub\n"
        f"print(hub.locate({REPO!r}, {FILE!r}))\n"
        f"hub.locate({REPO!r}, 'other.gguf')\n"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(path)
    assert "MissingModelError: other.gguf of org/model-GGUF is not on this machine" in done.stderr


def test_what_is_downloaded_is_returned(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, filename: str, revision: str | None) -> str:
        asked.append((repo, filename, revision))
        return str(store(cache))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert hub.locate(REPO, FILE, "main").read_bytes() == b"GGUF"
    assert asked == [(REPO, FILE, "main")]


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (http_error(errors.GatedRepoError), "licence must be accepted first, at https://"),
        (http_error(errors.GatedRepoError), "set HF_TOKEN"),
        (http_error(errors.RepositoryNotFoundError), "there is no repository org/model-GGUF"),
        (http_error(errors.RevisionNotFoundError), "no revision 'v2'"),
        (http_error(errors.RemoteEntryNotFoundError), "the repository has no such file"),
        (errors.LocalEntryNotFoundError("no"), "the hub cannot be reached"),
        (http_error(errors.HfHubHTTPError, "503 Busy\nRequest ID: x"), "fetched: 503 Busy. Try"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError(""), "RuntimeError. Try again"),
    ],
)
def test_a_failed_download_says_why_and_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, part: str
) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails_with(error))
    with pytest.raises(MissingModelError) as caught:
        hub.locate(REPO, FILE, "v2")
    assert str(caught.value).startswith(f"{FILE} of {REPO} could not be fetched: ")
    assert part in str(caught.value)
    assert caught.value.__cause__ is error


def test_ctrl_c_is_not_an_explanation(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hub.locate(REPO, FILE)


@pytest.mark.parametrize("repo", ["a/b/c", "a b/c", "/x"])
def test_names_that_the_hub_cannot_have(cache: Path, repo: str) -> None:
    with pytest.raises(MissingModelError, match="is no file of the hub"):
        hub.locate(repo, FILE, offline=True)
