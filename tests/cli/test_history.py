"""`cf-local history`: list, show, search, export and rm on saved chats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.conftest import Run

from cf_local.chats.database import ChatStore
from cf_local.chats.transcript import ChatTurn, Transcript


@pytest.fixture(autouse=True)
def _two_chats(environment: dict[str, str]) -> None:
    folder = Path(environment["CF_LOCAL_DATA"])
    folder.mkdir(mode=0o700)
    with ChatStore(folder / "conversations.db") as store:
        for question, answer in (("How many apples?", "68."), ("And pears?", "None \x1b[31m.")):
            store.save(None, 0, Transcript(None, (ChatTurn(question, answer),)), 0, "a")


def test_list_and_show_and_search(run: Run) -> None:
    listed = json.loads(run("history", "list", "--json").stdout)
    assert {chat["title"] for chat in listed} == {"How many apples?", "And pears?"}
    assert len(run("history", "list", "-n", "1").stdout.splitlines()) == 1
    assert b"68." in run("history", "show", "1").stdout
    found = json.loads(run("history", "search", "APPLES", "68", "--json").stdout)
    assert [each["chat"] for each in found] == [1]
    assert run("history", "search", "bananas").returncode == 1
    missing = run("history", "show", "7")
    assert (missing.returncode, b"Chat 7 does not exist" in missing.stderr) == (2, True)


def test_export(run: Run, work_folder: Path) -> None:
    exported = json.loads(run("history", "export", "1").stdout)
    assert [m["content"] for m in exported["messages"]] == ["How many apples?", "68."]
    file = work_folder / "talk.md"
    assert run("history", "export", "1", "--format", "markdown", "-o", file).returncode == 0
    assert "68." in file.read_text("utf-8")
    refused = run("history", "export", "2", "-o", file)
    assert (refused.returncode, b"--force" in refused.stderr) == (2, True)
    assert "68." in file.read_text("utf-8")
    assert run("history", "export", "2", "-o", file, "--force").returncode == 0
    assert "pears" in file.read_text("utf-8")


def test_rm_asks(run: Run) -> None:
    for arguments in (["1"], ["1", "9", "--yes"], [], ["1", "--all"]):
        assert run("history", "rm", *arguments).returncode == 2
    assert len(run("history", "list").stdout.splitlines()) == 2
    assert run("history", "rm", "1", "--yes").returncode == 0
    assert [line.split()[0] for line in run("history", "list").stdout.splitlines()] == [b"2"]
    assert run("history", "rm", "--all", "--yes").returncode == 0
    assert run("history", "list").stdout == b""
