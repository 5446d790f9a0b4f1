"""What `cf_local` promises to export is there, and no submodule hides it."""

import importlib
import pkgutil
from types import ModuleType

import cf_local


def test_every_public_name_is_there() -> None:
    assert all(hasattr(cf_local, name) for name in cf_local.__all__)


def test_no_module_takes_the_place_of_a_public_name() -> None:
    """Importing `cf_local.chat` would set `cf_local.chat`, were there such a module."""
    for module in pkgutil.iter_modules(cf_local.__path__):
        if module.name not in ("__main__", "cli"):
            importlib.import_module(f"cf_local.{module.name}")
    hidden = [n for n in cf_local.__all__ if isinstance(getattr(cf_local, n), ModuleType)]
    assert hidden == []
