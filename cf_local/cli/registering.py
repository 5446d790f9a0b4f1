"""``cf-local models add``, ``add-fusion``, ``default`` and ``remove``: the user's models.toml."""

import json
from pathlib import Path
from typing import Any

import click

from cf_local.cli.options import Command, setting_options, weights_of
from cf_local.cli.prompt import read_text
from cf_local.errors import InputError
from cf_local.llama.header import check_file
from cf_local.registry.edit import (
    Kind,
    RegistryEntry,
    check_free,
    remove_entry,
    write_default,
    write_entry,
)
from cf_local.registry.registry import SOURCE_KEYS

_HELP = {
    "context": "Tokens of prompt and answer together.",
    "description": "Shown by `models`.",
    "file": "The file's name in the repository.",
    "gpu_layers": "Layers to put on a GPU; -1 for all.",
    "licence": "Shown by `models`.",
    "quant": "Quantization to choose in the repository, such as Q4_K_M.",
    "repo": "Repository of the Hugging Face hub: owner/name.",
    "revision": "Branch, tag or commit of the repository; main unless given.",
    "size_bytes": "Size of the file, shown by `models` before it is downloaded.",
    "template": "File with a Jinja chat template, in place of the model's own.",
    "threads": "CPU threads; measured at load unless given.",
}
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_force_option = click.option("--force", is_flag=True, help="Overrule an entry of that name.")


def _source_options(command: Command) -> Command:
    """An option for each key of a source that models.toml knows."""
    for key in reversed(list(SOURCE_KEYS)):
        flag = f"--{key.replace('_', '-')}"
        text = _HELP.get(key, f"The key `{key}`; see docs/models.md.")
        command = click.option(flag, key, type=SOURCE_KEYS[key], help=text)(command)
    return command


@click.command()
@click.argument("name")
@click.option("--path", type=click.Path(path_type=Path), help="A .gguf file of this machine.")
@_source_options
@_force_option
@_json_option
def add(name: str, path: Path | None, force: bool, as_json: bool, **given: Any) -> None:
    """Add source NAME to your models.toml: a file of the hub, or of this machine.

    Nothing is downloaded. Comments and all else in the file stay.

    \b
    cf-local models add mistral --path ~/models/mistral-7b-q4.gguf --context 8192
    cf-local models add qwen-7b --repo Qwen/Qwen2.5-7B-Instruct-GGUF --file qwen2.5-7b-instruct-q3_k_m.gguf
    """  # noqa: D301, E501  # click keeps the lines behind a backspace as they are
    values = {key: value for key, value in given.items() if value is not None}
    if path is not None:
        if {"file", "repo"} & values.keys():
            raise click.UsageError("Give --path, or --repo and --file, not both.")
        values = {"file": str(_checked(path)), **values}
    elif "repo" not in values:
        raise click.UsageError("Say where the model is: --repo OWNER/NAME, or --path FILE.")
    if "template" in values:
        values["template"] = read_text(values["template"])
    _write("sources", name, values, force=force, as_json=as_json)


@click.command("add-fusion")
@click.argument("name")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@setting_options
@click.option("--description", help="Shown by `models`.")
@_force_option
@_json_option
def add_fusion(
    name: str,
    sources: tuple[str, ...],
    force: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Add fusion NAME of sources of models.toml to yours.

    \b
    cf-local models add-fusion mine mistral qwen-7b --weight qwen-7b=0.5
    cf-local ask --fusion mine "..."
    """  # noqa: D301  # as above
    values: dict[str, Any] = {"sources": sources}
    values |= {key: value for key, value in given.items() if value not in (None, ())}
    if "weights" in values:
        values["weights"] = weights_of(values["weights"], sources)
    _write("fusions", name, values, force=force, as_json=as_json)


@click.command()
@click.argument("name")
@_json_option
def default(name: str, as_json: bool) -> None:
    """Make NAME the fusion that is used when none is named."""
    path = write_default(name)
    if as_json:
        click.echo(json.dumps({"default": name, "written_to": str(path)}))
    else:
        click.echo(f"{name} is the default now ({path}).")


@click.command()
@click.argument("name")
@click.option("--source", "kind", flag_value="sources", help="Where a fusion has the name, too.")
@click.option("--fusion", "kind", flag_value="fusions", help="Where a source has the name, too.")
@_json_option
def remove(name: str, kind: Kind | None, as_json: bool) -> None:
    """Take source or fusion NAME out of your models.toml. Model files stay where they are."""
    path, found = remove_entry(name, kind)
    if as_json:
        click.echo(json.dumps({"removed": name, "kind": found, "written_to": str(path)}))
    else:
        click.echo(f"Removed the {found.removesuffix('s')} {name} from {path}.")


def _write(kind: Kind, name: str, values: dict[str, Any], *, force: bool, as_json: bool) -> None:
    check_free(kind, name, force=force)
    path = write_entry(RegistryEntry(name, values, (), kind=kind))
    if as_json:
        record = {"added": name, "kind": kind, "values": values, "written_to": str(path)}
        click.echo(json.dumps(record, ensure_ascii=False))
        return
    usage = f"--fusion {name}" if kind == "fusions" else f"--model {name}"
    click.echo(f"Added to {path}: cf-local ask {usage}")


def _checked(path: Path) -> Path:
    """The absolute path of a file that is there and begins as a model does."""
    try:
        path = path.expanduser().absolute()  # a link stays one: the hub's cache has them
    except RuntimeError as error:  # of a user who is not there
        raise InputError(f"{path}: {error}") from None
    check_file(path)
    return path
