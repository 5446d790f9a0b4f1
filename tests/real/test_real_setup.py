"""From three files in a folder to a fused answer, in two commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from . import models
from .conftest import Run

pytestmark = pytest.mark.real


def test_from_three_files_to_a_fused_answer_in_two_commands(run: Run, work_folder: Path) -> None:
    for name in models.SET_A:
        try:
            (work_folder / f"{name}.gguf").symlink_to(models.path_of(name))
        except OSError:  # Windows without the permission
            shutil.copyfile(models.path_of(name), work_folder / f"{name}.gguf")
    done = run("setup", "--yes")
    assert done.returncode == 0, done.stderr
    for name in models.SET_A:
        assert name in done.stdout
    assert "a base model, no chat template" in done.stdout  # Gemma
    asked = run("ask", models.FRUITS, "--json", "--max-tokens", "8", "--threads", "1")
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout.splitlines()[-1])
    assert {source["name"] for source in answer["sources"]} == set(models.SET_A)
    assert answer["text"].strip()
