"""`--help` in groups and short, `--help-all` with everything, and completion in shells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli.conftest import Run
from click.testing import CliRunner

from cf_local.cli import main as module
from cf_local.cli.completing import SHELLS
from cf_local.cli.help import GROUPS
from cf_local.cli.main import main
from cf_local.settings import OPTIONS


def told(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments, prog_name="cf-local", env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


def test_every_command_is_in_one_section() -> None:
    text = told("--help")
    for title, commands in module._SECTIONS.items():
        assert f"\n{title}:\n" in text
        for name in commands:
            assert re.search(rf"^  {name}  ", text, re.MULTILINE)
    assert "..." not in text.partition("Basics:")[2]  # no line is cut
    names = [name for section in module._SECTIONS.values() for name in section]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("command", ["ask", "chat", "eval"])
def test_help_is_short_and_help_all_has_everything(command: str) -> None:
    short, whole = told(command, "--help"), told(command, "--help-all")
    assert len(short.splitlines()) < 50
    for text in (short, whole):
        places = [text.index(f"\n{title}:\n") for title in GROUPS]
        assert places == sorted(places)
    assert "--mode MODE" in short
    assert "[cool]" in short
    assert "--min-p" not in short
    assert "CF_LOCAL_" not in short
    loaded = main.get_command(click.Context(main), command)
    assert loaded is not None
    for param in loaded.params:
        if isinstance(param, click.Option):
            assert param.opts[-1] in whole
    flat = " ".join(whole.split())
    for name, option in OPTIONS.items():
        if option.kind in ("whole", "number", "choice") and option.default is not None:
            shown = f"{option.default:g}" if option.kind == "number" else option.default
            pattern = rf"--{name.replace('_', '-')} .*?default: {re.escape(str(shown))}[;\]]"
            assert re.search(pattern, flat), name


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell(run: Run, shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert b"_CF_LOCAL_COMPLETE" in done.stdout
    assert f"{shell}_complete".encode() in done.stdout
    interpreter = {"powershell": "pwsh"}.get(shell, shell)
    if shutil.which(interpreter) and shell in ("bash", "zsh", "fish"):
        checked = subprocess.run([interpreter, "-n"], input=done.stdout, capture_output=True)
        assert (checked.returncode, checked.stderr) == (0, b"")
    assert run("completion", "tcsh").returncode == 2


def completed(run: Run, *words: str) -> list[str]:
    """What is offered for the last word, by the words before it."""
    env = {"_CF_LOCAL_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words))}
    done = run(env=env | {"COMP_WORDS": " ".join(["cf-local", *words])})
    assert done.stderr == b""
    lines = done.stdout.decode().split()  # one empty line stands for nothing
    return [line.partition(",")[2] for line in lines]


def test_names_are_completed(run: Run, work_folder: Path) -> None:
    (work_folder / "models.toml").write_text("[fusions.laboratory]\nsources = ['ash', 'birch']\n")
    assert completed(run, "se") == ["serve", "setup"]
    assert "laboratory" in completed(run, "ask", "--fusion", "lab")
    assert completed(run, "ask", "--model", "bir") == ["birch"]
    assert completed(run, "ask", "--only", "ce") == ["cedar"]
    assert completed(run, "ask", "--sco") == ["--score"]
    assert completed(run, "ask", "--score", "bits") == ["bits_per_byte"]
    assert completed(run, "plan", "labo") == ["laboratory"]
    assert completed(run, "models", "default", "labo") == ["laboratory"]
    assert completed(run, "models", "add-fusion", "x", "as") == ["ash"]
    for command in ("show", "pull", "rm"):
        assert "birch" in completed(run, command, "bi")
    (work_folder / "models.toml").write_text("[fusions")
    assert completed(run, "ask", "--fusion", "lab") == []


def test_powershell_gets_type_value_and_help(run: Run) -> None:
    env = {"_CF_LOCAL_COMPLETE": "powershell_complete", "COMP_WORDS": "cf-local\nask\n--fusion"}
    done = run(env=env | {"COMP_CWORD": "built"})
    kind, value, text = done.stdout.decode().strip().split("\t")
    assert (kind, value) == ("plain", "builtin")
    assert text.startswith("Three tiny models")
    done = run(env=env | {"COMP_WORDS": "cf-local", "COMP_CWORD": "doc"})
    assert done.stdout.decode().startswith("plain\tdoctor\t")


def test_the_powershell_script_speaks_that_protocol(run: Run) -> None:
    script = run("completion", "powershell").stdout.decode()
    assert "-CommandName cf-local -ScriptBlock {" in script
    assert "$env:_CF_LOCAL_COMPLETE = 'powershell_complete'" in script
    assert "%(" not in script
    for pair in ("{}", "()", "[]"):
        assert script.count(pair[0]) == script.count(pair[1])


@pytest.mark.skipif(os.name == "nt" or not shutil.which("bash"), reason="needs bash")
def test_bash_completes(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """The script in a real bash; a function stands for the installed command."""
    script = run("completion", "bash").stdout.decode()
    (tmp_path / "cf-local").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cf_local "$@"\n')
    (tmp_path / "cf-local").chmod(0o755)
    lines = f"""{script}
COMP_WORDS=(cf-local ask --fusion buil) COMP_CWORD=3
_cf_local_completion cf-local
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc"],
        input=lines,
        capture_output=True,
        text=True,
        env=environment | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )
    assert done.stdout.split() == ["builtin"], done.stderr
