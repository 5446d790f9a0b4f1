"""Loads: at the same time, reported in the caller's thread; a set that ran before loads at once."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

import cf_local
from cf_local.errors import BrokenModelError, CfLocalError, ContextError, InputError
from cf_local.llama import child
from cf_local.llama.model import LlamaModel
from cf_local.llama.source import LlamaSource
from cf_local.loading import load as loader
from cf_local.loading import measured, opening, placement
from cf_local.registry.registry import load_registry

pytestmark = pytest.mark.model

BUILTIN = Path(cf_local.__file__).parent / "builtin"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies, which are not known to be harmless as the built-in files are."""
    monkeypatch.setenv("CF_LOCAL_CACHE", str(tmp_path / "cache"))
    return [Path(shutil.copy(BUILTIN / f"{n}.gguf", tmp_path)) for n in ("ash", "birch")]


def test_a_set_that_ran_before_starts_no_process_and_simulates_nothing(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    run = child.run
    monkeypatch.setattr(child, "run", lambda *a, **k: started.append(a) or run(*a, **k))
    cf_local.load(models=files).close()
    assert len(started) == 1

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("it was known")

    monkeypatch.setattr(child, "run", fail)
    monkeypatch.setattr(measured, "SimulatedModel", fail)
    cf_local.load(models=files).close()


def test_nothing_is_timed_before_the_first_word(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[int] = []
    time_pass = LlamaSource.time_pass
    monkeypatch.setattr(
        LlamaSource, "time_pass", lambda self, n: timed.append(n) or time_pass(self, n)
    )
    monkeypatch.setattr(placement.CORES, "look", lambda: 0.0)
    with cf_local.load(models=files) as fusion:
        stream = fusion.stream(cf_local.chat("Hello"))
        assert next(stream).text
        assert timed == []
        list(stream)
    assert timed  # after the answer, once for the set
    n_timed = len(timed)
    with cf_local.load(models=files) as fusion:
        fusion.answer(cf_local.chat("Hello"))
    assert len(timed) == n_timed


def test_progress_is_reported_in_the_thread_that_loads(files: list[Path]) -> None:
    reported: list[tuple[float, int]] = []
    cf_local.load(
        models=files, on_progress=lambda share: reported.append((share, threading.get_ident()))
    ).close()
    shares = [share for share, _ in reported]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {thread for _, thread in reported} == {threading.get_ident()}


def test_models_are_loaded_at_the_same_time(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, arrived = threading.Barrier(2), list[int]()
    opened = opening.open_source

    def open_(*given: object) -> LlamaSource:
        arrived.append(together.wait(60))  # broken if one is loaded after the other
        return opened(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "open_source", open_)
    cf_local.load(models=files).close()
    assert sorted(arrived) == [0, 1]


def test_one_that_fails_closes_the_others(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[LlamaSource] = []
    opened, is_there = opening.open_source, threading.Event()

    def open_(spec: object, path: Path, *rest: object) -> LlamaSource:
        if path == files[1]:
            assert is_there.wait(60)
            raise BrokenModelError("broken")
        found.append(opened(spec, path, *rest))  # type: ignore[arg-type]
        is_there.set()
        return found[0]

    monkeypatch.setattr(opening, "open_source", open_)
    with pytest.raises(BrokenModelError, match="broken"):
        cf_local.load(models=files)
    assert found[0].is_closed


def test_work_after_an_answer_comes_once_and_fails_silently(files: list[Path]) -> None:
    done: list[str] = []

    def work(name: str) -> None:
        done.append(name)
        raise CfLocalError("no matter")

    with cf_local.load(models=files, options=cf_local.LoadOptions(overlap=False)) as fusion:
        fusion.after_answer(lambda: work("one"))
        assert done == []
        assert fusion.answer(cf_local.chat("Hello")).text
        assert fusion.answer(cf_local.chat("Hello")).text
    assert done == ["one"]


def test_work_after_an_answer_waits_for_other_answers(files: list[Path]) -> None:
    done: list[int] = []
    options = cf_local.LoadOptions(n_conversations=2, overlap=False)
    with cf_local.load(models=files, options=options) as fusion:
        fusion.after_answer(lambda: done.append(1))
        other = fusion.stream(cf_local.chat("Hello"))
        next(other)
        fusion.answer(cf_local.chat("Who are you?"))
        fusion._worker.call(lambda: None)  # whatever was submitted before is done
        assert done == []
        list(other)
    assert done == [1]


def test_word_starts_are_saved_and_a_damaged_file_is_made_anew(files: list[Path]) -> None:
    def starts() -> list[int]:
        source = LlamaSource("ash", files[0])
        try:
            return list(source.vocabulary.word_starts.firsts)
        finally:
            source.close()

    first = starts()
    (saved,) = (files[0].parent / "cache" / "vocabularies").iterdir()
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2])
    assert starts() == first
    assert saved.read_bytes() == whole
    saved.write_bytes(b"")
    assert starts() == first
    written = saved.stat().st_mtime_ns
    assert starts() == first
    assert saved.stat().st_mtime_ns == written  # used, not made anew


def test_word_starts_work_where_nothing_can_be_saved(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = files[0].parent / "file"
    blocked.write_text("")
    monkeypatch.setenv("CF_LOCAL_CACHE", str(blocked))
    source = LlamaSource("ash", files[0])
    assert len(source.vocabulary.word_starts.after("a")) > 0
    source.close()


def test_one_source_alone_is_loaded_alone(files: list[Path]) -> None:
    with cf_local.load(models=files, only="birch") as fusion:
        assert [source.info.name for source in fusion.sources] == ["birch"]
        found = fusion.answer(cf_local.chat("What is 7 times 8?")).text
    with cf_local.load(models=files) as fusion:
        settings = fusion.settings.with_options({"only": "birch"})
        assert fusion.answer(cf_local.chat("What is 7 times 8?"), settings).text == found
    with pytest.raises(InputError, match="'oak'"):
        cf_local.load(models=files, only="oak")


def test_a_prompt_too_long_for_a_context_is_refused_before_any_load(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, bool]] = []  # files, and whether their vocabularies alone
    init = LlamaModel.__init__

    def counted(self: LlamaModel, path: Path, **how: Any) -> None:
        if how.get("simulated") is None:
            opened.append((path.name, how.get("vocab_only", False)))
        init(self, path, **how)

    monkeypatch.setattr(LlamaModel, "__init__", counted)
    specs, settings = loader.choose(load_registry(), None, files)
    short, long = cf_local.chat("Hello"), cf_local.chat("What is 7 times 8? " * 200)
    with loader.load_chosen(specs, settings, prompt=short) as fusion:
        assert sorted(opened) == [("ash.gguf", False), ("birch.gguf", False)]
        with pytest.raises(ContextError) as late:
            fusion.answer(long)
    opened.clear()
    with pytest.raises(ContextError) as early:
        loader.load_chosen(specs, settings, prompt=long)
    assert sorted(opened) == [("ash.gguf", True), ("birch.gguf", True)]
    assert str(early.value) == str(late.value)
    # Of more bytes than the context has tokens, not all are too long.
    many = cf_local.chat("What is 7 times 8? " * 28)
    assert len(many.messages[0].content) > 512
    loader.load_chosen(specs, settings, prompt=many).close()
