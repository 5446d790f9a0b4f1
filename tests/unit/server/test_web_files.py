"""The files of the web page: complete, vendored unchanged, nothing a strict policy forbids."""

import hashlib
import re
from pathlib import Path

import pytest

from cf_local.server.web import FOLDER

OURS = sorted(p for p in FOLDER.glob("*") if p.is_file())
SCRIPTS = sorted(FOLDER.glob("*.js"))


def test_vendored_files_are_those_that_were_vendored() -> None:
    folder = FOLDER / "vendor"
    told = re.findall(r"^([0-9a-f]{64})  (\S+)$", (folder / "README.md").read_text("utf-8"), re.M)
    assert {name for _, name in told} == {p.name for p in folder.iterdir()} - {"README.md"}
    for digest, name in told:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_every_import_is_a_file_of_the_page() -> None:
    for path in [*SCRIPTS, *FOLDER.glob("vendor/*.js")]:
        text = path.read_text("utf-8")
        named = re.findall(r"""^(?:im|ex)port\b[^;'"]*\bfrom\s*["']([^"']+)["']""", text, re.M)
        for found in named + re.findall(r"""\bimport\(["']([^"']+)["']\)""", text):
            assert found.startswith("./"), f"{path.name} imports {found}"
            assert (path.parent / found).is_file(), f"{path.name} imports {found}"


def test_every_file_of_ours_is_reached() -> None:
    text = "".join(p.read_text("utf-8") for p in OURS)
    for path in OURS:
        assert path.name == "index.html" or f"{path.name}" in text, path.name


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_nothing_leads_to_another_host(path: Path) -> None:
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text, re.IGNORECASE) == []


def test_the_copy_for_offline_use_is_complete() -> None:
    (listed,) = re.findall(r"const FILES = \[(.*?)\];", (FOLDER / "sw.js").read_text("utf-8"), re.S)
    vendored = {f"vendor/{p.name}" for p in FOLDER.glob("vendor/*.js")}
    files = {p.name for p in OURS} - {"sw.js", "index.html"} | vendored | {"./"}
    assert set(re.findall(r'"([^"]+)"', listed)) == files


def test_nothing_is_inline() -> None:
    page = (FOLDER / "index.html").read_text("utf-8")
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", page) == []
    assert re.findall(r"<script(?![^>]*\ssrc=)", page) == []


def test_text_of_models_is_never_markup() -> None:
    forbidden = r"(?:inner|outer|Adjacent)HTML|dangerously|document\.write|\beval\(|new Function"
    for path in SCRIPTS:
        assert re.findall(forbidden, path.read_text("utf-8")) == [], path.name


def test_modules_are_small() -> None:
    for path in SCRIPTS:
        assert len(path.read_text("utf-8").splitlines()) < 350, path.name
