"""Finding files in a hub cache made by hand, and what is said when one cannot be had."""

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors, scan_cache_dir

from cf_local import hub
from cf_local.errors import CfLocalError, MissingModelError
from cf_local.hub import connection, local

REPO, FILE, COMMIT = "org/model-GGUF", "model-Q4_K_M.gguf", "0123456789" * 4


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no network. huggingface_hub read the environment when it was imported."""

    def no_network(*_: Any, **__: Any) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    return tmp_path


def store(
    cache: Path,
    file: str = FILE,
    commit: str = COMMIT,
    ref: str | None = "main",
    content: bytes = b"GGUF",
) -> Path:
    """Lay a file into the cache as the hub's own client does."""
    folder = cache / "models--org--model-GGUF"
    path = folder / "snapshots" / commit / file
    path.parent.mkdir(parents=True, exist_ok=True)
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(content)
    path.symlink_to(os.path.relpath(blob, path.parent))
    if ref is not None:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    return path


def fails_with(error: BaseException) -> Callable[..., Any]:
    def ask(*_: Any, **__: Any) -> None:
        raise error

    return ask


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


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (http_error(errors.GatedRepoError), "accept its licence first, at https://"),
        (http_error(errors.GatedRepoError), "set HF_TOKEN"),
        (http_error(errors.RepositoryNotFoundError), "there is no repository org/model-GGUF"),
        (http_error(errors.RevisionNotFoundError), "no revision 'v2'"),
        (http_error(errors.RemoteEntryNotFoundError), "the repository has no such file"),
        (errors.LocalEntryNotFoundError("no"), "the hub cannot be reached"),
        (http_error(errors.HfHubHTTPError), "the hub has no such file"),
        (ValueError("503 Busy\nRequest ID: x"), "fetched: 503 Busy. Try"),
        (PermissionError(13, "Permission denied", "/hub"), "/hub: Permission denied. Set HF_HUB"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError(""), "RuntimeError. Try again"),
    ],
)
def test_a_failed_download_says_why_and_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, part: str
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fails_with(error))
    with pytest.raises(MissingModelError) as caught:
        hub.locate(REPO, FILE, "v2")
    assert str(caught.value).startswith(f"{FILE} of {REPO} could not be fetched: ")
    assert part in str(caught.value)
    assert caught.value.__cause__ is error


def test_ctrl_c_is_not_an_explanation(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = fails_with(KeyboardInterrupt())
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hub.locate(REPO, FILE)


@pytest.mark.parametrize("repo", ["a/b/c", "a b/c", "/x"])
def test_names_that_the_hub_cannot_have(cache: Path, repo: str) -> None:
    with pytest.raises(MissingModelError, match="is not a file of the hub"):
        hub.locate(repo, FILE, offline=True)


@pytest.mark.parametrize("file", ["../x.gguf", "a/../../x.gguf", "/x.gguf"])
def test_files_that_leave_the_folder(cache: Path, file: str) -> None:
    with pytest.raises(MissingModelError, match="is not a file of the hub"):
        hub.cached(REPO, file)


# ---- By quantization -----------------------------------------------------------------------------


def test_a_quantization_is_found(cache: Path) -> None:
    four = store(cache)
    eight = store(cache, "model-Q8_0.gguf", content=b"8")
    assert hub.cached(REPO) == four
    assert hub.cached(REPO, quant="q4_k_m") == four
    assert hub.cached(REPO, quant="Q8_0") == eight
    assert hub.cached(REPO, quant="Q5_0", nearest=True) is None
    assert hub.locate(REPO, quant="q8_0", offline=True) == eight


def test_what_is_only_near_is_for_when_nobody_can_be_asked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eight = store(cache, "model-Q8_0.gguf")
    assert hub.cached(REPO) is None
    assert hub.locate(REPO, offline=True) == eight
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.locate(REPO) == eight
    with pytest.raises(MissingModelError, match=f"{REPO}:Q5_0 is not on this machine"):
        hub.locate(REPO, quant="Q5_0")


def test_a_hub_out_of_reach_is_as_good_as_none(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eight = store(cache, "model-Q8_0.gguf")
    monkeypatch.setattr(socket.socket, "connect", fails_with(OSError(101, "unreachable")))
    monkeypatch.setattr(connection, "FIRST_WAIT_S", 0.001)
    assert hub.locate(REPO) == eight
    with pytest.raises(MissingModelError, match="the connection failed"):
        hub.look_up(REPO, update=True)


def test_a_split_model_counts_when_it_is_whole(cache: Path) -> None:
    first = store(cache, "big-Q4_K_M-00001-of-00002.gguf", content=b"1")
    assert hub.cached(REPO, nearest=True) is None
    assert hub.cached(REPO, first.name) is None
    store(cache, "big-Q4_K_M-00002-of-00002.gguf", content=b"2")
    assert hub.cached(REPO) == first
    assert hub.cached(REPO, first.name) == first


def test_without_a_revision_every_commit_is_looked_through(cache: Path) -> None:
    other = store(cache, commit="a" * 40, ref=None)
    assert hub.cached(REPO, FILE) == hub.cached(REPO) == other
    assert hub.cached(REPO, FILE, "main") is None
    main = store(cache)
    assert hub.cached(REPO, FILE) == main
    assert hub.cached(REPO, FILE, "a" * 40) == other
    assert hub.place_of(REPO, other) == ("a" * 40, FILE)


def test_a_broken_link_is_no_file(cache: Path) -> None:
    store(cache).resolve().unlink()
    assert hub.cached(REPO) is None
    assert hub.cached(REPO, FILE) is None


def test_the_hash_is_the_blobs_name_wherever_the_blob_points(cache: Path, tmp_path: Path) -> None:
    path = store(cache)
    expected = hashlib.sha256(b"GGUF").hexdigest()
    shared = cache / "blobs" / "ab" / ("ab" * 32)  # named by Xet's hash, not by SHA-256
    shared.parent.mkdir(parents=True)
    blob = path.resolve()
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    link = tmp_path / "link.gguf"
    link.symlink_to(path)
    for file in (path, blob, shared, link):
        hub.sha256.cache_clear()
        assert hub.sha256(file) == expected
    assert local.etag_of(path) == local.etag_of(link) == expected
    assert local.etag_of(shared) is None
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert local.etag_of(loop) is None


# ---- What there is, and removing it --------------------------------------------------------------


def lay_part(cache: Path, name: str = "b" * 64 + ".cf-local.incomplete") -> Path:
    path = cache / "models--org--model-GGUF" / "blobs" / name
    path.write_bytes(b"part")
    return path


def test_the_inventory_tells_models_and_parts(cache: Path) -> None:
    assert hub.inventory() == hub.Inventory((), (), ())
    path = store(cache)
    store(cache, "README.md", content=b"hello")
    store(cache, "s/big-Q8_0-00002-of-00002.gguf", content=b"22")
    store(cache, "s/big-Q8_0-00001-of-00002.gguf", content=b"1")
    part = lay_part(cache)
    (cache / "models--org--broken").mkdir()
    held = hub.inventory()
    first, second = held.models
    assert (first.repo, first.file, first.commit, first.refs) == (REPO, FILE, COMMIT, ("main",))
    assert (first.path, first.size_bytes) == (path, 4)
    assert (second.file, second.size_bytes) == ("s/big-Q8_0-00001-of-00002.gguf", 3)
    assert len(second.files) == 2
    (unfinished,) = held.unfinished
    assert (unfinished.repo, unfinished.path, unfinished.n_bytes) == (REPO, part, 4)
    assert unfinished.etag == "b" * 64
    assert "broken" in held.warnings[0]


def test_removing_frees_what_nobody_else_uses(cache: Path) -> None:
    four = store(cache)
    eight = store(cache, "model-Q8_0.gguf", content=b"12345678")
    readme = store(cache, "README.md", content=b"hello")
    removal = hub.plan_removal(REPO, quant="q8_0")
    assert (removal.files, removal.freed_bytes) == (((COMMIT, "model-Q8_0.gguf"),), 8)
    assert eight.exists(), "a plan removes nothing"
    blob = eight.resolve()
    hub.remove(removal)
    assert not eight.is_symlink()
    assert not blob.exists()
    assert four.exists()
    assert readme.exists()
    assert scan_cache_dir(cache).warnings == []
    with pytest.raises(MissingModelError, match="is not on this machine"):
        hub.plan_removal(REPO, quant="q8_0")


def test_content_of_another_revision_stays(cache: Path) -> None:
    old = store(cache, commit="a" * 40, ref=None)
    new = store(cache)
    removal = hub.plan_removal(REPO, file=FILE)
    assert (removal.freed_bytes, removal.kept_by) == (0, ("a" * 40,))
    hub.remove(removal)
    assert not new.is_symlink()
    assert old.read_bytes() == b"GGUF"
    removal = hub.plan_removal(REPO, file=FILE, revision="a" * 40)
    assert (removal.freed_bytes, removal.kept_by) == (4, ())
    hub.remove(removal)
    assert hub.cached(REPO) is None


def test_all_revisions_at_once(cache: Path) -> None:
    old, new = store(cache, commit="a" * 40, ref=None), store(cache)
    removal = hub.plan_removal(REPO, all_revisions=True)
    assert (removal.freed_bytes, len(removal.files)) == (4, 2)
    hub.remove(removal)
    assert not old.is_symlink()
    assert not new.is_symlink()


def test_content_under_another_name_stays(cache: Path) -> None:
    path, twin = store(cache), store(cache, "twin-Q8_0.gguf")
    hub.remove(hub.plan_removal(REPO, quant="Q4_K_M"))
    assert not path.is_symlink()
    assert twin.read_bytes() == b"GGUF"


def test_parts_go_with_the_repository(cache: Path) -> None:
    path = store(cache)
    ours, theirs = lay_part(cache), lay_part(cache, "c" * 64 + ".0badcafe.incomplete")
    assert hub.plan_removal(REPO, quant="Q4_K_M").parts == ()
    removal = hub.plan_removal(REPO)
    assert removal.freed_bytes == 12
    hub.remove(removal)
    assert not any(file.exists() for file in (path, ours, theirs))


def test_what_is_being_downloaded_stays(cache: Path) -> None:
    path, part = store(cache), lay_part(cache)
    removal = hub.plan_removal(REPO)
    another = pytest.raises(CfLocalError, match="is being downloaded by another process")
    with local.locked(REPO, "b" * 64), another:
        hub.remove(removal)
    assert path.exists()
    assert part.exists()


def test_a_damaged_repository_is_not_touched(cache: Path) -> None:
    path = store(cache)
    path.resolve().unlink()
    with pytest.raises(CfLocalError, match="is damaged: Blob missing"):
        hub.plan_removal(REPO)
    assert path.is_symlink()


def test_a_file_that_cannot_go_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(cache)
    removal = hub.plan_removal(REPO)
    monkeypatch.setattr(Path, "unlink", fails_with(PermissionError(13, "Permission denied", "f")))
    with pytest.raises(CfLocalError, match="f could not be removed: Permission denied"):
        hub.remove(removal)
    assert path.exists()


def test_a_cache_that_is_a_file_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = cache / "file"
    place.touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    with pytest.raises(CfLocalError, match="HF_HOME") as caught:
        hub.inventory()
    assert str(place) in str(caught.value)


def test_a_repository_that_is_a_link_to_itself_is_named(cache: Path) -> None:
    (cache / "models--a--b").symlink_to("models--a--b")
    (warning,) = hub.inventory().warnings
    assert "models--a--b" in warning
