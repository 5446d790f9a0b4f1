"""The short examples as their reader runs them, on the built-in models."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.model

ROOT = Path(__file__).resolve().parent.parent.parent
BUILTIN = ROOT / "cf_local" / "builtin"
QUESTION = "Tom has 23 apples and buys 45 more. How many apples does he have now?"


def run(folder: Path, name: str, *arguments: str, before: str = "") -> subprocess.CompletedProcess:
    """Run an example in a folder of its own; ``before`` is a folder to import from first."""
    paths = os.pathsep.join(filter(None, [before, str(ROOT)]))
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "HOME": str(folder), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def test_two_files_are_fused(tmp_path: Path) -> None:
    files = [str(BUILTIN / name) for name in ("ash.gguf", "birch.gguf")]
    done = run(tmp_path, "two_files.py", *files, QUESTION)
    assert done.returncode == 0, done.stderr
    first, answer, last = done.stdout.splitlines()
    assert first == "A = ash, B = birch"
    assert "The answer is 68." in answer.replace("[A:", "").replace("[B:", "").replace("]", "")
    assert last.startswith("(stop, ")


def test_two_files_tells_what_is_missing(tmp_path: Path) -> None:
    assert "python examples/two_files.py A.gguf" in run(tmp_path, "two_files.py").stderr
    done = run(tmp_path, "two_files.py", "a.gguf", "b.gguf", "Why?")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("two_files.py: ")
    assert "Traceback" not in done.stderr


def test_the_short_example_is_short() -> None:
    assert len((ROOT / "examples" / "two_files.py").read_text("utf-8").splitlines()) <= 32


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_plots_are_written(tmp_path: Path) -> None:
    done = run(tmp_path, "plots.py")
    assert done.returncode == 0, done.stderr
    assert "The answer is 68." in done.stdout
    assert done.stdout.endswith("Written: agreement.png disagreement.png wins.png\n")
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_plots_say_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError\n", encoding="utf-8")
    done = run(tmp_path, "plots.py", before=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install matplotlib" in done.stderr
    assert not list(tmp_path.glob("*.png"))
