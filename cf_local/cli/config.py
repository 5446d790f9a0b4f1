"""``cf-local config``: shows which settings apply and where they come from, and checks files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from cf_local.cli import columns, completing
from cf_local.cli.options import chosen_models, fusion_options, is_flag_given, model_options
from cf_local.cli.provenance import UNSET, SettingRow, given_options, settings
from cf_local.errors import ConfigError
from cf_local.registry import registry as registry_module
from cf_local.registry.registry import Registry


@click.group()
def config() -> None:
    """Show and check configuration: files, variables, flags.

    A flag overrides an environment variable, which overrides ./models.toml of a project, which
    overrides your own file, which overrides the built-in values.
    """


@config.command()
@click.argument(
    "fusion_name", metavar="[FUSION]", required=False, shell_complete=completing.fusions
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@fusion_options
@model_options
@click.pass_context
def show(context: click.Context, /, fusion_name: str | None, as_json: bool, **options: Any) -> None:
    """Show each setting of FUSION (or the default) and of its sources, and where it comes from.

    Takes the options of `ask`, to show what a command line would use. Loads no model.

    \b
    cf-local config show
    cf-local config show laptop --context 8192 --mode rerank
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    registry = registry_module.load_registry()
    fusion, models = chosen_models(options)
    if fusion_name is not None:
        if is_flag_given(context, "fusion") or is_flag_given(context, "models"):
            raise click.UsageError("Name a fusion once, or name models instead.")
        fusion, models = fusion_name, ()
    if fusion is not None and models:
        raise click.UsageError("Name a fusion or models, not both.")
    given = given_options(context)
    if fusion_name is not None:
        given["fusion"] = None
    rows = list(settings(registry, given, fusion, models))
    if as_json:
        record = {"files": registry.files, "settings": [asdict(row) for row in rows]}
        click.echo(json.dumps(record, ensure_ascii=False, indent=2))
    else:
        click.echo(_table(rows))


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def path(as_json: bool) -> None:
    """Print the path of your own models.toml, whether or not it exists yet."""
    own = registry_module.user_file()
    if as_json:
        click.echo(json.dumps({"path": str(own), "exists": own.exists()}, ensure_ascii=False))
    else:
        click.echo(str(own))


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(file: Path | None, as_json: bool) -> None:
    """Check FILE, or all configuration files, and show where the first mistake is.

    FILE is read on top of the built-in file and your own. Exit code 2 means there is a mistake.
    """
    try:
        registry = registry_module.check_file(file) if file else registry_module.load_registry()
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "error": str(error)}, ensure_ascii=False))
        raise
    if as_json:
        click.echo(json.dumps({"ok": True, **_counts(registry)}, ensure_ascii=False))
        return
    counts = _counts(registry)
    click.echo(
        f"{counts['n_sources']} sources and {counts['n_fusions']} fusions in "
        f"{', '.join(registry.files)}: no mistake found."
    )


def _counts(registry: Registry) -> dict[str, Any]:
    return {
        "files": registry.files,
        "n_sources": len(registry.sources),
        "n_fusions": len(registry.fusions),
        "default_fusion": registry.default_fusion,
    }


def _table(rows: Sequence[SettingRow]) -> str:
    """The rows in columns, with a heading for each section."""
    blocks = []
    for section, group in groupby(rows, key=lambda row: row.section):
        # leave out keys without a value that have no default either
        shown = [row for row in group if row.value not in (None, ()) or row.key in UNSET]
        cells = [(row.key, _text(row), row.origin) for row in shown]
        blocks.append("\n  ".join([section, *columns.lines(cells)]))
    return "\n\n".join(blocks)


def _text(row: SettingRow) -> str:
    """A value on one short line, or what applies when there is none."""
    if row.value is None or row.value == ():
        return UNSET[row.key]
    if isinstance(row.value, bool):
        return "yes" if row.value else "no"
    if isinstance(row.value, (list, tuple)):
        return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in row.value)
    text = f"{row.value:g}" if isinstance(row.value, float) else str(row.value)
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:60]}... ({len(text)} characters)"
