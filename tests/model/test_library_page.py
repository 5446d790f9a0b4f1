"""The examples of docs/library.md and README.md run as they are printed there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("docs/library.md", "README.md")


def examples() -> list[tuple[str, str]]:
    return [
        (page, code)
        for page in PAGES
        for code in re.findall(
            r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S
        )
    ]


@pytest.mark.model
@pytest.mark.parametrize(("page", "code"), examples())
def test_an_example_runs(page: str, code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, ""), page


def test_there_are_examples() -> None:
    assert len(examples()) >= 5
