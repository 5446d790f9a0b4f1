"""Kept states as files: sealed, private, bounded, and of no harm whatever is in them."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cf_local.files import CACHE_VARIABLE, replacing
from cf_local.llama.state_key import identity_of, key_of
from cf_local.method.session import Readable
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.statecache import folder as folders
from cf_local.statecache import keeper, owner_of, restore_states, save_states, sealed
from cf_local.statecache.folder import StateFolder, cache_folder
from cf_local.testing import PieceVocabulary, ScriptedSource, writes
from cf_local.types import Answer, RawText

TOKENS = [5, 0, 2_000_000_000, 7]
QUESTION = RawText("The quick brown fox jumps over the lazy dog. She sells" + " fox and hill" * 40)
SETTINGS = Settings(max_tokens=12, repetition_guard=False)
KEY, OWNER = "k" * 32, "o" * 16

posix_only = pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "state.kv"
    path.write_bytes(os.urandom(5000))
    sealed.seal(path, KEY, TOKENS)
    return path


# --- The form of a file


def test_a_sealed_file_tells_its_tokens_and_is_whole(file: Path) -> None:
    assert sealed.tokens_of(file) == TOKENS
    assert sealed.is_whole(file, KEY)
    assert not sealed.is_whole(file, "another key")


def test_any_damage_is_found(file: Path) -> None:
    raw = file.read_bytes()
    for place in (0, 1, 2500, 4999, 5000, 5017, len(raw) - 41, len(raw) - 40, len(raw) - 1):
        damaged = bytearray(raw)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert not sealed.is_whole(file, KEY), place
        sealed.tokens_of(file)
    for n_kept in (0, 1, 39, 40, 47, 48, 2500, len(raw) - 1):
        file.write_bytes(raw[:n_kept])
        assert not sealed.is_whole(file, KEY), n_kept
        assert sealed.tokens_of(file) == []
    file.write_bytes(raw + b"more")
    assert not sealed.is_whole(file, KEY)


def test_foreign_files_hold_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert sealed.tokens_of(path) == []
    assert not sealed.is_whole(path, KEY)
    assert sealed.tokens_of(tmp_path) == []
    path.write_bytes(b"\xff" * 90 + b"CFKEPT01")
    assert sealed.tokens_of(path) == []


# --- What it belongs to


def test_a_model_is_known_by_its_blob_or_by_its_file(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"one")
    first = identity_of(model)
    assert first == identity_of(model)
    assert key_of(first, "kind") == key_of(first, "kind") != key_of(first, "other")
    os.utime(model, ns=(1, 1))
    second = identity_of(model)
    model.write_bytes(b"three")
    os.utime(model, ns=(1, 1))
    assert len({key_of(i, "kind") for i in (first, second, identity_of(model))}) == 3
    with pytest.raises(OSError, match="missing"):
        identity_of(tmp_path / "missing.gguf")


@posix_only
def test_a_blob_of_the_hub_is_the_same_under_any_name_and_date(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        blob = tmp_path / name / "blobs" / ("a" * 64)
        blob.parent.mkdir(parents=True)
        blob.touch()
        link = tmp_path / name / "model.gguf"
        link.symlink_to(blob)
        os.utime(blob, ns=(len(name), len(keys)))
        keys.add(identity_of(link))
    assert len(keys) == 1


def test_all_parts_of_a_split_model_count(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        part.touch()
    before = identity_of(parts[0])
    parts[1].write_bytes(b"changed")
    assert identity_of(parts[0]) != before


def test_owners_tell_nothing(tmp_path: Path) -> None:
    owners = {owner_of(tmp_path / name, number) for name in "ab" for number in (1, 2)}
    assert len(owners) == 4
    assert all(len(owner) == 16 and str(tmp_path) not in owner for owner in owners)


# --- The folder


def put(folder: StateFolder, owner: str, n_bytes: int, used_at: float) -> Path:
    place = folder.file(owner, KEY)
    assert folder.make_room(n_bytes, place)
    with replacing(place, private=True) as path:
        path.write_bytes(bytes(n_bytes))
    os.utime(place, (used_at, used_at))
    return place


def test_the_states_not_used_for_longest_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "MAX_BYTES", 1000)
    folder = StateFolder(tmp_path / "states")
    a, b, c = (put(folder, name, 300, at) for name, at in (("a", 30), ("b", 10), ("c", 20)))
    d = put(folder, "d", 500, 40)
    assert [path.exists() for path in (a, b, c, d)] == [True, False, False, True]
    assert not folder.make_room(1001, c)
    assert a.exists()
    put(folder, "d", 700, 50)  # takes the place of the other one
    assert a.exists()
    monkeypatch.setattr(folders, "MAX_SHARE", 0.0)
    assert not folder.make_room(1, c)


@posix_only
def test_only_the_user_can_read_a_state(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "new" / "states")
    place = put(folder, "a", 10, 1)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_what_a_killed_process_left_is_deleted(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "states")
    place = put(folder, "a", 10, 1)
    (folder.path / "old.unfinished").touch()
    os.utime(folder.path / "old.unfinished", (1, 1))
    (folder.path / "new.unfinished").touch()
    folder.make_room(1, place)
    assert {path.name for path in folder.path.iterdir()} == {place.name, "new.unfinished"}


def test_states_are_forgotten_by_owner_or_all(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "states")
    assert folder.forget(None) == 0
    for name in ("a", "b", "c"):
        put(folder, name, 10, 1)
    (folder.path / "somebody's").touch()
    assert folder.forget("a") == 1
    assert len(folder.of_key(KEY)) == 2
    assert folder.forget(None) == 2
    assert [path.name for path in folder.path.iterdir()] == ["somebody's"]


def test_the_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    assert "cf-local" in str(cache_folder())
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_folder().parent == tmp_path
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        StateFolder(Path("~/.cache/read")).make_room(1, Path("place"))
    assert list(tmp_path.iterdir()) == []


# --- Keeping and restoring


def test_only_what_is_slow_to_read_is_kept() -> None:
    assert keeper.is_worthwhile(Readable(4000, 500_000_000, 60.0))
    assert not keeper.is_worthwhile(Readable(4000, 500_000_000, 1.5))  # a fast GPU
    assert not keeper.is_worthwhile(Readable(300, 3_000_000, 0.2))
    assert not keeper.is_worthwhile(Readable(0, 0, 0.0))


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateFolder:
    monkeypatch.setattr(keeper, "MIN_READING_S", 0.0)
    monkeypatch.setattr(keeper, "MIN_GAIN", 0.0)
    return StateFolder(tmp_path / "states")


@pytest.fixture
def open_fusion(tiny_model: Callable[..., Path]) -> Iterator[Callable[..., Fusion]]:
    from cf_local.llama.source import LlamaSource

    opened: list[Fusion] = []

    def open_(**options: object) -> Fusion:
        kinds = {"a": "llama", "b": "qwen2"}
        files = {n: tiny_model(k, eog_bias=-9.0, n_embd=128) for n, k in kinds.items()}
        sources = [LlamaSource(n, f, n_threads=1, **options) for n, f in files.items()]  # type: ignore[arg-type]
        opened.append(Fusion(sources))
        return opened[-1]

    yield open_
    for fusion in opened:
        fusion.close()


def gone_on(fusion: Fusion) -> RawText:
    """The prompt that goes on behind an answer."""
    return RawText(f"{QUESTION.text}{fusion.answer(QUESTION, SETTINGS).text} And the dog?")


def answered(fusion: Fusion, prompt: RawText) -> tuple[Answer, int]:
    """The answer, and how many tokens were evaluated for it."""
    before = sum(source.sessions[0].counters.n_tokens for source in fusion.sources)
    answer = fusion.answer(prompt, SETTINGS)
    return answer, sum(source.sessions[0].counters.n_tokens for source in fusion.sources) - before


def test_a_conversation_goes_on_where_it_was_left(
    open_fusion: Callable[..., Fusion], states: StateFolder
) -> None:
    first = open_fusion()
    prompt = gone_on(first)
    assert save_states(first, prompt, OWNER, folder=states) == 2
    fresh, restored = open_fusion(), open_fusion()
    assert restore_states(restored, prompt, OWNER, folder=states) == 2
    expected, n_all = answered(fresh, prompt)
    answer, n_new = answered(restored, prompt)
    assert answer.text == expected.text
    assert n_new < n_all / 3


def test_another_conversation_that_begins_alike_is_taken(
    open_fusion: Callable[..., Fusion], states: StateFolder
) -> None:
    first = open_fusion()
    prompt = gone_on(first)
    save_states(first, prompt, OWNER, folder=states)
    assert restore_states(open_fusion(), prompt, "n" * 16, folder=states) == 2
    assert restore_states(open_fusion(), RawText("Something else"), "n" * 16, folder=states) == 0
    assert restore_states(first, prompt, "n" * 16, folder=states) == 0  # it knows that already


def test_damaged_states_are_deleted_and_harm_nothing(
    open_fusion: Callable[..., Fusion], states: StateFolder
) -> None:
    first = open_fusion()
    prompt = gone_on(first)
    save_states(first, prompt, OWNER, folder=states)
    one, other = states.path.iterdir()
    raw = bytearray(one.read_bytes())
    raw[len(raw) // 2] ^= 255
    one.write_bytes(raw)
    other.write_bytes(other.read_bytes()[:-100])
    fusion = open_fusion()
    assert restore_states(fusion, prompt, OWNER, folder=states) == 0
    assert list(states.path.iterdir()) == []
    assert answered(fusion, prompt)[0].text == answered(open_fusion(), prompt)[0].text


def test_states_of_other_caches_and_versions_are_not_touched(
    open_fusion: Callable[..., Fusion], states: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_fusion()
    prompt = gone_on(first)
    save_states(first, prompt, OWNER, folder=states)
    assert restore_states(open_fusion(n_ctx=1024), prompt, OWNER, folder=states) == 0
    assert restore_states(open_fusion(kv_type="q8_0"), prompt, OWNER, folder=states) == 0
    with monkeypatch.context() as other:
        other.setattr("llama_cpp.__version__", "0.0.1")
        assert restore_states(open_fusion(), prompt, OWNER, folder=states) == 0
    one, other = states.path.iterdir()
    one.write_bytes(other.read_bytes())  # under the name of another model
    assert restore_states(open_fusion(), prompt, OWNER, folder=states) == 1
    assert not one.exists()


def test_a_model_that_is_replaced_while_it_is_loaded_keeps_its_name(
    open_fusion: Callable[..., Fusion], states: StateFolder
) -> None:
    first = open_fusion()
    prompt = gone_on(first)
    for source in first.sources:
        file = Path(source.info.file)
        os.utime(file, ns=(1, file.stat().st_mtime_ns + 1_000_000_000))
    assert save_states(first, prompt, OWNER, folder=states) == 2
    assert restore_states(open_fusion(), prompt, OWNER, folder=states) == 0


def test_a_conversation_that_became_another_one_leaves_nothing(
    open_fusion: Callable[..., Fusion], states: StateFolder
) -> None:
    fusion = open_fusion()
    save_states(fusion, gone_on(fusion), OWNER, folder=states)
    assert len(list(states.path.iterdir())) == 2
    assert save_states(fusion, RawText("Something else"), OWNER, folder=states) == 0
    assert list(states.path.iterdir()) == []


def test_nothing_is_raised_where_nothing_can_be_kept(
    open_fusion: Callable[..., Fusion], states: StateFolder, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    nowhere = StateFolder(tmp_path / "file" / "states")
    fusion = open_fusion()
    prompt = gone_on(fusion)
    assert save_states(fusion, prompt, OWNER, folder=nowhere) == 0
    assert restore_states(fusion, prompt, OWNER, folder=nowhere) == 0
    assert save_states(fusion, prompt, OWNER, folder=states, is_cancelled=lambda: True) == 0
    fusion.close()
    assert save_states(fusion, prompt, OWNER, folder=states) == 0
    words = PieceVocabulary([" fox"])
    with Fusion([ScriptedSource("s", words, writes(" fox", words))]) as scripted:
        assert save_states(scripted, prompt, OWNER, folder=states) == 0


def test_two_chats_keep_and_restore_at_the_same_time(
    open_fusion: Callable[..., Fusion], states: StateFolder
) -> None:
    fusions = [open_fusion(), open_fusion()]
    prompts = [gone_on(fusion) for fusion in fusions]
    done: list[int] = []

    def chat(index: int) -> None:
        for _ in range(8):
            done.append(save_states(fusions[index], prompts[index], OWNER, folder=states))
            restore_states(fusions[index], prompts[index], OWNER, folder=states)
            answered(fusions[index], prompts[index])

    threads = [threading.Thread(target=chat, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads)
    assert done == [2] * 16
    assert len(list(states.path.iterdir())) == 2
    assert restore_states(open_fusion(), prompts[0], OWNER, folder=states) == 2
