"""`cf-local ask` with a form: what is printed, and how it ends."""

import json
from pathlib import Path

import pytest
from cli.conftest import Run

pytestmark = pytest.mark.model

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}}
SCHEMA |= {"required": ["n"]}


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_an_answer_obeys_the_schema(run: Run, tmp_path: Path) -> None:
    schema = written(tmp_path, "s.json", json.dumps(SCHEMA))
    done = run("ask", "How many?", "--schema", schema)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["n"] <= 9
    *_, answer = run("ask", "How many?", "--schema", schema, "--json").stdout.splitlines()
    assert json.loads(json.loads(answer)["text"])["n"] <= 9


def test_grammars_and_json_objects(run: Run, tmp_path: Path) -> None:
    grammar = written(tmp_path, "g.gbnf", 'root ::= "yes" | "no"\n')
    assert run("ask", "Is it?", "--grammar", grammar).stdout in (b"yes\n", b"no\n")
    done = run("ask", "Hello!", "--json-object", "--mode", "rerank")
    if done.returncode == 0:
        assert isinstance(json.loads(done.stdout), dict)


def test_an_incomplete_answer_is_reported(run: Run, tmp_path: Path) -> None:
    schema = written(tmp_path, "s.json", '{"type": "string", "minLength": 300}')
    done = run("ask", "Hello!", "--schema", schema, "--max-tokens", "20")
    assert done.returncode == 1
    assert done.stdout.startswith(b'"')
    assert b"The answer is incomplete: it reached --max-tokens" in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("s.json", '{"type": "object", "minProperties": 2}', "#/minProperties"),
        ("s.json", "{", "not JSON"),
        ("s.json", '{"$ref": "https://example.org/x"}', "outside of the schema"),
        ("g.gbnf", 'root ::= root "a" | "b"', "left recursion"),
        ("g.gbnf", "root ::= [", "is missing"),
    ],
)
def test_a_form_that_cannot_be_kept_is_refused_before_the_load(
    run: Run, tmp_path: Path, name: str, text: str, told: str
) -> None:
    file = written(tmp_path, name, text)
    option = "--schema" if name == "s.json" else "--grammar"
    # A model that is not there is told only when it is to be loaded.
    done = run("ask", "Hello!", option, file, "--model", "missing.gguf")
    assert (done.returncode, done.stdout) == (2, b"")
    assert told in done.stderr.decode()
    assert str(file) in done.stderr.decode()


def test_options_that_exclude_each_other(run: Run, tmp_path: Path) -> None:
    schema = written(tmp_path, "s.json", json.dumps(SCHEMA))
    assert run("ask", "?", "--schema", schema, "--json-object").returncode == 2
    assert run("ask", "?", "--schema", schema, "--stop", "}").returncode == 2
    missing = run("ask", "?", "--schema", tmp_path / "none.json")
    assert missing.returncode == 2
    assert b"none.json cannot be read" in missing.stderr
