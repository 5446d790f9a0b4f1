"""One server over the built-in models for all tests that change nothing in it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from serving import Served

if not (find_spec("fastapi") and find_spec("uvicorn")):  # the extra cf-local[server]
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    from serving import serving

    with serving() as server:
        yield server
