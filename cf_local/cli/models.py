"""``cf-local models``: adds to the user's own models.toml, and chooses the default."""

import json
from pathlib import Path
from typing import Any

import click

from cf_local.cli import completing
from cf_local.cli.adding import add_files
from cf_local.cli.options import Command, check_weights, setting_options
from cf_local.cli.text_input import absolute, read_text
from cf_local.registry.edit import (
    Kind,
    RegistryEntry,
    check_free,
    write_default,
    write_entry,
)
from cf_local.registry.registry import SOURCE_KEYS

_HELP = {
    "context": "Tokens of prompt and answer together.",
    "description": "Shown by `list`.",
    "device": "Where to compute: auto, cpu or gpu.",
    "file": "The file's name in the repository.",
    "gpu_layers": "Layers to put on a GPU; -1 for all.",
    "kv_type": "Type of the KV cache: f16 or q8_0.",
    "kind": "`text`, or `embedding` for a model that turns texts into vectors.",
    "licence": "Shown by `list`.",
    "pooling": "For an embedding model whose file does not say it: mean, cls or last.",
    "quant": "Quantization to choose in the repository, such as Q4_K_M.",
    "repo": "Repository of the Hugging Face hub: owner/name.",
    "revision": "Branch, tag or commit of the repository; main unless given.",
    "size_bytes": "Size of the file, shown by `list` before the download.",
    "template": "File with a Jinja chat template that replaces the model's own.",
    "threads": "CPU threads; measured at load unless given.",
    "where": "Where it is loaded: here, or on a node of a Ray cluster (ray).",
}
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_force_option = click.option(
    "--force", is_flag=True, help="Override an existing entry of that name."
)


@click.group()
def models() -> None:
    """Add to your models.toml, and choose the default fusion.

    `cf-local list --all` shows what it defines, `cf-local rm` removes an entry.
    """


def _source_options(command: Command) -> Command:
    """Add an option for each key that a source can have in models.toml."""
    for key in reversed([key for key, kind in SOURCE_KEYS.items() if kind is not dict]):
        flag = f"--{key.replace('_', '-')}"
        text = _HELP.get(key, f"The key `{key}`; see docs/models.md.")
        command = click.option(flag, key, type=SOURCE_KEYS[key], help=text)(command)
    return command


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="FILE...|NAME")
@click.option("--path", type=click.Path(path_type=Path), help="A .gguf file on this machine.")
@_source_options
@_force_option
@_json_option
def add(
    names: tuple[str, ...], path: Path | None, force: bool, as_json: bool, **given: Any
) -> None:
    """Add sources to your models.toml: files on this machine, or a file on the hub.

    Files are named after themselves; with NAME, one file or repository has that name. Files that
    models.toml already has, and those that are not language models, are left out with a note.
    Downloads nothing. Comments and other entries in models.toml stay.

    \b
    cf-local models add ~/models/*.gguf
    cf-local models add mistral ~/models/mistral-7b-q4.gguf --context 8192
    cf-local models add qwen-7b --repo Qwen/Qwen2.5-7B-Instruct-GGUF --file qwen2.5-7b-instruct-q3_k_m.gguf
    """  # noqa: D301, E501  # click does not rewrap the lines after a backspace
    values = {key: value for key, value in given.items() if value is not None}
    if path is None and "repo" not in values:
        if {"file", "quant", "revision"} & values.keys():
            raise click.UsageError("--file, --quant and --revision need --repo OWNER/NAME.")
        if len(names) == 2 and not _is_path(names[0]) and _is_path(names[1]):
            path, names = Path(names[-1]), names[:1]
        elif not all(map(_is_path, names)):
            raise click.UsageError(
                "Name .gguf files, or say where the model is: --repo OWNER/NAME or --path FILE."
            )
    if "template" in values:
        values["template"] = read_text(values["template"])
    if path is None and "repo" not in values:
        add_files([Path(name) for name in names], values, as_json=as_json)
        return
    if len(names) != 1:
        raise click.UsageError("Give one NAME with --path or --repo.")
    if path is not None:
        if {"file", "repo"} & values.keys():
            raise click.UsageError("Give either --path, or --repo and --file.")
        values = {"file": str(_checked(path)), **values}
    _write("sources", names[0], values, force=force, as_json=as_json)


def _is_path(text: str) -> bool:
    """Whether a text on the command line is meant as a file, not as a name for one."""
    is_written_as_path = any(sep in text for sep in "/\\") or text.startswith((".", "~"))
    return is_written_as_path or text.lower().endswith(".gguf") or Path(text).is_file()


@models.command("add-fusion")
@click.argument("name")
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="SOURCE...",
    shell_complete=completing.sources,
)
@setting_options
@click.option("--description", help="Shown by `list`.")
@click.option("--default", "is_default", is_flag=True, help="Also make it the default fusion.")
@_force_option
@_json_option
def add_fusion(
    name: str,
    sources: tuple[str, ...],
    is_default: bool,
    force: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Add fusion NAME to your models.toml, made of sources that models.toml defines.

    \b
    cf-local models add-fusion mine mistral qwen-7b --weight qwen-7b=0.5 --default
    cf-local ask "..."
    """  # noqa: D301  # as above
    values: dict[str, Any] = {"sources": sources}
    values |= {key: value for key, value in given.items() if value not in (None, ())}
    check_weights(values.get("weights"), sources)
    _write("fusions", name, values, force=force, as_json=as_json)
    if is_default:
        path = write_default(name)
        if not as_json:
            click.echo(f"{name} is now the default ({path}).")


@models.command()
@click.argument("name", shell_complete=completing.fusions)
@_json_option
def default(name: str, as_json: bool) -> None:
    """Make NAME the default fusion, used when no other is named."""
    path = write_default(name)
    if as_json:
        click.echo(json.dumps({"default": name, "written_to": str(path)}))
    else:
        click.echo(f"{name} is now the default ({path}).")


def _write(kind: Kind, name: str, values: dict[str, Any], *, force: bool, as_json: bool) -> None:
    check_free(kind, name, force=force)
    path = write_entry(RegistryEntry(name, values, (), kind=kind))
    if as_json:
        record = {"added": name, "kind": kind, "values": values, "written_to": str(path)}
        click.echo(json.dumps(record, ensure_ascii=False))
        return
    usage = f"cf-local ask {'--fusion' if kind == 'fusions' else '--model'} {name}"
    if values.get("kind") == "embedding":
        usage = f'cf_local.load_embedder("{name}"), or /v1/embeddings of cf-local serve'
    click.echo(f"Added to {path}: {usage}")


def _checked(path: Path) -> Path:
    """The absolute path of a file that exists and starts like a model."""
    path = absolute(path)
    from cf_local.llama.header import check_file  # here: it loads the native library

    check_file(path)
    return path
