"""``cf-local pull``: downloads models before they are needed."""

import json
from dataclasses import replace
from typing import Any

import click

from cf_local import hub
from cf_local.cli import completing
from cf_local.cli.columns import size
from cf_local.cli.fetching import Here, Outcome, fetch
from cf_local.errors import Cancelled, CfLocalError, InputError, MissingModelError
from cf_local.registry.model_names import ORIGIN, specs_of
from cf_local.registry.registry import SourceSpec, load_registry


@click.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="MODEL...", shell_complete=completing.names
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit of each org/repo.")
@click.option(
    "--update", is_flag=True, help="Ask the hub for newer versions of files that are here."
)
@click.option("--offline", is_flag=True, help="Send nothing; only show what is here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
def pull(
    names: tuple[str, ...], revision: str | None, update: bool, offline: bool, as_json: bool
) -> None:
    """Download models into the Hugging Face hub's cache.

    MODEL is a source or fusion of models.toml, org/repo or org/repo:QUANT on the hub (Q4_K_M by
    default), org/repo:FILE.gguf, or the path of a file. Files that are already in the cache are
    used, whichever program downloaded them. Run the same command again to continue an interrupted
    download. A file appears in the cache only after a check of its size and SHA-256.

    \b
    cf-local pull laptop-small
    cf-local pull Qwen/Qwen2.5-1.5B-Instruct-GGUF:Q5_K_M
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    if update and offline:
        raise InputError("--update asks the hub; leave out --offline.")
    registry = load_registry()
    specs = [spec for name in names for spec in specs_of(registry, name)]
    try:
        outcomes = fetch(_revised(specs, revision), offline=offline, update=update)
    except KeyboardInterrupt:
        raise Cancelled(
            "Interrupted; what has arrived is saved. Run the same command to continue."
        ) from None
    errors = []
    for spec, outcome in outcomes:
        if isinstance(outcome, CfLocalError):
            errors.append(outcome)
        if as_json:
            click.echo(json.dumps(_record(spec, outcome), ensure_ascii=False))
        elif not isinstance(outcome, CfLocalError):
            click.echo(_line(spec, outcome))
    if errors:
        raise MissingModelError(" ".join(str(error) for error in errors))


def _revised(specs: list[SourceSpec], revision: str | None) -> list[SourceSpec]:
    """Each source once, with the user's revision for those that are not in models.toml."""
    different = {(s.repo, s.file, s.quant, s.revision): s for s in specs}.values()
    if revision is None:
        return list(different)
    if any(spec.repo is None or spec.origin != ORIGIN for spec in different):
        raise InputError(
            "--revision works only with org/repo. models.toml sets the revisions of its sources."
        )
    return [replace(spec, revision=revision) for spec in different]


def _line(spec: SourceSpec, outcome: Here | hub.Fetched) -> str:
    if isinstance(outcome, Here):
        return f"{spec.name}: {outcome.path} (already here)"
    how = f"downloaded, {size(outcome.remote.size_bytes)}"
    if outcome.status == "linked":
        how = "its content was already here"
    return f"{spec.name}: {outcome.path} ({how})"


def _record(spec: SourceSpec, outcome: Outcome) -> dict[str, Any]:
    """A file as plain data, with null for what is not known."""
    known: dict[str, Any] = {"name": spec.name, "repo": spec.repo, "file": spec.file or None}
    known |= {"revision": spec.revision, "commit": None, "path": None, "size_bytes": None}
    known |= {"sha256": None, "status": "failed", "received_bytes": 0, "elapsed_s": 0.0}
    if isinstance(outcome, CfLocalError):
        return known | {"error": str(outcome)}
    if isinstance(outcome, Here):
        if spec.repo is not None:
            known["commit"], known["file"] = hub.place_of(spec.repo, outcome.path)
        return known | {
            "path": str(outcome.path),
            "size_bytes": outcome.path.stat().st_size,
            "sha256": hub.sha256(outcome.path),
            "status": "cached" if spec.repo else "local",
        }
    remote = outcome.remote
    return known | {
        "file": remote.file,
        "commit": remote.commit,
        "path": str(outcome.path),
        "size_bytes": remote.size_bytes,
        "sha256": remote.sha256,
        "status": outcome.status,
        "received_bytes": outcome.n_received,
        "elapsed_s": round(outcome.elapsed_s, 3),
    }
