"""Fusions that have a model in common share its weights, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import cf_local
from cf_local.errors import BrokenModelError, Cancelled
from cf_local.llama import weights
from cf_local.llama.source import LlamaSource
from cf_local.llama.weights import Weights
from cf_local.runtime.fusion import Fusion
from cf_local.types import RawText

pytestmark = pytest.mark.model

QUESTION = cf_local.chat("Tom has 23 apples and buys 45 more. How many has he now?")


def handle(fusion: Fusion, name: str) -> int:
    (source,) = [source for source in fusion.sources if source.info.name == name]
    return source._model.handle  # type: ignore[attr-defined]


def test_overlapping_fusions_share_weights_and_close_apart() -> None:
    with cf_local.load(models=["ash", "birch"]) as alone:
        expected = alone.answer(QUESTION).text
    first = cf_local.load(models=["ash", "birch"])
    second = cf_local.load(models=["birch", "cedar"])
    assert handle(first, "birch") is handle(second, "birch")
    with ThreadPoolExecutor(2) as pool:  # at the same time, on the same weights
        texts = [pool.submit(lambda: first.answer(QUESTION).text) for _ in range(4)]
        others = [pool.submit(lambda: second.answer(QUESTION).text) for _ in range(4)]
        assert {each.result() for each in texts} == {expected}
        assert len({each.result() for each in others}) == 1
    second.close()
    assert first.answer(QUESTION).text == expected
    first.close()
    assert not weights._entries


def test_a_copy_on_other_devices_is_another_one(tiny_model: Callable[..., Path]) -> None:
    path = tiny_model("llama")
    first, same, other = (Weights(path, devices=d) for d in ((), (), None))
    assert first.model is same.model
    assert other.model is not first.model
    for each in (first, same, same, other):  # twice does not count twice
        each.close()
    assert not weights._entries


def test_a_file_that_was_replaced_is_another_model(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(tiny_model("llama", seed=1), path)
    before = LlamaSource("before", path, n_threads=1)
    shutil.copy(tiny_model("llama", seed=2), tmp_path / "new.gguf")
    os.utime(tmp_path / "new.gguf", (1, 1))
    (tmp_path / "new.gguf").replace(path)
    after = LlamaSource("after", path, n_threads=1)
    assert before._model is not after._model
    assert before.state_key != after.state_key
    with Fusion([before]), Fusion([after]) as fusion:
        fusion.answer(RawText("The quick"))


def test_many_threads_load_one_copy(tiny_model: Callable[..., Path]) -> None:
    path = tiny_model("llama")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            opened = list(pool.map(lambda _: Weights(path), range(8)))
            assert len({id(each.model) for each in opened}) == 1
            list(pool.map(Weights.close, opened))
            assert opened[0].model.handle is None
    assert not weights._entries


def test_a_load_that_fails_or_is_cancelled_leaves_nothing(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BrokenModelError):
        Weights(bad)
    with pytest.raises(Cancelled):
        Weights(tiny_model("llama"), is_cancelled=lambda: True)
    assert not weights._entries
    Weights(tiny_model("llama")).close()


def test_sharing_can_be_cancelled(tiny_model: Callable[..., Path]) -> None:
    path = tiny_model("llama")
    shared = Weights(path)
    with pytest.raises(Cancelled):
        Weights(path, is_cancelled=lambda: True)
    assert shared.model.handle is not None
    shared.close()
    assert not weights._entries


def test_waiting_for_another_load_can_be_cancelled(tiny_model: Callable[..., Path]) -> None:
    path = tiny_model("llama")
    with Weights(path)._entry.loading, pytest.raises(Cancelled):  # as if it were still loading
        Weights(path, is_cancelled=lambda: True)
    (entry,) = weights._entries.values()
    assert entry.n_users == 1
    weights._entries.clear()
    assert entry.model is not None
    entry.model.close()


def test_a_shared_model_takes_memory_once(tiny_model: Callable[..., Path]) -> None:
    """A file that is mapped twice would be counted twice, like the buffers of the loads."""
    path = tiny_model("llama", n_embd=512)
    process = psutil.Process()

    def grown(n_uses: int) -> tuple[int, list[Weights]]:
        before = process.memory_info().rss
        uses = [Weights(path) for _ in range(n_uses)]
        return process.memory_info().rss - before, uses

    one, first = grown(1)
    more, others = grown(3)
    assert more < one / 2
    for use in (*first, *others):
        use.close()
