"""The real command in a process of its own, in an empty folder, without a user configuration."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "setup-hint-shown").touch()  # the hint at `setup` has tests of its own
    ours = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "APPDATA": str(home)}
    ours |= {"CF_LOCAL_DATA": str(home / "data"), "CF_LOCAL_CACHE": str(home / "cache")}
    dropped = ("NO_COLOR", "HF_HOME", "HF_HUB_CACHE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CF_LOCAL_")}
    return {k: v for k, v in kept.items() if k not in dropped} | ours


@pytest.fixture
def work_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def run(environment: dict[str, str], work_folder: Path) -> Run:
    def run_cf_local(
        *arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "cf_local", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=work_folder,
            env=environment | (env or {}),
            timeout=600,
            check=False,
        )

    return run_cf_local
