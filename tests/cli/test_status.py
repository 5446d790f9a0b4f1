"""The line that says what is being waited for."""

import io
from pathlib import Path

import pytest
from click.testing import CliRunner

from cf_local.cli import status
from cf_local.cli.main import main
from cf_local.cli.status import StatusLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """From now on, what stderr shows. No fixture: the test's own capture would replace it."""
    opened = Terminal()
    monkeypatch.setattr("sys.stderr", opened)
    monkeypatch.setattr(status, "_PATIENCE_S", -1.0)
    monkeypatch.setenv("TERM", "xterm")
    return opened


def test_a_line_is_drawn_again_where_it_changes_and_erased_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = on_terminal(monkeypatch)
    with StatusLine() as line:
        for share in (0.5, 0.501, 1.0):
            line.show("Loading", share)
        line.note("it is large.")
        line.say("writing …")
    assert terminal.getvalue() == (
        "\r\x1b[KLoading [############------------] 50%"
        "\r\x1b[KLoading [########################] 100%"
        "\r\x1b[KNote: it is large.\n"
        "\r\x1b[Kwriting …"
        "\r\x1b[K"
    )


def test_what_is_over_at_once_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(status, "_PATIENCE_S", 60.0)
    StatusLine().show("Loading", 0.5)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("is_dumb", [True, False])
def test_without_a_terminal_only_notes_are_printed(
    monkeypatch: pytest.MonkeyPatch, is_dumb: bool
) -> None:
    printed: io.StringIO = on_terminal(monkeypatch)
    if is_dumb:
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr("sys.stderr", printed := io.StringIO())
    with StatusLine() as line:
        line.show("Loading", 0.5)
        line.say("writing")
        line.note("it is large.")
    assert printed.getvalue() == "Note: it is large.\n"


@pytest.mark.model
def test_ask_says_how_much_it_has_read_of_the_prompt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[tuple[str, float]] = []
    monkeypatch.setattr(StatusLine, "show", lambda _self, *given: shown.append(given))
    monkeypatch.setenv("CF_LOCAL_CACHE", str(tmp_path))
    done = CliRunner().invoke(main, ["ask", "What is 7 times 8? " * 20, "--only", "ash"])
    assert done.exit_code == 0
    assert done.stderr == ""
    loading = [share for what, share in shown if what == "Loading"]
    reading = [share for what, share in shown if what == "Reading the prompt"]
    assert shown == [("Loading", s) for s in loading] + [("Reading the prompt", s) for s in reading]
    assert loading[-1] == reading[-1] == 1.0
    assert reading == sorted(reading)
