"""Conversations as files: JSON in the OpenAI form of messages, and Markdown to read.

The JSON is one object, ``{"messages": [{"role": ..., "content": ...}, ...]}``; a bare list can be
read, too. A model's thinking is ``reasoning_content``, as in the responses of reasoning models.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from cf_local.chats.transcript import Transcript, from_messages
from cf_local.errors import InputError
from cf_local.types import Message, is_unicode

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def to_json(transcript: Transcript) -> str:
    """The transcript as JSON text, with a final line break."""
    return json.dumps({"messages": as_records(transcript)}, ensure_ascii=False, indent=2) + "\n"


def as_records(transcript: Transcript) -> list[dict[str, str]]:
    """The messages as plain data, without empty answers."""
    records = []
    if transcript.system:
        records.append({"role": "system", "content": transcript.system})
    for turn in transcript.turns:
        records.append({"role": "user", "content": turn.question})
        thinking = {"reasoning_content": turn.thinking} if turn.thinking else {}
        if turn.answer or thinking:
            records.append({"role": "assistant", "content": turn.answer, **thinking})
    return records


def to_markdown(transcript: Transcript) -> str:
    """The transcript for reading: a heading per message, thinking as a quotation."""
    parts = [f"# {transcript.title or 'Conversation'}"]
    if transcript.system:
        parts += ["## System", transcript.system.strip()]
    for turn in transcript.turns:
        parts += ["## Question", turn.question.strip()]
        if turn.thinking or turn.answer:
            parts.append("## Answer")
        if turn.thinking:
            parts.append("\n".join(f"> {line}" for line in turn.thinking.strip().splitlines()))
        if turn.answer:
            parts.append(turn.answer.strip())
    return "\n\n".join(parts) + "\n"


def read(path: Path) -> Transcript:
    """The conversation in a JSON file. Raises InputError that says what is wrong."""
    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from None
    try:
        return _with_thinking(data)
    except InputError as error:
        raise InputError(f"{path} is not a conversation: {error}") from None


def _with_thinking(data: Any) -> Transcript:
    messages = data.get("messages") if isinstance(data, dict) else data
    if not isinstance(messages, list) or not messages:
        raise InputError('it has no list of "messages".')
    checked = [_message(number, entry) for number, entry in enumerate(messages, start=1)]
    transcript = from_messages(checked)
    thoughts = [m.get("reasoning_content") for m in messages if m["role"] == "assistant"]
    answered = [index for index, turn in enumerate(transcript.turns) if turn.answer]
    if len(answered) != len(thoughts):  # joined or empty answers: whose it is, is unknown
        return transcript
    turns = list(transcript.turns)
    for index, thought in zip(answered, thoughts, strict=True):
        if isinstance(thought, str):
            turns[index] = replace(turns[index], thinking=thought)
    return replace(transcript, turns=tuple(turns))


def _message(number: int, entry: Any) -> Message:
    if not isinstance(entry, dict):
        raise InputError(f"message {number} is not an object.")
    role = entry.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InputError(f"message {number} has the role {role!r}, not one of {', '.join(_ROLES)}.")
    text = _text(entry.get("content"))
    if text is None or not is_unicode(text):
        raise InputError(f"the content of message {number} is not text.")
    return Message(_ROLES[role], text)


def _text(content: Any) -> str | None:
    """The text of a message's content: a string, or parts of type "text" joined; else None."""
    if isinstance(content, list) and content:
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if len(texts) == len(parts) else None
    return content if isinstance(content, str) else None
