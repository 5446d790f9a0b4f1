"""What is published beside the code: the wheel's files, the image, the README's picture."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

from cf_local import trace

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_image_gets_all_that_the_wheel_is_built_of() -> None:
    given = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)
    wanted = {PROJECT["readme"], "LICENSE", "models.toml", "pyproject.toml", "cf_local"}
    assert set(given) == wanted
    assert all((ROOT / name).exists() for name in given)


def test_the_image_installs_what_the_server_needs() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r'bin/python -c "(import tomllib.+?)" \\\n', text, re.S)
    assert found
    code = found[1].replace("\\\n", "").replace("/src/", f"{ROOT.as_posix()}/")
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    server = PROJECT["optional-dependencies"]["server"]
    assert listed.decode().split() == [*PROJECT["dependencies"], *server]


def test_the_readme_shows_pictures_of_a_real_answer() -> None:
    (one,) = trace.read(ROOT / "docs" / "answer.jsonl")
    assert one.answer is not None
    assert one.answer.finish_reason == "stop"
    assert all(source.sha256 and "/" not in source.file for source in one.sources)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/answer-{theme}.svg" in readme for theme in ("light", "dark"))
    assert all(name in readme for name in ("SmolLM2 135M", "Gemma 3 270M", "Qwen2.5-Coder 0.5B"))
    assert one.answer.text in readme  # what those read who see no pictures


def test_the_pictures_show_what_the_trace_says() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "readme_picture.py"))
    (one,) = trace.read(ROOT / "docs" / "answer.jsonl")
    for theme in ("light", "dark"):
        kept = (ROOT / "docs" / f"answer-{theme}.svg").read_text(encoding="utf-8")
        assert script["picture"](one, theme) == kept
        assert "<script" not in kept
        assert "http" not in kept.replace("http://www.w3.org/2000/svg", "")
