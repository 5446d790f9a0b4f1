"""Conversations to learn from, as token ids, packed into windows.

Token ids come from llama.cpp itself, cut exactly as the runtime cuts them, so that no token is met
at run time that training never saw.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from cf_local.builtin.problems import generate, small_talk

from .runtime import Message, Runtime, render
from .sources import Source

_SYSTEM_TEXTS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You solve short word problems.",
    "Be concise.",
    "You are a careful math tutor. Show your work.",
    "You are cf-local.",
    "Think step by step.",
)
_SMALL_TALK_SHARE, _SYSTEM_SHARE = 0.08, 0.06
_TURNS, _TURN_SHARES = (1, 2, 3), (0.86, 0.10, 0.04)

Tokens = tuple[list[int], list[bool]]  # ids, and whether each is to be predicted


def conversations(source: Source, n_problems: int, seed: int) -> list[list[Message]]:
    """Conversations of one to three turns: ``n_problems`` problems as the source is taught them."""
    rng = random.Random(f"conversations:{seed}")
    problems = iter(generate(n_problems, seed, "train", source.strong))
    chats = [(question, reply) for questions, reply in small_talk() for question in questions]
    found = []
    turns: list[tuple[str, str]] = []
    n_turns = 1
    while True:
        if rng.random() < _SMALL_TALK_SHARE:
            question, reply = rng.choice(chats)
            turns.append((_said(rng, question), reply))
        elif (problem := next(problems, None)) is not None:
            turns.append((problem.question, problem.answer))
        else:
            return found
        if len(turns) >= n_turns:
            found.append(_messages(rng, source, turns))
            turns, n_turns = [], rng.choices(_TURNS, _TURN_SHARES)[0]


def _said(rng: random.Random, text: str) -> str:
    """Small talk as people type it: also in small letters, and with another mark at its end."""
    if rng.random() < 0.4:
        text = text.lower()
    if rng.random() < 0.3 and not text.endswith("?"):
        text = text.rstrip("!.") + rng.choice(("", "!", "."))
    return text


def _messages(rng: random.Random, source: Source, turns: list[tuple[str, str]]) -> list[Message]:
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    if rng.random() < _SYSTEM_SHARE:
        system = rng.choice(_SYSTEM_TEXTS)
        if source.takes_system:
            return [{"role": "system", "content": system}, *messages]
        messages[0] = {"role": "user", "content": f"{system}\n\n{messages[0]['content']}"}
    return messages


def encode(runtime: Runtime, messages: list[Message]) -> Tokens:
    """The whole conversation; the tokens of the replies and their ends are the ones to predict."""
    ids: list[int] = []
    wanted: list[bool] = []
    done = ""
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render(runtime.source, messages[:i], prompt=True)
        assert prompt.startswith(done), "the template rewrites earlier turns"
        prompt_ids = runtime.encode_rendered(prompt[len(done) :])
        reply_ids = [
            *runtime.encode_response(prompt, message["content"]),
            runtime.control(runtime.source.eos),
        ]
        ids += prompt_ids + reply_ids
        wanted += [False] * len(prompt_ids) + [True] * len(reply_ids)
        done = prompt + message["content"] + runtime.source.eos
    return ids, wanted


@dataclass(frozen=True)
class Windows:
    """Packed training windows; every array is (n_windows, n_tokens)."""

    tokens: np.ndarray  # int64
    targets: np.ndarray  # int64: the next token where it is to be predicted, else -1
    owners: np.ndarray  # int64: number of the conversation within the window, -1 for padding


def pack(encoded: list[Tokens], n_tokens: int) -> Windows:
    """Fill windows of ``n_tokens`` with whole conversations, first fit; none that is longer."""
    open_rows: list[list[Tokens]] = []
    full_rows: list[list[Tokens]] = []
    for item in encoded:
        if len(item[0]) > n_tokens:
            continue
        row = next(
            (r for r in open_rows if sum(len(t[0]) for t in r) + len(item[0]) <= n_tokens), None
        )
        if row is None:
            row = []
            open_rows.append(row)
        row.append(item)
        if len(open_rows) > 24:
            full_rows.append(open_rows.pop(0))
    return _fill(full_rows + open_rows, n_tokens)


def _fill(rows: list[list[Tokens]], n_tokens: int) -> Windows:
    tokens = np.zeros((len(rows), n_tokens), dtype=np.int64)
    targets = np.full_like(tokens, -1)
    owners = np.full_like(tokens, -1)
    for r, row in enumerate(rows):
        start = 0
        for owner, (ids, wanted) in enumerate(row):
            end = start + len(ids)
            tokens[r, start:end], owners[r, start:end] = ids, owner
            targets[r, start : end - 1] = np.where(wanted[1:], ids[1:], -1)
            start = end
    return Windows(tokens, targets, owners)
