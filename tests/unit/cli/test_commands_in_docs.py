"""Every command that the documentation shows is one that the command line accepts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cf_local.cli.main import main

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.remove(ROOT / "docs" / "LOG.md")  # which says what was run then
_LISTING = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_END = re.compile(r"\s(?:\||&&|<|2?>|&)\s.*")


def commands(page: Path) -> Iterator[list[str]]:
    """The words of the commands in listings, and between backquotes in the text."""
    text = page.read_text("utf-8")
    lines = "".join(_LISTING.findall(text)).replace("\\\n", " ").splitlines()
    lines += re.findall(r"^    (cf-local .*)$", text, re.MULTILINE)
    lines += re.findall(r"`(cf-local [^`]*[^`:])`", _LISTING.sub("", text))
    for line in lines:
        for part in re.split(r"\s(?:\||&&)\s", line):
            if part.strip().startswith("cf-local "):
                yield shlex.split(_END.sub("", f"{part.strip()} "), comments=True)[1:]


def refusal(words: list[str]) -> str:
    """What click says of a command or an option that there is not; nothing of others."""
    try:
        parse(words)
    except click.UsageError as error:
        return error.message
    return ""


def parse(words: list[str]) -> None:
    command: click.Command = main
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        name, *words = words
        if name.isupper():  # stands for any command
            return
        found = command.get_command(click.Context(command), name)
        if found is None:
            raise click.UsageError(f"no command {name}")
        command = found
    command.make_parser(click.Context(command)).parse_args(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_there_are_such_commands(page: Path) -> None:
    told = {shlex.join(words): refusal(words) for words in commands(page)}
    assert {line: why for line, why in told.items() if why} == {}


def test_commands_are_found() -> None:
    found = [words[0] for words in commands(ROOT / "docs" / "cli.md")]
    assert {"setup", "ask", "chat", "history", "pull", "config", "serve", "connect"} <= {*found}


def test_a_wrong_one_is_noticed() -> None:
    for line in ("asks", "ask --no-such-option", "models no-such-command"):
        assert refusal(line.split())


def test_the_tests_that_the_documentation_names_exist() -> None:
    text = (ROOT / "docs" / "experience.md").read_text("utf-8")
    named = re.findall(r"`((?:\w+/)+(?:test_\w+\.py)?)`", text.replace("`tests/`", ""))
    assert len(named) > 50
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []
