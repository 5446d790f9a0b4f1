"""``cf-local rm``: removes models from the cache, after asking."""

import json
import sys
from typing import Any

import click

from cf_local import hub
from cf_local.cli import completing
from cf_local.cli.columns import size
from cf_local.errors import InputError
from cf_local.registry.model_names import ORIGIN, hub_spec_of
from cf_local.registry.registry import Registry, load_registry


@click.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="MODEL...", shell_complete=completing.names
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit; main unless given.")
@click.option("--all-revisions", is_flag=True, help="Remove from all revisions that are here.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model.")
def rm(
    names: tuple[str, ...], revision: str | None, all_revisions: bool, yes: bool, as_json: bool
) -> None:
    """Remove downloaded models and their unfinished downloads from the cache.

    MODEL is a source of models.toml, org/repo:QUANT, or org/repo for all GGUF files of a
    repository. Other files of the repository stay, and so does content that another revision uses.
    """
    if revision and all_revisions:
        raise InputError("Give --revision or --all-revisions, not both.")
    registry = load_registry()
    removals = [_plan(registry, name, revision, all_revisions) for name in names]
    for removal in removals:
        _show(removal)
    if not yes and not _agreed():
        click.echo("Nothing was removed.", err=True)
        click.get_current_context().exit(1)
    for name, removal in zip(names, removals, strict=True):
        hub.remove(removal)
        if as_json:
            click.echo(json.dumps(_record(name, removal), ensure_ascii=False))
        else:
            click.echo(f"{name}: removed, {size(removal.freed_bytes)} freed")


def _plan(registry: Registry, name: str, revision: str | None, every: bool) -> hub.Removal:
    spec = hub_spec_of(registry, name)
    assert spec.repo is not None
    # A source of models.toml is one model; a repository on the command line means all its models.
    quant = spec.quant or (None if spec.file or spec.origin == ORIGIN else "latest")
    return hub.plan_removal(
        spec.repo,
        file=spec.file,
        quant=quant,
        revision=revision or spec.revision,
        all_revisions=every,
    )


def _show(removal: hub.Removal) -> None:
    """Print to stderr what would be removed, and what would stay."""
    for commit, file in removal.files:
        click.echo(f"{removal.repo}/{file} of revision {commit[:12]}", err=True)
    for part in removal.parts:
        what = part.file or part.path.name
        click.echo(f"{removal.repo}/{what}, unfinished, {size(part.n_bytes)}", err=True)
    if removal.kept_by:
        commits = ", ".join(commit[:12] for commit in removal.kept_by)
        click.echo(
            f"Note: the content stays, as revision {commits} also uses it "
            "(--all-revisions removes it there, too).",
            err=True,
        )


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("rm asks before it removes anything. Use --yes where nobody can answer.")
    return click.confirm("Remove?", err=True)


def _record(name: str, removal: hub.Removal) -> dict[str, Any]:
    return {
        "name": name,
        "repo": removal.repo,
        "files": [{"revision": commit, "file": file} for commit, file in removal.files],
        "unfinished": [str(part.path) for part in removal.parts],
        "freed_bytes": removal.freed_bytes,
        "kept_by": removal.kept_by,
    }
