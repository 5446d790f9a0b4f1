"""The desktop example as a PyInstaller bundle: it answers without Python and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from desk import EXAMPLE, ROOT, Screen  # type: ignore[attr-defined]
from test_desktop_program import QUESTION, copied, ended

import cf_local

pytest.importorskip("PyInstaller", reason="PyInstaller is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.model]

NAME = "cf-local-desktop"
MAX_MEGABYTES = 200
"""With torch or another stray library it would have a multiple of that."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the program, moved away from where it was built."""
    folder = tmp_path_factory.mktemp("bundle")
    subprocess.run(
        [
            *(sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level=WARN"),
            *("--distpath", folder / "dist", "--workpath", folder / "work"),
            EXAMPLE / "desktop.spec",
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *_python_path()])},
        cwd=folder,
        timeout=1200,
        check=True,
    )
    return shutil.move(folder / "dist" / NAME, folder / "moved here")


def _python_path() -> list[str]:
    return [path for path in [os.environ.get("PYTHONPATH")] if path]


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment that has nothing in it but an empty home; proxies lead nowhere."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    return {"HOME": str(tmp_path), "PATH": "", **nowhere}


def without_network(command: list[str]) -> list[str]:
    """``command`` in a network namespace with no way out, where this user may make one."""
    unshare = shutil.which("unshare")
    for options in (["-n"], ["-r", "-n"]):
        if unshare and subprocess.run([unshare, *options, "true"], check=False).returncode == 0:
            return [unshare, *options, *command]
    return command  # then the proxies must do


@pytest.fixture(scope="module")
def wanted() -> str:
    with cf_local.load() as fusion:
        return fusion.answer(cf_local.chat(QUESTION)).text


def run(bundle: Path, bare: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        without_network([str(bundle / NAME), *arguments]),
        env=bare,
        cwd=bare["HOME"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_it_answers_without_python_and_without_a_network(
    bundle: Path, bare: dict[str, str], wanted: str
) -> None:
    assert run(bundle, bare, "--ask", QUESTION) == (0, wanted + "\n", "")


def test_it_knows_its_version_and_takes_any_text(bundle: Path, bare: dict[str, str]) -> None:
    assert run(bundle, bare, "--version") == (0, f"cf-local {cf_local.__version__}\n", "")
    status, stdout, stderr = run(bundle, bare, "--ask", "Wie viele Äpfel? 蘋果 🍎")
    assert (status, stderr) == (0, "")
    assert stdout.strip()


def test_a_model_of_the_hub_is_missed_in_plain_words(bundle: Path, bare: dict[str, str]) -> None:
    offline = bare | {"HF_HUB_OFFLINE": "1"}
    status, stdout, stderr = run(bundle, offline, "--fusion", "laptop", "--ask", "Hello")
    assert (status, stdout) == (3, "")
    assert stderr.startswith("Error: ")
    assert "not on this machine" in stderr


def test_its_window_answers(
    bundle: Path, bare: dict[str, str], wanted: str, screen: Screen
) -> None:
    program = subprocess.Popen(
        [bundle / NAME],  # with the network, which the screen's socket needs in some systems
        env=bare | {"DISPLAY": screen.display},
        cwd=bare["HOME"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        screen.focus_program(program)
        screen.type(QUESTION)
        end, seen = time.monotonic() + 60, ""
        while seen != wanted and time.monotonic() < end:
            screen.press("Return")
            seen = copied(screen, wanted, timeout_s=2)
        assert seen == wanted
        screen.press("ctrl+q")
        assert ended(program) == (0, "", "")
    finally:
        program.kill()


def test_it_holds_the_licences_and_nothing_that_it_needs_not(bundle: Path) -> None:
    files = [path for path in bundle.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < MAX_MEGABYTES * 1_000_000
    licences = {path.parents[1].name.split("-")[0] for path in bundle.rglob("licenses/LICENSE*")}
    assert {"cf_local", "llama_cpp_python"} <= licences
    assert not [path for path in files if path.name.startswith(("hook-", "test_"))]
