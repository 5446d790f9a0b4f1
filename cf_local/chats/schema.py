"""The tables of the database of conversations, and their full-text index.

The index holds runs of three characters, so that it finds words of any script and parts of words.
Where SQLite was built without it the database works all the same: triggers are taken away, and the
index is filled again by a SQLite that has it.
"""

import sqlite3

VERSION = 1
"""Of the tables below; a program refuses a file of a higher one."""
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

# Turns are never updated, only deleted and inserted; one that is still written is not indexed.
_TRIGGERS = {
    "turns_come": """AFTER INSERT ON turns WHEN new.state <> 'writing' BEGIN
        INSERT INTO turns_index (rowid, question, answer)
        VALUES (new.id, new.question, new.answer); END""",
    "turns_go": """AFTER DELETE ON turns WHEN old.state <> 'writing' BEGIN
        INSERT INTO turns_index (turns_index, rowid, question, answer)
        VALUES ('delete', old.id, old.question, old.answer); END""",
}


def has_full_text(database: sqlite3.Connection) -> bool:
    """Whether this SQLite has FTS5 and its index of three characters (3.34)."""
    names = {row[0] for row in database.execute("PRAGMA module_list")}
    return "fts5" in names and sqlite3.sqlite_version_info >= (3, 34)


def is_indexed(database: sqlite3.Connection) -> bool:
    """Whether turns are put into the index as they come."""
    there = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'turns_%'"
    return bool(database.execute(there).fetchone()[0] == len(_TRIGGERS))


def set_index(database: sqlite3.Connection) -> None:
    """Make and fill the index, or take its triggers away. Call it within a transaction."""
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
