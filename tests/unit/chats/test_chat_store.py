"""The database of conversations: what it keeps, whom it refuses, what two processes may do."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cf_local.chats.autosave import Autosave
from cf_local.chats.database import VERSION, BrokenStoreError, ChatStore, StaleError
from cf_local.chats.transcript import ChatTurn, Transcript
from cf_local.errors import InputError
from cf_local.files import DATA_VARIABLE, UnwritableError, data_folder

TALK = Transcript("Be brief.", (ChatTurn("How many?", "42.", "Hm."), ChatTurn("Sure?", "Yes.")))
posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conversations.db"


def save(store: ChatStore, transcript: Transcript = TALK) -> int:
    return store.save(None, 0, transcript, 0, "a, b")[0]


def test_a_conversation_comes_back_as_it_was(path: Path) -> None:
    with ChatStore(path) as store:
        number = save(store)
    with ChatStore(path) as store:
        assert store.load(number) == (TALK, 0)
        (info,) = store.chats()
        assert (info.number, info.title, info.n_turns) == (number, "How many?", 2)
        assert store.last() == number


def test_any_text_comes_back(path: Path) -> None:
    odd = ChatTurn("\0 null 👍🏽 \x1b[2J", "x" * 1_000_000, "''\"--;\r\n")
    with ChatStore(path) as store:
        assert store.load(save(store, Transcript(None, (odd,))))[0].turns == (odd,)


@pytest.mark.parametrize("has_index", [True, False])
def test_search_finds_all_words_in_any_case(
    path: Path, has_index: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_index:
        monkeypatch.setattr("cf_local.chats.database.has_full_text", lambda _database: False)
    turns = (
        ChatTurn("How many ÄPFEL are there?", "It is 42."),
        ChatTurn('She said "no" twice', "100% of_them"),
        ChatTurn("東京はどこですか", "日本"),
        ChatTurn("half an answer", "about foxes", state="writing"),
    )
    with ChatStore(path) as store:
        number = save(store, Transcript(None, turns))
        places = {
            words: [found.turn for found in store.search(words.split())]
            for words in (
                "äpfel 42",
                "42",
                'said "no"',
                "0% of_",
                "東京は",
                "日本",
                "foxes",
                "nope",
            )
        }
        assert places == {
            "äpfel 42": [1],
            "42": [1],
            'said "no"': [2],
            "0% of_": [2],
            "東京は": [3],
            "日本": [3],
            "foxes": [4],
            "nope": [],
        }
        store.save(number, 0, Transcript(None, turns[:1]), 1, "a")
        assert store.search(["twice"]) == []
        with pytest.raises(InputError):
            store.search([""])


def test_a_database_moves_between_builds_with_and_without_full_text(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ChatStore(path) as store:
        save(store)
    with monkeypatch.context() as without:
        without.setattr("cf_local.chats.database.has_full_text", lambda _database: False)
        with ChatStore(path) as store:
            save(store, Transcript(None, (ChatTurn("written without", "an index"),)))
    with ChatStore(path) as store:
        assert [found.chat for found in store.search(["without"])] == [2]
        assert [found.chat for found in store.search(["many"])] == [1]
    check = sqlite3.connect(path)
    check.execute("INSERT INTO turns_index (turns_index) VALUES ('integrity-check')")
    check.close()


@posix_only
def test_only_the_user_can_read_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = path.parent / "new" / "data"
    monkeypatch.setenv(DATA_VARIABLE, str(folder))
    with ChatStore() as store:
        save(store)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert "conversations.db" in modes
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@posix_only
def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "file" / "data"))
    with pytest.raises(UnwritableError, match="cannot be created"):
        data_folder()


def test_a_newer_or_foreign_or_broken_file_is_refused_and_stays(path: Path) -> None:
    with ChatStore(path) as store:
        save(store)
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    assert "newer" in refusal(path)
    path.unlink()

    database = sqlite3.connect(path)
    database.execute("CREATE TABLE theirs (x)")
    database.commit()
    database.close()
    assert "another program" in refusal(path)

    path.write_bytes(b"This is no database. " * 100)
    assert "not a database" in refusal(path)


def refusal(path: Path) -> str:
    """What is said of a file that cannot be used, and is left as it was."""
    before = path.read_bytes()
    with pytest.raises(BrokenStoreError, match="--no-history") as caught:
        ChatStore(path)
    assert path.read_bytes() == before
    return str(caught.value)


def test_a_change_on_an_old_revision_is_refused(path: Path) -> None:
    with ChatStore(path) as mine, ChatStore(path) as theirs:
        number = save(mine)
        longer = TALK.with_turn(ChatTurn("More?", "No."))
        assert theirs.save(number, 0, longer, 2, "a") == (number, 1)
        with pytest.raises(StaleError):
            mine.save(number, 0, TALK, 2, "a")
        assert mine.load(number)[0] == longer


def test_a_new_file_can_be_opened_by_several_at_once(tmp_path: Path) -> None:
    def open_all(path: Path) -> bool:
        together.wait()
        with ChatStore(path) as store:
            return store.chats() == []

    together = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        for index in range(30):
            assert all(pool.map(open_all, [tmp_path / f"{index}.db"] * 6))


def test_two_chats_at_once_lose_nothing(path: Path) -> None:
    def talk(name: str) -> None:
        with ChatStore(path) as store:
            autosave, transcript = Autosave(store, name, notes.append), Transcript()
            for index in range(40):
                transcript = transcript.with_turn(ChatTurn(f"{name} {index}", f"answer {index}"))
                autosave.save(transcript)

    notes: list[str] = []
    threads = [threading.Thread(target=talk, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notes == []
    with ChatStore(path) as store:
        chats = {info.models: store.load(info.number)[0] for info in store.chats()}
    assert {name: len(chat.turns) for name, chat in chats.items()} == dict.fromkeys(
        ("one", "two", "three"), 40
    )


def test_a_conversation_changed_elsewhere_goes_on_as_another(path: Path) -> None:
    notes: list[str] = []
    with ChatStore(path) as mine, ChatStore(path) as theirs:
        autosave = Autosave(mine, "a", notes.append)
        autosave.save(TALK)
        theirs.save(1, 0, TALK.with_turn(ChatTurn("theirs", "!")), 2, "a")
        autosave.save(TALK.with_turn(ChatTurn("mine", "!")))
        assert autosave.number == 2
        assert [store_turn(mine, n) for n in (1, 2)] == ["theirs", "mine"]
        theirs.remove([2])
        autosave.save(TALK)
        assert autosave.number == 3
    assert len(notes) == 2


def store_turn(store: ChatStore, number: int) -> str:
    return store.load(number)[0].turns[-1].question


def test_only_what_changed_is_written_and_undo_is_saved(path: Path) -> None:
    with ChatStore(path) as store:
        autosave = Autosave(store, "a", pytest.fail)
        autosave.save(Transcript("only a system text"))
        assert store.chats() == []
        longer = TALK.with_turn(ChatTurn("More?", "", state="writing"))
        for transcript in (TALK, longer, longer.without_last().with_turn(ChatTurn("More?", "No."))):
            autosave.save(transcript)
            assert store.load(1)[0] == transcript
        autosave.save(TALK.without_last())
        assert store.load(1)[0] == TALK.without_last()
        autosave.follow(None)
        autosave.save(TALK)
        assert len(store.chats()) == 2


def test_what_could_not_be_saved_is_saved_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    with ChatStore(path) as store:
        autosave = Autosave(store, "a", notes.append)
        autosave.save(TALK.without_last())
        # A disk that is full: SQLite itself says so when a page more is needed.
        (n_pages,) = store._database.execute("PRAGMA page_count").fetchone()
        store._database.execute(f"PRAGMA max_page_count = {n_pages}")
        large = TALK.with_turn(ChatTurn("x" * 50_000, "y"))
        autosave.save(large)
        autosave.save(large.with_turn(ChatTurn("z", "z" * 10_000)))
        assert store.load(1)[0] == TALK.without_last()
        assert len(notes) == 1
        assert "not saved" in notes[0]
        store._database.execute("PRAGMA max_page_count = 100000")
        autosave.save(large)
        assert store.load(1)[0] == large


def test_removing_removes_from_the_search_too(path: Path) -> None:
    with ChatStore(path) as store:
        first, second = save(store), save(store)
        assert store.remove([first]) == 1
        assert store.remove([first]) == 0
        assert [info.number for info in store.chats()] == [second]
        assert {found.chat for found in store.search(["42"])} == {second}
        with pytest.raises(InputError, match="does not exist"):
            store.load(first)


def test_nothing_of_a_removed_chat_stays_in_the_file(path: Path) -> None:
    secret = "a very secret sentence"
    with ChatStore(path) as store:
        store.remove([save(store, Transcript(None, (ChatTurn(secret, json.dumps(secret)),)))])
    files = [file.read_bytes() for file in path.parent.iterdir()]
    assert not any(secret.encode() in raw for raw in files)
