"""The group of commands: what is imported when, and what ends the process how."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cf_local.cli import main as module
from cf_local.cli.main import main
from cf_local.errors import MissingModelError


def test_every_command_is_there_by_its_name() -> None:
    context = click.Context(main)
    names = main.list_commands(context)
    assert {"ask", "chat", "eval", "list", "serve"} <= set(names)
    for name in names:
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_only_the_command_that_is_asked_for_is_imported() -> None:
    code = """
import sys
from cf_local.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0
print([n for n in ("numpy", "tomlkit", "cf_local.cli.ask", "cf_local.cli.rm") if n in sys.modules])
"""
    seen = []
    for arguments in (["--version"], ["rm", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        seen.append(done.stdout.splitlines()[-1])
    assert seen[0] == "[]"
    assert "cf_local.cli.rm" in seen[1]
    assert "cf_local.cli.ask" not in seen[1]


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (MissingModelError("a.gguf is not there."), 3, "Error: a.gguf is not there."),
    ],
)
def test_what_is_raised_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, told: str
) -> None:
    def stop(_name: str) -> None:
        raise raised

    monkeypatch.setattr(module, "import_module", stop)
    done = CliRunner().invoke(main, ["ask", "What is 7 times 8?"])
    assert done.exit_code == code
    assert done.stderr.strip() == told


def test_a_command_that_is_not_there() -> None:
    done = CliRunner().invoke(main, ["akk"])
    assert done.exit_code == 2
    assert "No such command 'akk'" in done.stderr


def test_what_nobody_expected_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("broken")
    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    @click.command("unreadable")
    def unreadable() -> None:
        raise PermissionError(13, "Permission denied", "/etc/cf-local")

    commands = {"broken": broken, "unreadable": unreadable}
    monkeypatch.setattr(main, "get_command", lambda _context, name: commands[name])
    monkeypatch.delenv(module.DEBUG_VARIABLE, raising=False)
    found = CliRunner().invoke(main, ["broken"])
    assert found.exit_code == 1
    assert found.stderr.startswith("Error: ZeroDivisionError: division by zero. This is a fault")
    assert found.stderr.count("\n") == 1
    found = CliRunner().invoke(main, ["unreadable"])
    assert (found.exit_code, found.stderr) == (1, "Error: /etc/cf-local: Permission denied.\n")
    monkeypatch.setenv(module.DEBUG_VARIABLE, "1")
    assert isinstance(CliRunner().invoke(main, ["broken"]).exception, ZeroDivisionError)
