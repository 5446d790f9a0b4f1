"""How far a load is: what each part takes of the whole, and files that are on the disk only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import cf_local
from cf_local.errors import Cancelled
from cf_local.llama import source
from cf_local.llama.context import Context
from cf_local.llama.load_work import LoadWork, read_ahead, share_on_disk
from cf_local.llama.source import LlamaSource
from cf_local.progress import never

pytestmark = pytest.mark.model

ASH = Path(cf_local.__file__).parent / "builtin" / "ash.gguf"
N_BYTES = 20_000_000


def on_disk_only(path: Path) -> bool:
    """Drop a file from the system's cache; returns whether that is possible here."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return share_on_disk([path]) > 0.9


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"GGUF" + os.urandom(N_BYTES))
    if not on_disk_only(path):
        pytest.skip("files stay in the cache here")
    return path


def test_a_file_is_read_once_and_says_how_far(cold: Path) -> None:
    shares: list[float] = []
    read_ahead(cold, never, shares.append)
    assert len(shares) > 10
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert share_on_disk([cold]) == 0
    shares.clear()
    read_ahead(cold, never, shares.append)
    assert shares == []  # it is there


def test_reading_can_be_cancelled(cold: Path) -> None:
    n_looks = 0

    def is_cancelled() -> bool:
        nonlocal n_looks
        n_looks += 1
        return n_looks > 3

    with pytest.raises(Cancelled):
        read_ahead(cold, is_cancelled)
    assert n_looks == 4


def test_what_has_to_be_read_counts(cold: Path) -> None:
    before = LoadWork.of(cold, n_moved=0, n_contexts=1)
    assert before.reading_s > 0.01
    read_ahead(cold, never)
    after = LoadWork.of(cold, n_moved=0, n_contexts=1)
    assert after.reading_s < 0.002
    assert (after.vocabulary_s, after.weights_s) == (before.vocabulary_s, 0)


def test_parts_add_up_to_the_whole() -> None:
    work = LoadWork(reading_s=6, vocabulary_s=1, weights_s=2, contexts_s=1)
    assert work.progress(0, 0, 0, 0) == 0
    assert work.progress(0.5, 0, 0, 0) == pytest.approx(0.3)
    assert work.progress(1, 1, 0.5, 0) == pytest.approx(0.8)
    assert work.progress(1, 1, 1, 1) == 1.0


def test_a_load_is_not_complete_before_its_contexts_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    at_contexts: list[float] = []

    def context(*given: object, **how: object) -> Context:
        at_contexts.append(shares[-1])
        return Context(*given, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(source, "Context", context)
    file = Path(shutil.copy(ASH, tmp_path))
    is_cold = on_disk_only(file)
    LlamaSource("ash", file, n_sessions=2, on_progress=shares.append).close()
    assert shares == sorted(shares)
    assert 0 < at_contexts[0] < at_contexts[1] < 1
    assert shares[-1] == 1.0
    if is_cold:
        assert shares[0] < at_contexts[0] / 2  # it was read before anything else
