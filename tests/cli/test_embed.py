"""`cf-local embed`: what it prints is what the library makes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import Run
from tiny_models import make_embedding_model

import cf_local

TEXTS = ["the fox is 24.", "the dog runs"]


@pytest.fixture
def bert(work_folder: Path) -> Path:
    return Path(make_embedding_model(work_folder / "bert.gguf"))


@pytest.fixture
def expected(bert: Path) -> np.ndarray:
    with cf_local.load_embedder(bert) as embedder:
        return embedder.embed(TEXTS)


def vectors(done: subprocess.CompletedProcess[bytes]) -> np.ndarray:
    assert done.returncode == 0, done.stderr
    return np.array([json.loads(line) for line in done.stdout.splitlines()])


def test_a_line_of_json_for_each_text(run: Run, bert: Path, expected: np.ndarray) -> None:
    found = vectors(run("embed", bert, *TEXTS))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_texts_from_a_pipe_and_a_file(
    run: Run, bert: Path, work_folder: Path, expected: np.ndarray
) -> None:
    text = "\n\n".join(TEXTS).encode()
    (work_folder / "text.txt").write_bytes(text)
    for done in (
        run("embed", bert, "--lines", stdin=text),
        run("embed", bert, "--lines", "-f", "text.txt"),
    ):
        np.testing.assert_allclose(vectors(done), expected, atol=1e-5)
    one = vectors(run("embed", bert, stdin=TEXTS[0].encode()))
    np.testing.assert_allclose(one, expected[:1], atol=1e-5)
    assert len(vectors(run("embed", bert, "-f", "text.txt"))) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("ash", "word"), 4, b"embedding"),
        (("bert.gguf",), 2, b"no text"),
        (("bert.gguf", "word", "--lines"), 2, b"not both"),
        (("bert.gguf", "word " * 500), 6, b"tokens"),
        (("nobody", "word"), 2, b"nobody"),
    ],
)
def test_what_cannot_be_embedded(
    run: Run, bert: Path, arguments: tuple[str, ...], code: int, message: bytes
) -> None:
    done = run("embed", *arguments)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert message in done.stderr
    assert b"Traceback" not in done.stderr
