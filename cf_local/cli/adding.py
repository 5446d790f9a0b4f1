"""``cf-local models add FILE...``: several files at once, named after themselves."""

import json
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cf_local import files
from cf_local.cli import columns
from cf_local.cli.text_input import absolute
from cf_local.errors import CfLocalError
from cf_local.registry.discovery import FoundFile
from cf_local.registry.edit import RegistryEntry, write_entry
from cf_local.registry.registry import load_registry, user_file

if TYPE_CHECKING:
    from cf_local.loading.candidates import Candidate


def add_files(paths: Sequence[Path], values: Mapping[str, Any], *, as_json: bool) -> None:
    """Add a source for each file that can be one; ``values`` are further keys of each.

    A file that models.toml has already keeps its name, whatever ``values`` are. Raises the first
    error of a file that is missing or broken, once the others are added.
    """
    # Imported here: it loads the native library, which `--help` need not wait for.
    from cf_local.llama.inspection import inspect_all
    from cf_local.loading.candidates import EMBEDDING, sort_out

    found = _found(paths)
    cards = inspect_all([each.path for each in found])
    errors = [card for card in cards if isinstance(card, CfLocalError)]
    are_sound = [not isinstance(card, CfLocalError) for card in cards]
    sound, sound_cards = list(compress(found, are_sound)), list(compress(cards, are_sound))
    candidates, refused = sort_out(sound, sound_cards, load_registry())
    new = [one for one in candidates if one.is_new]
    for one in new:
        write_entry(RegistryEntry(one.name, _values(one, values), (), kind="sources"))
    for each in refused:
        if as_json:
            click.echo(json.dumps({"skipped": str(each.found.path), "reason": each.reason}))
        else:
            how = "; add it with NAME FILE --kind embedding" if each.reason == EMBEDDING else ""
            click.echo(f"Note: {each.found.path} is left out: {each.reason}{how}.", err=True)
    _report(candidates, values, as_json=as_json)
    if errors:
        texts = " ".join(str(error) for error in errors)
        raise type(errors[0])(texts)


def _found(paths: Sequence[Path]) -> list[FoundFile]:
    """Each file once; of a split model only the first part, whichever are named."""
    once: dict[Path, FoundFile] = {}
    for path in paths:
        path = absolute(path)
        path = path.with_name(files.parts(path.name)[0])
        once.setdefault(path, FoundFile(path, "file", path.name))
    return list(once.values())


def _values(one: "Candidate", values: Mapping[str, Any]) -> dict[str, Any]:
    return {"file": str(one.found.path), **values}


def _report(candidates: "Sequence[Candidate]", values: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what was added, and what was there."""
    path, new = user_file(), [one for one in candidates if one.is_new]
    if as_json:
        for one in candidates:
            record = {"added": one.name, "kind": "sources", "values": _values(one, values)}
            if not one.is_new:
                record = {"already": one.name, "path": str(one.found.path)}
            click.echo(json.dumps(record | {"written_to": str(path)}, ensure_ascii=False))
        return
    for one in candidates:
        if not one.is_new:
            click.echo(f"{one.found.path} is already there as {one.name}; nothing was changed.")
    if not new:
        return
    click.echo(f"Added to {path}:")
    for line in columns.lines([(one.name, str(one.found.path)) for one in new]):
        click.echo(f"  {line}")
    names = " ".join(one.name for one in candidates)
    if len(candidates) > 1:
        click.echo(f"Fuse them: cf-local models add-fusion mine {names} --default")
    else:
        click.echo(f"Ask it: cf-local ask --model {names}")
