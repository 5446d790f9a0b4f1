"""Fixtures for tests that need a screen, or models that never come to an end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from desk import Desk, Screen


@pytest.fixture(scope="session")
def screen() -> Iterator[Screen]:
    for tool in ("Xvfb", "xdotool"):
        if shutil.which(tool) is None:
            pytest.skip(f"no virtual screen: {tool} is not installed")
    from desk import Screen

    process = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    number = process.stdout.readline().strip()  # a free one, told when the screen is ready
    assert number, "Xvfb did not start"
    yield Screen(f":{number}")
    process.terminate()
    process.wait(timeout=30)


_EVER_OPENED: list[Desk] = []
"""Kept to the end: were Tk's objects collected in another thread, Tcl would end the process."""


@pytest.fixture
def new_desk(screen: Screen) -> Iterator[Callable[..., Desk]]:
    from desk import Desk

    n_before = len(_EVER_OPENED)

    def open_one(temperature: float = 0.0) -> Desk:
        _EVER_OPENED.append(Desk(screen, temperature))
        return _EVER_OPENED[-1]

    yield open_one
    for desk in _EVER_OPENED[n_before:]:
        if desk.worker.is_alive:
            desk.close()


@pytest.fixture(scope="session")
def endless_models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two models that never end an answer and never agree."""
    tiny = pytest.importorskip("tiny_models", reason="tiny models need the gguf package")
    folder = tmp_path_factory.mktemp("endless")
    paths = [folder / f"endless-{seed}.gguf" for seed in (1, 2)]
    for seed, path in enumerate(paths, 1):
        tiny.make_model(path, "llama", tiny.bpe_vocab(), seed=seed, eog_bias=-60)
    return [str(path) for path in paths]
