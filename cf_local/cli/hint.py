"""The hint at ``cf-local setup``, once, when only the built-in models are there to answer."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click

from cf_local.files import cache_root
from cf_local.registry.registry import BUILTIN_PREFIX, load_registry

TEXT = "These are the built-in demonstration models. `cf-local setup` finds real ones."
_SHOWN = "setup-hint-shown"


def hint_at_setup(options: Mapping[str, Any]) -> None:
    """Print the hint on a terminal, the first time that nobody chose the built-in models.

    ``options`` are the values of ``name_options``.
    """
    if options.get("fusion") or options.get("models") or not sys.stderr.isatty():
        return
    registry = load_registry()
    default = registry.fusion()
    if not all(registry.source(name).file.startswith(BUILTIN_PREFIX) for name in default.sources):
        return
    with suppress(OSError):  # where nothing can be written, it is not worth a line each time
        cache_root().mkdir(mode=0o700, parents=True, exist_ok=True)
        (cache_root() / _SHOWN).touch(mode=0o600, exist_ok=False)
        click.echo(f"Note: {TEXT}", err=True)
