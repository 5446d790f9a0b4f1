"""``cf-local rm``: removes downloads and entries of models.toml, after asking."""

import json
import sys
from dataclasses import dataclass
from typing import Any

import click

from cf_local import hub
from cf_local.cli import completing
from cf_local.cli.columns import size
from cf_local.errors import InputError
from cf_local.registry.edit import Kind, remove_entry
from cf_local.registry.model_names import ORIGIN, hub_spec_of
from cf_local.registry.registry import BUILTIN_PREFIX, Registry, load_registry, user_file


@click.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="MODEL...", shell_complete=completing.names
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit; main unless given.")
@click.option("--all-revisions", is_flag=True, help="Remove from all revisions that are here.")
@click.option("--entry", is_flag=True, help="Remove the entry of models.toml, not the download.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model.")
def rm(
    names: tuple[str, ...],
    revision: str | None,
    all_revisions: bool,
    entry: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove a download, or an entry of your models.toml.

    For a source on the hub, org/repo:QUANT, or org/repo (all GGUF files of a repository), it
    removes the download, finished or not. Other files of the repository stay, and so does
    content that another revision uses. For a fusion of yours, a source that is a file of yours,
    or with --entry, it removes the entry in your models.toml; the file stays.
    """
    if revision and all_revisions:
        raise InputError("Give --revision or --all-revisions, not both.")
    registry = load_registry()
    removals: list[hub.Removal | _Entry] = [
        _Entry(name, kind)
        if (kind := _kind_of_entry(registry, name, entry=entry))
        else _plan(registry, name, revision, all_revisions)
        for name in names
    ]
    for removal in removals:
        _show(removal)
    if not yes and not _agreed():
        click.echo("Nothing was removed.", err=True)
        click.get_current_context().exit(1)
    for name, removal in zip(names, removals, strict=True):
        _carry_out(registry, name, removal, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the user's models.toml to remove."""

    name: str
    kind: Kind


def _kind_of_entry(registry: Registry, name: str, *, entry: bool) -> Kind | None:
    """The kind of entry to remove; None for a download.

    Raises ConfigError for an entry that is not in the user's file.
    """
    source = registry.sources.get(name)
    if source is None and name not in registry.fusions:
        return None
    kind: Kind = "fusions" if source is None else "sources"
    if str(user_file()) in registry.layers("fusions", name):  # a name means the fusion first
        return "fusions"
    is_builtin = source is not None and source.file.startswith(BUILTIN_PREFIX)
    if source is not None and not entry and (source.repo or is_builtin):
        return None
    if str(user_file()) not in registry.layers(kind, name):
        remove_entry(name, kind)  # raises, and says where it is
    return kind


def _carry_out(
    registry: Registry, name: str, removal: hub.Removal | _Entry, *, as_json: bool
) -> None:
    if isinstance(removal, _Entry):
        path, kind = remove_entry(name, removal.kind)
        if as_json:
            click.echo(json.dumps({"removed": name, "kind": kind, "written_to": str(path)}))
        else:
            click.echo(f"Removed the {kind.removesuffix('s')} {name} from {path}.")
        return
    hub.remove(removal)
    if as_json:
        click.echo(json.dumps(_record(name, removal), ensure_ascii=False))
        return
    click.echo(f"{name}: removed, {size(removal.freed_bytes)} freed")
    if str(user_file()) in registry.layers("sources", name):
        click.echo(f"Its entry in models.toml stays (cf-local rm --entry {name}).")


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


def _show(removal: hub.Removal | _Entry) -> None:
    """Print to stderr what would be removed, and what would stay."""
    if isinstance(removal, _Entry):
        what = removal.kind.removesuffix("s")
        click.echo(f"the {what} {removal.name} in {user_file()}; no model file", err=True)
        return
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
