"""`cf-local chat` end to end, its lines from a pipe."""

import pytest
from cli.conftest import Run

pytestmark = pytest.mark.model

FIRST = "Tom has 23 apples and buys 45 more. How many apples does he have now?"
SECOND = "There are 7 boxes with 12 pencils each. How many pencils are there?"


def test_lines_are_asked_one_after_the_other(run: Run) -> None:
    done = run("chat", stdin=f"{FIRST}\n\n{SECOND}\n".encode())
    assert done.returncode == 0
    first, second = done.stdout.decode().splitlines()
    assert first.endswith("The answer is 68.")
    assert second.endswith("The answer is 84.")


def test_greets(run: Run) -> None:
    done = run("chat", stdin=b"Hello!\n/bye\nnever asked\n")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert b"hello" in done.stdout.lower()


def test_clear_forgets_the_conversation(run: Run) -> None:
    cleared = run("chat", stdin=f"{FIRST}\n/clear\n{SECOND}\n".encode())
    alone = run("ask", SECOND)
    assert cleared.stdout.splitlines()[1] == alone.stdout.strip()


def test_unknown_commands_and_errors_do_not_end_the_chat(run: Run) -> None:
    long = "apples " * 3000
    done = run("chat", stdin=f"/nonsense\n{long}\n{FIRST}\n".encode())
    assert done.returncode == 0
    assert b"/nonsense" in done.stderr
    assert b"context" in done.stderr
    assert done.stdout.decode().strip().endswith("The answer is 68.")
    assert b"Traceback" not in done.stderr


def test_old_turns_are_left_out_when_the_context_is_full(run: Run) -> None:
    done = run("chat", stdin=(FIRST + "\n").encode() * 8)
    answers = done.stdout.decode().splitlines()
    assert len(answers) == 8
    assert all("The answer is" in answer for answer in answers)
    assert b"no longer fit" in done.stderr


def test_a_chat_with_one_source_loads_the_others_when_they_are_asked(run: Run) -> None:
    typed = [
        *("/set weights birch=3", "/models", FIRST),
        *("/only nobody", "/only birch", "/models", FIRST),
        *("/only off", "/models", "/set", FIRST),
        *("/only ash", "/models", "/set mode cool"),
    ]
    done = run("chat", "--only", "ash", "--no-history", stdin="\n".join(typed).encode())
    assert len(done.stdout.splitlines()) == 3
    said = done.stderr.decode().splitlines()
    loaded = [line for line in said if line.startswith("loaded: ")]
    all_of_them = "loaded: ash, birch, cedar"
    assert loaded == ["loaded: ash", "loaded: birch", all_of_them, all_of_them]
    assert "weights           birch=3" in said
    assert [line for line in said if line.startswith("Error")] == [
        "Error: No source is named 'nobody'; the sources are ash, birch, cedar."
    ]


def test_set_only_and_a_mode_load_what_they_need(run: Run) -> None:
    typed = ["/set only cedar", "/models", "/set mode cool", "/models", "/set weights oak=1"]
    done = run("chat", "--only", "ash", "--no-history", stdin="\n".join(typed).encode())
    said = done.stderr.decode().splitlines()
    loaded = [line for line in said if line.startswith("loaded: ")]
    assert loaded == ["loaded: cedar", "loaded: ash, birch, cedar"]
    assert "oak" in said[-1]
