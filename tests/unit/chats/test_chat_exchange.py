"""Conversations as JSON in the OpenAI form, and what is no conversation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cf_local import files
from cf_local.chats import exchange
from cf_local.chats.transcript import ChatTurn, Transcript
from cf_local.errors import InputError
from cf_local.types import Message

TALK = Transcript(
    "Be brief.", (ChatTurn("How many?", "42.", "Hm."), ChatTurn("Ünd?", "…"), ChatTurn("Why?"))
)


def user(text: Any = "q") -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any = "a") -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    files.write_result(file, exchange.to_json(TALK), private=True)
    assert exchange.read(file) == TALK
    assert json.loads(file.read_text("utf-8"))["messages"][:3] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "42.", "reasoning_content": "Hm."},
    ]
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600


def test_only_answered_turns_are_told_to_the_models() -> None:
    assert TALK.messages() == [
        Message("system", "Be brief."),
        Message("user", "How many?"),
        Message("assistant", "42."),
        Message("user", "Ünd?"),
        Message("assistant", "…"),
    ]


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([user(), assistant()], (ChatTurn("q", "a"),)),
        ([user(), user("r"), assistant(), assistant("b")], (ChatTurn("q\n\nr", "a\n\nb"),)),
        ([{"role": "developer", "content": "s"}, user()], (ChatTurn("q"),)),
        ([user([{"type": "text", "text": "one"}, {"type": "text", "text": " two"}])],
         (ChatTurn("one two"),)),
    ],
)  # fmt: skip
def test_forms_that_others_write(tmp_path: Path, messages: Any, turns: Any) -> None:
    for data in (messages, {"messages": messages, "model": "x"}):
        file = tmp_path / "talk.json"
        file.write_text(json.dumps(data), "utf-8")
        assert exchange.read(file).turns == turns


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"7", "no list"),
        (b"[]", "no list"),
        (b'{"messages": {}}', "no list"),
        (b'["hello"]', "message 1 is not an object"),
        (json.dumps([user(), {"role": "tool", "content": "x"}]).encode(), "role 'tool'"),
        (json.dumps([{"role": [], "content": "x"}]).encode(), "role"),
        (json.dumps([user(None)]).encode(), "the content of message 1 is not text"),
        (json.dumps([user([{"type": "image_url"}])]).encode(), "is not text"),
        (b'[{"role": "user", "content": "\\ud800"}]', "is not text"),
        (json.dumps([assistant(), user()]).encode(), "before any question"),
        (json.dumps([user(), {"role": "system", "content": "x"}]).encode(), "is not allowed"),
    ],
)
def test_what_is_no_conversation_is_an_error_that_names_the_file(
    tmp_path: Path, raw: bytes, why: str
) -> None:
    file = tmp_path / "talk.json"
    file.write_bytes(raw)
    with pytest.raises(InputError, match=why) as caught:
        exchange.read(file)
    assert str(file) in str(caught.value)


def test_a_file_that_cannot_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        exchange.read(tmp_path / "none.json")


def test_markdown_has_all_of_it() -> None:
    text = exchange.to_markdown(TALK)
    for part in ("# How many?", "Be brief.", "> Hm.", "42.", "Ünd?", "Why?"):
        assert part in text
