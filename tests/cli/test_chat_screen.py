"""`cf-local chat` in a pseudo-terminal that can do everything: commands, keys, kills, Ctrl-C."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="no pseudo-terminals on this system")

import pexpect
from cli.screen import Screen, plain
from tiny_models import bpe_vocab, make_model

import cf_local
from cf_local import trace
from cf_local.builtin.problems import generate
from cf_local.chats.transcript import Transcript
from cf_local.runtime.conversation import Conversation

pytestmark = pytest.mark.model

FIRST = "Tom has 23 apples and buys 45 more. How many apples does he have now?"
SECOND = "There are 7 boxes with 12 pencils each. How many pencils are there?"
BEGUN = r"\?2004l(?:\x1b\[[0-9;?]*[A-Za-z]|\s)*[^\x1b\s]"  # a line is entered; an answer begins
Open = Callable[..., Screen]


@pytest.fixture
def start(environment: dict[str, str], work_folder: Path) -> Open:
    def open_screen(*arguments: str, **env: str) -> Screen:
        return Screen(environment | env, arguments, work_folder)

    return open_screen


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    return make_model(tmp_path / "endless.gguf", "llama", bpe_vocab(), seed=1, eog_bias=-60)


def test_a_cut_answer_continues(start: Open) -> None:
    screen = start()
    screen.prompt()
    whole = screen.enter(FIRST).split()
    screen.enter("/clear")
    screen.enter("/set max_tokens 9")
    first = screen.enter(FIRST)
    assert "The answer is 68" not in first
    screen.enter("/set max_tokens 100")
    rest = screen.enter("/continue")
    assert "The answer is 68." in rest
    assert "".join(first.split()[-8:] + rest.split()).endswith("".join(whole[-6:]))
    assert "1 turn;" in screen.enter("/context")
    screen.child.send("exit\r")
    screen.child.expect(pexpect.EOF)


def test_every_command(start: Open, work_folder: Path) -> None:
    screen = start()
    screen.prompt()
    assert "The answer is 68." in screen.enter(FIRST)
    said = {
        line: screen.enter(line)
        for line in (
            *("/help", "/help set", "/set", "/set temperature 9x", "/set mode coo", "/set seed 3"),
            *("/show", "/context", "/stats", "/trace", "/why 68", "/why #1", "/why nothing"),
            *("/system Be brief.", "/system", "/models", "/models nope", "/nonsense"),
            *("/set think hide", "/set winners on", "/set winners off", "/save talk.json"),
        )
    }
    expected = {
        "/help": "/bye",
        "/help set": "list the settings",
        "/set": "temperature",
        "/set temperature 9x": "is a number",
        "/set mode coo": "one of cool, rerank",
        "/show": "birch.gguf",
        "/context": "of 512 tokens",
        "/stats": "bytes/s",
        "/trace": "ash",
        "/why 68": "mean",
        "/why #1": "Tom",
        "/why nothing": "does not contain",
        "/system": "Be brief.",
        "/models": "builtin: ash, birch, cedar",
        "/models nope": "No fusion is named 'nope'",
        "/nonsense": "Unknown command /nonsense",
        "/set think hide": "thinking is hidden",
        "/save talk.json": "Saved to",
    }
    assert {line: part for line, part in expected.items() if part not in said[line]} == {}
    assert "seed              3" in screen.enter("/set")
    assert "The answer is" in screen.enter("/retry")
    assert "seed is 'x'" not in screen.enter("/retry seed 4")
    assert "seed              3" in screen.enter("/set")
    assert "is a whole number" in screen.enter("/retry seed x")
    assert "no source" in screen.enter("/only nobody").lower()
    screen.enter("/only ash")
    assert "mode              single" in screen.enter("/set")
    screen.enter("/only off")
    assert "mode              cool" in screen.enter("/set")
    assert FIRST in screen.enter("/undo")
    assert "nothing to undo" in screen.enter("/undo")
    assert "no answer to continue" in screen.enter("/continue")
    assert "1 turn" in screen.enter("/load talk.json")
    assert "Name a file" in screen.enter("/load")
    assert "Fusing ash, birch, cedar" in screen.enter("/fusion builtin")
    assert "The answer is 84." in screen.enter(SECOND)
    screen.enter("/clear")
    assert "There is no answer" in screen.enter("/stats")
    screen.enter("Hello!")
    screen.enter(SECOND)
    assert "Saved to" in screen.enter("/trace trace.jsonl")
    traces = trace.read(work_folder / "trace.jsonl")
    assert [one.heading.prompt.messages[-1].content for one in traces] == ["Hello!", SECOND]
    screen.child.send("/bye\r")
    screen.child.expect(pexpect.EOF)
    saved = json.loads((work_folder / "talk.json").read_text("utf-8"))["messages"]
    assert [m["role"] for m in saved] == ["system", "user", "assistant"]


def test_replacing_a_file_is_asked(start: Open, work_folder: Path) -> None:
    file = work_folder / "talk.json"
    file.write_text("mine", "utf-8")
    screen = start()
    screen.prompt()
    screen.enter("Hello!")
    for answer, replaced in (("n", False), ("\x03", False), ("y", True)):
        screen.child.send("/save talk.json\r")
        screen.child.expect(r"\[y/N\]")
        screen.child.send(answer + "\r" if answer != "\x03" else answer)
        screen.prompt()
        assert (file.read_text("utf-8") != "mine") is replaced
    assert screen.leave() == 0


def test_a_bad_file_leaves_the_conversation(start: Open, work_folder: Path) -> None:
    (work_folder / "bad.json").write_text('[{"role": "robot", "content": "x"}]', "utf-8")
    screen = start()
    screen.prompt()
    screen.enter("Hello!")
    for name in ("bad.json", "none.json", ".", "x" * 500):
        assert "Error" in screen.enter(f"/load {name}")
    assert "Hello!" in screen.enter("/undo")
    assert screen.leave() == 0


def test_several_lines_paste_history_and_completion(start: Open) -> None:
    screen = start()
    screen.prompt()
    screen.child.send(
        '"""There are 7 boxes\rwith 12 pencils each.\rHow many pencils are there?"""\r'
    )
    screen.prompt()
    # A paste arrives in brackets, with line breaks and an escape sequence that is only text.
    screen.child.send("\x1b[200~Hello\n\x1b[31mthere!\x1b[201~")
    screen.child.send("\r")
    screen.prompt()
    screen.child.send("/he\t")
    screen.child.expect("lp")  # completed to /help
    screen.child.send("\r")
    assert "/bye" in screen.prompt()
    assert screen.leave() == 0
    again = start("-c")
    assert "chat 1 (2 turns)" in again.prompt()
    again.child.send("\x1b[A\r")  # the last line of the former chat: /help
    assert "/bye" in again.prompt()
    assert again.leave() == 0
    (talk,) = again.saved()
    questions = [turn.question for turn in talk.turns]
    assert questions[0] == "There are 7 boxes\nwith 12 pencils each.\nHow many pencils are there?"
    assert questions[1].splitlines()[0] == "Hello"
    assert len(questions) == 2


def test_bad_input_never_loses_the_conversation(start: Open) -> None:
    screen = start()
    screen.prompt()
    screen.enter(FIRST)
    os.write(screen.child.child_fd, b"caf\xe9 \xff\xfe?\r")
    assert "not UTF-8" in screen.prompt()
    screen.paste("apples " * 3000)
    assert "context" in screen.prompt()
    screen.enter("\x07\x0b control \x1d characters")
    screen.child.setwinsize(5, 20)
    screen.enter("Hello!")
    screen.child.setwinsize(50, 200)
    assert screen.leave() == 0
    (talk,) = screen.saved()
    assert talk.turns[0].question == FIRST
    assert talk.turns[-1].question == "Hello!"
    assert all(turn.answer for turn in talk.turns)


def test_no_history_writes_nothing(start: Open, environment: dict[str, str]) -> None:
    screen = start("--no-history")
    screen.prompt()
    screen.enter("Hello!")
    assert "not saved" in screen.enter("/show")
    assert screen.leave() == 0
    assert not Path(environment["CF_LOCAL_DATA"]).exists()


def test_a_data_folder_that_cannot_be_written_is_a_note(start: Open, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    screen = start(CF_LOCAL_DATA=str(tmp_path / "file" / "data"))
    assert "This chat is not saved" in screen.prompt()
    assert "The answer is 68." in screen.enter(FIRST)
    assert screen.leave() == 0


def test_a_broken_database_is_an_error_and_stays(start: Open, environment: dict[str, str]) -> None:
    folder = Path(environment["CF_LOCAL_DATA"])
    folder.mkdir()
    (folder / "conversations.db").write_bytes(b"garbage " * 1000)
    screen = start()
    screen.child.expect(pexpect.EOF)
    screen.child.close()
    assert screen.child.exitstatus == 4
    assert "--no-history" in plain(screen.child.before)
    assert (folder / "conversations.db").read_bytes() == b"garbage " * 1000


def test_interrupts_at_random_moments(start: Open, endless: Path) -> None:
    randomness = random.Random(1)
    screen = start("--model", str(endless), "--temperature=1", "--max-tokens=100000")
    assert len(interrupt_often(screen, randomness, 8)) == 8
    (talk,) = screen.saved()
    assert [turn.question for turn in talk.turns] == [f"go on {index}" for index in range(8)]


def interrupt_often(screen: Screen, randomness: random.Random, n_times: int) -> list[float]:
    """Ctrl-C at random moments; the chat goes on and its record is well-formed each time.

    Returns the seconds from each Ctrl-C to the next prompt.
    """
    screen.prompt()
    waits = []
    for index in range(n_times):
        screen.child.send(f"go on {index}\r")
        time.sleep(randomness.choice([0.0, 0.01, 0.05, 0.2, 0.6]) * randomness.random())
        start_s = time.monotonic()
        screen.child.sendintr()
        screen.prompt()
        waits.append(time.monotonic() - start_s)
        # A Ctrl-C behind the end of an answer makes a prompt more: get in step again.
        screen.child.send(f"/step{index}\r")
        screen.child.expect(f"Unknown command /step{index}")
        screen.prompt()
        turns = [turn for talk in screen.saved() for turn in talk.turns]
        # Some are done before it: where the conversation fills the context, answers are short.
        assert all(turn.state != "writing" for turn in turns)
    assert sum(turn.state == "stopped" for turn in turns) >= n_times / 2
    assert screen.leave() == 0
    return waits


def test_answers_after_interrupts_are_those_of_a_fresh_conversation(start: Open) -> None:
    screen = start()
    interrupted_answers(screen, random.Random(2), 3)
    (talk,) = screen.saved()
    assert [turn.state for turn in talk.turns if turn.question == SECOND] == ["done"] * 3


def interrupted_answers(screen: Screen, randomness: random.Random, n_times: int) -> None:
    """Ctrl-C in every other answer; those between are what the same messages give without it."""
    screen.prompt()
    for problem in generate(n_times, seed=randomness.randrange(1000), split="test"):
        screen.child.send(problem.question + "\r")
        time.sleep(randomness.random() * 0.08)
        screen.child.sendintr()
        screen.prompt()
        screen.child.send("/step\r")
        screen.child.expect("Unknown command /step")
        screen.prompt()
        screen.enter(SECOND)
    assert screen.leave() == 0
    talk, *_ = screen.saved()
    done = [index for index, turn in enumerate(talk.turns) if turn.state == "done"]
    assert len(done) >= n_times
    with cf_local.load() as fusion:
        for index in done:
            fresh = Conversation()
            fresh.messages = Transcript(None, talk.turns[:index]).messages()
            for _ in fresh.stream(fusion, talk.turns[index].question):
                pass
            assert fresh.messages[-1].content == talk.turns[index].answer


def test_killed_at_random_moments(start: Open, endless: Path) -> None:
    talk = kill_often(start, endless, random.Random(3), 3)
    assert [turn.question for turn in talk.turns] == ["question 0", "question 1", "question 2"]


def kill_often(start: Open, endless: Path, randomness: random.Random, n_times: int) -> Transcript:
    """kill -9 while it writes: what was shown is there, but for the last moment of the answer."""
    options = ("--model", str(endless), "--temperature=1", "--max-tokens=100000")
    for index in range(n_times):
        screen = start(*options, *(["-c"] if index else []))
        screen.prompt()
        screen.child.send(f"question {index}\r")
        screen.child.expect(BEGUN)
        shown = screen.child.after[-1] + screen.child.buffer
        end_s = time.monotonic() + randomness.random()
        while time.monotonic() < end_s:
            try:
                shown += screen.child.read_nonblocking(4096, timeout=0.05)
            except pexpect.TIMEOUT:
                continue
        screen.kill()
        (talk,) = screen.saved()
        assert [turn.question for turn in talk.turns] == [f"question {i}" for i in range(index + 1)]
        assert all(turn.state != "writing" for turn in talk.turns[:-1])
        answer = "".join(talk.turns[-1].answer.split())
        seen = "".join(plain(shown).split())
        assert seen.startswith(answer[: len(seen)]) or answer[:20] in seen
        database = sqlite3.connect(Path(os.fspath(endless)).parent / "home/data/conversations.db")
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()
    screen = start(*options, "-c")
    assert f"({n_times} turns)" in screen.prompt()
    screen.leave()
    return screen.saved()[0]
