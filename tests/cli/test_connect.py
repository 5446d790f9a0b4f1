"""`cf-local connect` prints and writes what clients need."""

import json
from pathlib import Path

import pytest
import yaml
from cli.conftest import Run

from cf_local.cli.connect.clients import CLIENTS


@pytest.fixture
def home(environment: dict[str, str]) -> Path:
    return Path(environment["HOME"])


def test_it_lists_the_clients(run: Run) -> None:
    done = run("connect")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == list(CLIENTS)


def test_it_prints_only_the_lines(run: Run) -> None:
    done = run("connect", "llm", "--model", "laptop", "--url", "http://box:99/v1/")
    (item,) = yaml.safe_load(done.stdout)
    assert (item["model_id"], item["api_base"]) == ("laptop", "http://box:99/v1")
    assert b"extra-openai-models.yaml" in done.stderr
    done = run("connect", "claude-code")
    assert b"export ANTHROPIC_BASE_URL=http://127.0.0.1:8642\n" in done.stdout
    assert b"export ANTHROPIC_MODEL=builtin\n" in done.stdout  # the default fusion


def test_it_writes_once_and_keeps_a_copy(run: Run, home: Path) -> None:
    place = home / "config" / "opencode" / "opencode.json"
    assert run("connect", "opencode", "--write", "--yes").returncode == 0
    first = place.read_text(encoding="utf-8")
    assert "builtin" in json.loads(first)["provider"]["cf-local"]["models"]
    again = run("connect", "opencode", "--write", "--yes")
    assert b"already has these lines" in again.stderr
    assert place.read_text(encoding="utf-8") == first
    assert [each.name for each in place.parent.iterdir()] == ["opencode.json"]
    assert run("connect", "opencode", "--write", "--yes", "--model", "laptop").returncode == 0
    assert place.with_name("opencode.json.bak").read_text(encoding="utf-8") == first
    assert run("connect", "opencode", "--write", "--yes", "--model", "x").returncode == 0
    assert place.with_name("opencode.json.bak2").exists()


def test_it_asks_first(run: Run, home: Path) -> None:
    done = run("connect", "aider", "--write")
    assert done.returncode == 2
    assert b"--yes" in done.stderr
    assert not (home / ".aider.conf.yml").exists()


def test_what_it_cannot_change_stays(run: Run, home: Path) -> None:
    place = home / ".aider.conf.yml"
    place.write_text("model: gpt-4o # mine\n", encoding="utf-8")
    done = run("connect", "aider", "--write", "--yes")
    assert done.returncode == 2
    assert b"is left as it is. Its model has another value." in done.stderr
    assert place.read_text(encoding="utf-8") == "model: gpt-4o # mine\n"
    place.write_bytes(b"\xff")
    assert b"is not UTF-8 text" in run("connect", "aider", "--write", "--yes").stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["openai", "--write"], "has no file to write"),
        (["--write"], "--write needs a CLIENT"),
        (["nothing"], "'nothing' is not one of"),
        (["llm", "--url", "box"], "an address looks like"),
    ],
)
def test_what_is_wrong_is_told(run: Run, arguments: list[str], says: str) -> None:
    done = run("connect", *arguments)
    assert done.returncode == 2
    assert says in done.stderr.decode()
