"""What was found out once about models is kept, and is nobody's loss."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

import cf_local
from cf_local.errors import MissingModelError
from cf_local.loading import measured
from cf_local.loading.measured import RememberedModel, get, key_of, put

BUILTIN = Path(cf_local.__file__).parent / "builtin"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CF_LOCAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "measured"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(BUILTIN / "ash.gguf", tmp_path / "a model.gguf"))


def test_a_record_is_there_until_it_is_deleted(cache: Path) -> None:
    assert get("key") == {}
    put("key", {"a": 1})
    assert get("key") == {"a": 1}
    assert [file.name for file in cache.iterdir()] == ["key.json"]
    shutil.rmtree(cache)
    assert get("key") == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_a_damaged_record_is_none(cache: Path, text: str) -> None:
    put("key", {"a": 1})
    (cache / "key.json").write_bytes(text.encode("utf-8", errors="surrogateescape"))
    assert get("key") == {}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    put("key", {"a": 1})
    assert get("key") == {}


def test_a_key_is_that_of_a_file_and_a_question(model: Path, tmp_path: Path) -> None:
    key = key_of(model, of="memory")
    assert key_of(model, of="memory") == key
    other = Path(shutil.copy(model, tmp_path / "other.gguf"))
    assert len({key, key_of(model, of="passes"), key_of(other, of="memory")}) == 3
    time.sleep(0.02)
    model.touch()
    assert key_of(model, of="memory") != key


def test_another_build_asks_anew(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_of(model, of="memory")
    monkeypatch.setattr(measured, "system_info", lambda: "AVX512 = 1")
    assert key_of(model, of="memory") != key


def test_what_a_model_takes_is_simulated_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RememberedModel(model, 4, 1)
    assert not first.is_known
    sizes, layout = first.sizes("ash"), first.layout(512, "f16")
    first.close()

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the header was read again")

    monkeypatch.setattr(measured, "SimulatedModel", fail)
    second = RememberedModel(model, 4, 1)
    assert second.is_known
    again = second.sizes("birch")
    for name in measured._SIZES:
        assert getattr(again, name) == getattr(sizes, name)
    assert again.name == "birch"
    assert again.layout(512, "f16") == layout
    second.close()
    assert not RememberedModel(model, 5, 1).is_known


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingModelError, match="nowhere"):
        RememberedModel(tmp_path / "nowhere.gguf", 4, 1)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first = tmp_path / "m-00001-of-00002.gguf"
    shutil.copy(BUILTIN / "ash.gguf", first)
    with pytest.raises(MissingModelError, match="m-00002-of-00002"):
        RememberedModel(first, 4, 1)
