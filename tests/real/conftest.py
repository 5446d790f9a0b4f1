"""Real models, loaded once for all tests; without them the tests are skipped, in CI they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cf_local
from cf_local.runtime.fusion import Fusion

from . import models

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SUFFIX = ".exe" if os.name == "nt" else ""
COMMAND = shutil.which(Path(sys.executable).with_name(f"cf-local{SUFFIX}"))
# Threads that wait for each other are a hundred times slower beside other work on the machine;
# sources with one core each, at the same time, are not.
ONE_CORE = {"n_threads": 1, "overlap": True}
TIMEOUT_S = 300.0  # beside other work, a start alone may take half a minute


@pytest.fixture(autouse=True, scope="session")
def _need_models() -> None:
    if not models.missing():
        return
    reason = (
        f"{', '.join(models.missing())} not in {models.FOLDER}: run `python scripts/dev.py models`"
    )
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def notices() -> list[str]:
    """What was told while the models of ``set_a`` were loaded."""
    return []


@pytest.fixture(scope="session")
def set_a(_need_models: None, notices: list[str]) -> Iterator[Fusion]:
    """SmolLM2, Gemma and Qwen 0.5B, for two conversations at once; see ONE_CORE."""
    paths = [models.path_of(name) for name in models.SET_A]
    options = cf_local.LoadOptions(n_ctx=2048, n_conversations=2, **ONE_CORE)
    with cf_local.load(models=paths, options=options, on_notice=notices.append) as fusion:
        yield fusion


@pytest.fixture(scope="session")
def pair(set_a: Fusion) -> Fusion:
    """SmolLM2 and Qwen 0.5B of the same load."""
    return set_a.of(models.PAIR, cf_local.Settings())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    """The environment without the user's own settings, caches and chats."""
    ours = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "APPDATA": str(home)}
    ours |= {"CF_LOCAL_DATA": str(home / "data"), "CF_LOCAL_CACHE": str(home / "cache")}
    dropped = ("NO_COLOR", "HF_HOME", "HF_HUB_CACHE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CF_LOCAL_")}
    return {k: v for k, v in kept.items() if k not in dropped} | ours


@pytest.fixture(scope="module")
def work_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The installed command; the module where these tests run without an installation."""
    return [COMMAND] if COMMAND else [sys.executable, "-m", "cf_local"]


@pytest.fixture(scope="module")
def run(command: list[str], environment: dict[str, str], work_folder: Path) -> Run:
    def run_cf_local(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=work_folder,
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run_cf_local
