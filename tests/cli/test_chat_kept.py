"""A chat that is taken up again goes on from what the models have read; and leaves nothing else."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.conftest import Run
from click.testing import CliRunner

from cf_local.statecache import keeper, owner_of, sealed

pytestmark = pytest.mark.model

FIRST = "Tom has 23 apples and buys 45 more. How many apples does he have now?"
SECOND = "There are 7 boxes with 12 pencils each. How many pencils are there?"
Chat = Callable[..., str]


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of states; the built-in models are read so fast that nothing would be kept."""
    monkeypatch.setattr(keeper, "MIN_READING_S", 0.0)
    monkeypatch.setattr(keeper, "MIN_GAIN", 0.0)
    monkeypatch.setenv("CF_LOCAL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CF_LOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "read"


@pytest.fixture
def chat(states: Path, caplog: pytest.LogCaptureFixture) -> Chat:
    """Runs the command in this process: its answers; the log has what was restored."""
    from cf_local.cli.main import main

    def run(*arguments: str, lines: str, command: str = "chat") -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, "cf_local.statecache"):
            done = CliRunner().invoke(main, [command, *arguments], input=lines)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def restored(caplog: pytest.LogCaptureFixture) -> int:
    return sum("restored" in record.message for record in caplog.records)


def test_a_chat_goes_on_from_what_was_read(
    chat: Chat, states: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = chat(lines=f"{FIRST}\n{SECOND}\n")
    chat(lines=f"{FIRST}\n")
    assert len(list(states.iterdir())) == 6  # three sources of two chats
    second = chat("-c", lines=f"{SECOND}\n")
    assert restored(caplog) == 3
    assert second.splitlines() == whole.splitlines()[1:]
    assert len(list(states.iterdir())) == 6
    chat("--chat", "1", lines="")
    assert restored(caplog) == 3


def test_a_conversation_from_a_file_finds_what_was_read(
    chat: Chat, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat(lines=f"{FIRST}\n/save talk.json\n")
    answer = chat(lines=f"/load talk.json\n{SECOND}\n")
    assert restored(caplog) == 3
    assert answer.endswith("The answer is 84.\n")


def test_commands_that_leave_a_conversation_keep_it(
    chat: Chat, states: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat(lines=f"{FIRST}\n/clear\n{SECOND}\n")
    assert len(list(states.iterdir())) == 6
    chat("--chat", "1", lines="/undo\n")  # what it no longer says is no longer kept
    assert restored(caplog) == 3
    owner = owner_of(states.parents[1] / "data" / "conversations.db", 1)
    n_tokens = [len(sealed.tokens_of(path)) for path in states.iterdir() if owner in path.name]
    assert max(n_tokens, default=0) < 10


def test_private_chats_leave_nothing(chat: Chat, states: Path) -> None:
    chat("--no-history", lines=f"{FIRST}\n")
    assert not states.exists()


def test_removed_chats_take_it_with_them(chat: Chat, states: Path) -> None:
    chat(lines=f"{FIRST}\n")
    chat(lines=f"{SECOND}\n")
    assert len(list(states.iterdir())) == 6
    chat("rm", "1", "--yes", command="history", lines="")
    assert len(list(states.iterdir())) == 3
    chat("rm", "--all", "--yes", command="history", lines="")
    assert list(states.iterdir()) == []


def test_a_damaged_or_unwritable_cache_is_not_noticed(
    chat: Chat, states: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat(lines=f"{FIRST}\n")
    for path in states.iterdir():
        path.write_bytes(path.read_bytes()[:-1000])
    assert chat("-c", lines=f"{SECOND}\n").endswith("The answer is 84.\n")
    assert restored(caplog) == 0
    for path in states.iterdir():
        path.unlink()
    states.rmdir()
    states.touch()
    assert chat("-c", lines=f"{FIRST}\n").endswith("The answer is 68.\n")


@pytest.mark.slow
def test_the_real_command_keeps_what_takes_long_to_read(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    """A model of 300 MB; the built-in ones leave nothing."""
    pytest.importorskip("gguf")
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    from inflate import inflate

    import cf_local.builtin

    model = tmp_path / "heavy.gguf"
    inflate(Path(cf_local.builtin.__file__).with_name("ash.gguf"), model, 300_000_000, 24)
    states = Path(environment["CF_LOCAL_CACHE"]) / "read"
    assert run("chat", stdin=f"{FIRST}\n".encode()).returncode == 0
    assert not states.exists() or not list(states.iterdir())
    lines = f"{FIRST}\n{SECOND}\n{FIRST}\n"
    whole = run("chat", "--no-history", "--model", model, stdin=f"{lines}{SECOND}\n".encode())
    begun = run("chat", "--model", model, stdin=lines.encode())
    assert begun.returncode == 0, begun.stderr
    (state,) = states.iterdir()
    if os.name == "posix":
        assert state.stat().st_mode & 0o077 == 0
    os.utime(state, (1, 1))
    gone_on = run("chat", "--model", model, "-c", stdin=f"{SECOND}\n".encode())
    assert gone_on.stdout.splitlines() == whole.stdout.splitlines()[3:]
    assert b"rror" not in begun.stderr + gone_on.stderr
    (state,) = states.iterdir()
    assert state.stat().st_mtime > 1
    assert run("history", "rm", "2", "--yes").returncode == 0
    assert list(states.iterdir()) == []
