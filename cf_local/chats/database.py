"""The database of conversations: one SQLite file, safe to kill and to share between processes.

It uses write-ahead logging where the file system allows it, and one transaction per change. The
version of the tables is SQLite's ``user_version``. A damaged, foreign or newer file never changes.

Several processes may save a conversation without locks between them: each change names the revision
that it builds on, and ``save`` refuses an outdated one.

The full-text index holds trigrams, so that it finds words of any script and parts of words. The
database also works where SQLite was built without it: the triggers are dropped, and a SQLite that
has it fills the index again.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cf_local.chats.transcript import ChatTurn, Transcript
from cf_local.errors import CfLocalError, InputError
from cf_local.files import UnwritableError, data_folder, make_private
from cf_local.progress import Closing

_TIMEOUT_S = 5.0
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_UNWRITABLE = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
)

VERSION = 1
"""The version of the tables below; a file with a higher one is refused."""
APPLICATION_ID = 0x63664C31
"""Marks the file as ours ("cfL1")."""

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS chats (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        revision INTEGER NOT NULL DEFAULT 0,
        system TEXT,
        models TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS turns (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        chat INTEGER NOT NULL REFERENCES chats (number),
        position INTEGER NOT NULL,
        question TEXT NOT NULL,
        answer TEXT NOT NULL,
        thinking TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('writing', 'stopped', 'done')),
        asked_at TEXT NOT NULL,
        UNIQUE (chat, position))""",
    "CREATE INDEX IF NOT EXISTS chats_by_time ON chats (updated_at)",
    f"PRAGMA user_version = {VERSION}",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

# Turns are never updated, only deleted and inserted. A turn in progress is not indexed.
_TRIGGERS = {
    "turns_come": """AFTER INSERT ON turns WHEN new.state <> 'writing' BEGIN
        INSERT INTO turns_index (rowid, question, answer)
        VALUES (new.id, new.question, new.answer); END""",
    "turns_go": """AFTER DELETE ON turns WHEN old.state <> 'writing' BEGIN
        INSERT INTO turns_index (turns_index, rowid, question, answer)
        VALUES ('delete', old.id, old.question, old.answer); END""",
}


class BrokenStoreError(CfLocalError):
    """The database file is damaged, or is from another program or a newer version."""

    exit_code = 4


class StaleError(CfLocalError):
    """Another process has changed or deleted the conversation."""


@dataclass(frozen=True, slots=True)
class ChatInfo:
    """A saved conversation without its text. Times are UTC in ISO 8601."""

    number: int
    title: str
    n_turns: int
    models: str
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class FoundTurn:
    """A turn (from 1) that a search found, with an excerpt around the first word."""

    chat: int
    turn: int
    title: str
    excerpt: str


class ChatStore(Closing):
    """The open database. For one thread; close it when done."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the user's database (or the one at ``path``); create it if it does not exist.

        Raises UnwritableError, or BrokenStoreError for a file that cannot be used.
        """
        self.path = path or data_folder() / "conversations.db"
        make_private(self.path)
        with self._errors():
            self._database = sqlite3.connect(self.path, timeout=_TIMEOUT_S, isolation_level=None)
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def save(
        self,
        number: int | None,
        revision: int,
        transcript: Transcript,
        n_unchanged: int,
        models: str,
    ) -> tuple[int, int]:
        """Write a conversation; returns its number and its new revision, for the next save.

        The first ``n_unchanged`` turns are already saved. ``number`` None creates a conversation.
        Raises StaleError if the conversation is no longer at ``revision``.
        """
        now = _now()
        with self._transaction():
            if number is None:
                number = self._execute(
                    "INSERT INTO chats (system, models, created_at, updated_at) VALUES (?,?,?,?)",
                    (transcript.system, models, now, now),
                ).lastrowid
                assert number is not None
            else:
                done = self._execute(
                    "UPDATE chats SET system = ?, models = ?, updated_at = ?, "
                    "revision = revision + 1 WHERE number = ? AND revision = ?",
                    (transcript.system, models, now, number, revision),
                )
                if done.rowcount == 0:
                    raise StaleError(f"Chat {number} was changed elsewhere.")
                revision += 1
            self._replace_turns(number, transcript.turns, n_unchanged)
        return number, revision

    def load(self, number: int) -> tuple[Transcript, int]:
        """A conversation and its revision. Raises InputError if there is none."""
        with self._transaction("DEFERRED"):  # both queries see the same state
            row = self._execute(
                "SELECT system, revision FROM chats WHERE number = ?", (number,)
            ).fetchone()
            turns = self._execute(
                "SELECT question, answer, thinking, state, asked_at FROM turns WHERE chat = ? "
                "ORDER BY position",
                (number,),
            ).fetchall()
        if row is None:
            raise InputError(f"Chat {number} does not exist. `cf-local history list` lists all.")
        return Transcript(row[0], tuple(ChatTurn(*turn) for turn in turns)), row[1]

    def chats(self, limit: int = -1) -> list[ChatInfo]:
        """The conversations, most recently changed first; all, or at most ``limit``."""
        rows = self._execute(
            "SELECT number, COALESCE((SELECT substr(question, 1, 400) FROM turns WHERE chat = "
            "number ORDER BY position LIMIT 1), ''), (SELECT count(*) FROM turns WHERE chat = "
            "number), models, created_at, updated_at FROM chats ORDER BY updated_at DESC, "
            "number DESC LIMIT ?",
            (limit,),
        ).fetchall()
        return [
            ChatInfo(row[0], Transcript(turns=(ChatTurn(row[1]),)).title, *row[2:]) for row in rows
        ]

    def last(self) -> int | None:
        """The number of the most recently changed conversation; None if there is none."""
        found = self.chats(limit=1)
        return found[0].number if found else None

    def remove(self, numbers: Sequence[int]) -> int:
        """Delete conversations; returns how many existed."""
        with self._transaction():
            marks = ",".join("?" * len(numbers))
            self._execute(f"DELETE FROM turns WHERE chat IN ({marks})", numbers)
            done = self._execute(f"DELETE FROM chats WHERE number IN ({marks})", numbers)
        return done.rowcount

    def search(self, words: Sequence[str], limit: int = 50) -> list[FoundTurn]:
        """The turns that contain all ``words``, ignoring case, the latest first.

        Raises InputError if ``words`` is empty.
        """
        wanted = [word.casefold() for word in words if word]
        if not wanted:
            raise InputError("Search for at least one word.")
        rows = self._execute(*self._query(wanted)).fetchmany(limit)
        return [
            FoundTurn(
                chat,
                position + 1,
                Transcript(turns=(ChatTurn(first),)).title,
                _around(text, wanted),
            )
            for chat, position, first, text in rows
        ]

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._database.close()

    def _query(self, wanted: Sequence[str]) -> tuple[str, list[str]]:
        """The search as SQL and its values: the index narrows it down, then each word is compared.

        The index knows no words below three characters and no answers in progress.
        """
        parts, values = ["instr(folded(question || char(10) || answer), ?) > 0"] * len(wanted), []
        long = [word for word in wanted if len(word) >= 3 and '"' not in word and "\0" not in word]
        if self._has_index and long:
            parts.append(
                "(state = 'writing' OR id IN (SELECT rowid FROM turns_index "
                "WHERE turns_index MATCH ?))"
            )
            values.append(" AND ".join(f'"{word}"' for word in long))
        return (
            "SELECT chat, position, (SELECT question FROM turns AS first WHERE first.chat = "
            "turns.chat ORDER BY position LIMIT 1), question || char(10) || answer FROM turns "
            f"WHERE {' AND '.join(parts)} ORDER BY id DESC"
        ), [*wanted, *values]

    def _replace_turns(self, number: int, turns: Sequence[ChatTurn], n_unchanged: int) -> None:
        """Replace the turns after the first ``n_unchanged`` by those of ``turns``."""
        self._execute("DELETE FROM turns WHERE chat = ? AND position >= ?", (number, n_unchanged))
        self._database.executemany(
            "INSERT INTO turns (chat, position, question, answer, thinking, state, asked_at) "
            "VALUES (?,?,?,?,?,?,?)",
            [
                (number, at, t.question, t.answer, t.thinking, t.state, t.asked_at)
                for at, t in enumerate(turns[n_unchanged:], start=n_unchanged)
            ],
        )

    def _prepare(self) -> None:
        """Create or check the tables, and the index if this SQLite has full-text search."""
        database = self._database
        with self._transaction("DEFERRED"):  # another process may be creating the tables
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (owner,) = database.execute("PRAGMA application_id").fetchone()
            (n_tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version > VERSION and owner == APPLICATION_ID:
            raise BrokenStoreError(
                f"{self.path} was written by a newer cf-local (its tables have version {version}, "
                f"this one knows {VERSION}). Update cf-local, or chat with --no-history."
            )
        if owner != APPLICATION_ID and (n_tables or version):
            raise BrokenStoreError(
                f"{self.path} is another program's database. Move it away, or chat with "
                "--no-history."
            )
        database.create_function("folded", 1, str.casefold, deterministic=True)
        self._write_ahead()
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA secure_delete = ON")  # deleted text is overwritten
        self._has_index = has_full_text(database)
        if version < VERSION or is_indexed(database) != self._has_index:
            with self._transaction():
                for statement in SCHEMA:
                    database.execute(statement)
                set_index(database)

    def _write_ahead(self) -> None:
        """Use a write-ahead log where possible."""
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:  # SQLite does not wait here
            if _code(error) not in _IN_USE:
                raise

    def _execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        with self._errors():
            return self._database.execute(statement, values)

    @contextlib.contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        """Execute all statements within, or none."""
        with self._errors():
            self._database.execute(f"BEGIN {kind}")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise our errors, which say what to do, for SQLite's."""
        try:
            yield
        except sqlite3.Error as error:
            code = _code(error)
            if code in _IN_USE:
                raise UnwritableError(f"{self.path} is in use by another program.") from error
            if code in _UNWRITABLE:
                raise UnwritableError(f"{self.path} cannot be written: {error}.") from error
            raise BrokenStoreError(
                f"{self.path} cannot be used: {error}. It was not changed. Move it away (with its "
                "-wal and -shm files) to start a new one, or chat with --no-history."
            ) from error


def has_full_text(database: sqlite3.Connection) -> bool:
    """Whether this SQLite has FTS5 with trigrams (3.34)."""
    names = {row[0] for row in database.execute("PRAGMA module_list")}
    return "fts5" in names and sqlite3.sqlite_version_info >= (3, 34)


def is_indexed(database: sqlite3.Connection) -> bool:
    """Whether triggers add new turns to the index."""
    there = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'turns_%'"
    return bool(database.execute(there).fetchone()[0] == len(_TRIGGERS))


def set_index(database: sqlite3.Connection) -> None:
    """Create and fill the index, or drop its triggers. Call it within a transaction."""
    for name in _TRIGGERS:
        database.execute(f"DROP TRIGGER IF EXISTS {name}")
    if not has_full_text(database):
        return
    database.execute("DROP TABLE IF EXISTS turns_index")
    database.execute(
        "CREATE VIRTUAL TABLE turns_index USING fts5(question, answer, content='turns', "
        "content_rowid='id', tokenize='trigram')"
    )
    database.execute(
        "INSERT INTO turns_index (rowid, question, answer) "
        "SELECT id, question, answer FROM turns WHERE state <> 'writing'"
    )
    for name, body in _TRIGGERS.items():
        database.execute(f"CREATE TRIGGER {name} {body}")


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 if the error did not come from SQLite."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _around(text: str, wanted: Sequence[str], n_chars: int = 90) -> str:
    """About ``n_chars`` characters of a text around the first wanted word, on one line."""
    at = max(0, text.casefold().find(wanted[0]) - n_chars // 3)
    cut = " ".join(text[at : at + n_chars].split())
    return f"{'…' if at else ''}{cut}{'…' if at + n_chars < len(text) else ''}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
