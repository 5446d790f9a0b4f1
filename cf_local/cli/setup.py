"""``cf-local setup``: from the model files on this machine to a default fusion."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cf_local import hub
from cf_local.cli import columns
from cf_local.cli.fetching import fetch_missing
from cf_local.cli.interrupt import Interrupt
from cf_local.errors import Cancelled, CfLocalError, InputError, MissingModelError
from cf_local.registry.edit import (
    RegistryEntry,
    check_free,
    write_default,
    write_entry,
)
from cf_local.registry.registry import FusionSpec, Registry, load_registry, user_file

if TYPE_CHECKING:
    from cf_local.loading.candidates import Candidate, Refused
    from cf_local.loading.matching import Choice

_MARK = "Proposed by `cf-local setup`."
_NAME = "mine"
_LOOKED_IN = (
    "the caches of the Hugging Face hub, LM Studio, Ollama and llama.cpp, ~/models and this folder"
)


@dataclass(frozen=True, slots=True)
class _Survey:
    """What is on this machine: models that can be fused, and files that cannot."""

    registry: Registry
    candidates: "list[Candidate]"
    refused: "list[Refused]"


@dataclass(frozen=True, slots=True)
class _Proposal:
    """The fusion to make, of files that are here or (``pull``) of a set to download."""

    name: str | None
    choice: "Choice | None" = None
    memory: str = ""
    pull: FusionSpec | None = None
    pull_bytes: int = 0


@click.command()
@click.option(
    "--folder",
    "folders",
    metavar="DIR",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Also look in this folder; repeatable.",
)
@click.option("--name", metavar="NAME", help=f"Name of the fusion [{_NAME}].")
@click.option("-y", "--yes", is_flag=True, help="Do as proposed, without asking.")
@click.option(
    "--pull", "pulls", is_flag=True, help="With --yes: download a set if nothing suits here."
)
@click.option("--json", "as_json", is_flag=True, help="Print the proposal as JSON; do not ask.")
def setup(
    folders: tuple[Path, ...], name: str | None, yes: bool, pulls: bool, as_json: bool
) -> None:
    """Find models on this machine; make a fusion the default.

    Looks for GGUF files in the caches of the Hugging Face hub, LM Studio, Ollama and llama.cpp, in
    ~/models and in the current folder, and reads their headers. Proposes two or three that suit
    each other and fit into memory, or else a set to download, and asks before it writes your
    models.toml. Does not move or copy files. Sends nothing before you agree to a download.

    \b
    cf-local setup
    cf-local setup --folder /data/models --yes
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    with Interrupt() as interrupt:
        survey = _survey(folders, interrupt)
        proposal = _proposal(survey, name, interrupt)
        if not as_json:
            _show(survey, proposal)
        nobody_answers = not (yes or as_json or sys.stdin.isatty())
        if proposal.name is None or (proposal.pull and not pulls and (yes or nobody_answers)):
            if as_json:
                click.echo(json.dumps(_as_json(survey, proposal, None), ensure_ascii=False))
            raise MissingModelError(_nothing(survey, proposal))
        if nobody_answers:
            raise InputError("setup asks before it writes. Use --yes where nobody can answer.")
        with interrupt.raising():
            is_agreed = yes if as_json or yes else _agreed(proposal)
        written = _carry_out(survey, proposal, interrupt) if is_agreed else None
    if as_json:
        click.echo(json.dumps(_as_json(survey, proposal, written), ensure_ascii=False))
    elif written is None:
        click.echo("Nothing was changed.", err=True)
        click.get_current_context().exit(1)
    else:
        click.echo(f"{proposal.name} is now the default ({written}).")
        click.echo('Try it: cf-local ask "Name three fruits." --show-winners')


def _survey(folders: Sequence[Path], interrupt: Interrupt) -> _Survey:
    """Find the files and read their headers."""
    # Imported here: it loads the native library, which `--help` need not wait for.
    from cf_local.llama.inspection import inspect_all
    from cf_local.loading.candidates import sort_out
    from cf_local.registry.discovery import discover

    registry = load_registry()
    found = discover(folders)
    if found and sys.stderr.isatty():
        click.echo(f"Reading the headers of {_counted(len(found), 'file')}.", err=True)
    cards = inspect_all([each.path for each in found], interrupt.is_set)
    return _Survey(registry, *sort_out(found, cards, registry))


def _proposal(survey: _Survey, name: str | None, interrupt: Interrupt) -> _Proposal:
    from cf_local.llama.devices import devices
    from cf_local.loading.fit import fit
    from cf_local.loading.load_options import LoadOptions
    from cf_local.loading.matching import choose_set, curated_set, download_bytes
    from cf_local.planning.plan import Room

    present = devices()
    n_bytes = sum(Room.of(present).budgets.values())
    plans = {}

    def fits(members: "Sequence[Candidate]") -> bool:
        if sum(one.n_bytes for one in members) > n_bytes:
            return False
        specs = [replace(one.spec, repo=None, file=str(one.found.path)) for one in members]
        try:
            fitted = fit(specs, LoadOptions(), interrupt.is_set)
        except Cancelled:
            raise
        except CfLocalError:  # a file that its header did not show to be unusable
            return False
        plans[tuple(members)] = fitted
        return fitted.plan.fits

    on_gpu = any(device.is_gpu for device in present)
    choice = choose_set(survey.candidates, fits, on_gpu=on_gpu)
    if choice is not None:
        names = [one.name for one in choice.members]
        memory = plans[choice.members].summary()
        return _Proposal(_free_name(survey.registry, name, names), choice, memory)
    curated = None if hub.is_offline() else curated_set(survey.registry, n_bytes)
    if curated is None:
        return _Proposal(None)
    return _Proposal(curated.name, None, "", curated, download_bytes(survey.registry, curated))


def _free_name(registry: Registry, name: str | None, sources: Sequence[str]) -> str:
    """The name given, else "mine", or with a number if that is another fusion.

    A fusion of the same sources keeps its name. Raises ConfigError for a name that is not free.
    """
    number = 1
    while True:
        candidate = name or (_NAME if number == 1 else f"{_NAME}-{number}")
        known = registry.fusions.get(candidate)
        if known is not None and set(known.sources) == set(sources):
            return candidate
        if known is None or name is not None:
            check_free("fusions", candidate)
            return candidate
        number += 1


def _carry_out(survey: _Survey, proposal: _Proposal, interrupt: Interrupt) -> Path:
    """Write the sources and the fusion, or download the set; returns the file."""
    assert proposal.name is not None
    if proposal.pull is not None:
        specs = [survey.registry.source(source) for source in proposal.pull.sources]
        fetch_missing(specs, offline=False, is_cancelled=interrupt.is_set)
    elif proposal.choice is not None and not _is_there(survey.registry, proposal):
        choice = proposal.choice
        notes = [f"{one.name}: {why}" for one, why in _with_reasons(choice)]
        new = {one.name: _table(one) for one in choice.members if one.is_new}
        values = {"sources": tuple(one.name for one in choice.members)}
        write_entry(RegistryEntry(proposal.name, values, (_MARK, *notes), new))
    return write_default(proposal.name)


def _is_there(registry: Registry, proposal: _Proposal) -> bool:
    """Whether the fusion exists already; then it stays as it is, with its settings."""
    known = registry.fusions.get(str(proposal.name))
    assert proposal.choice is not None
    return known is not None and set(known.sources) == {one.name for one in proposal.choice.members}


def _table(one: "Candidate") -> Mapping[str, Any]:
    """The entry of a source in models.toml."""
    if one.spec.repo:
        return {"repo": one.spec.repo, "file": one.spec.file}
    return {"file": one.spec.file}


def _show(survey: _Survey, proposal: _Proposal) -> None:
    """Print what was found and what is proposed."""
    n_models, n_files = len(survey.candidates), len(survey.refused)
    if not n_models and not n_files:
        click.echo(f"There are no GGUF files in {_LOOKED_IN}.")
    else:
        others = f", and {_counted(n_files, 'file')} of other kinds" if n_files else ""
        click.echo(f"Found {_counted(n_models, 'model')} to fuse{others}.")
    if survey.refused:
        click.echo("\nNot language models that can be fused:")
        _table_of([(each.found.label, each.found.owner, each.reason) for each in survey.refused])
    if proposal.choice is not None:
        _show_choice(proposal, proposal.choice)
    if proposal.pull is not None:
        _show_pull(survey, proposal, proposal.pull)


def _show_choice(proposal: _Proposal, choice: "Choice") -> None:
    if choice.left_out:
        click.echo("\nLeft out:")
        _models(choice.left_out)
    click.echo(f"\nProposed fusion {proposal.name}:")
    _models(_with_reasons(choice))
    click.echo(f"Memory: {proposal.memory}.")
    if len(choice.members) == 1:
        click.echo(
            "One model answers alone; fusing needs a second one that suits it. `cf-local list` "
            "names sets to download. Run `cf-local setup` again when it is here."
        )


def _show_pull(survey: _Survey, proposal: _Proposal, pull: FusionSpec) -> None:
    specs = [survey.registry.source(source) for source in pull.sources]
    click.echo(f"\nProposed download: {pull.name} ({pull.description or 'a curated set'}):")
    _table_of([(spec.name, columns.size(spec.size_bytes), spec.licence or "?") for spec in specs])
    click.echo(f"{columns.size(proposal.pull_bytes)} in all, from the Hugging Face hub.")


def _models(rows: Sequence[tuple["Candidate", str]]) -> None:
    """Print models in columns, and below each of them why."""
    for line, (_one, why) in zip(
        columns.lines([_cells(one) for one, _why in rows]), rows, strict=True
    ):
        click.echo(f"  {_safe(line)}\n      {_safe(why)}")


def _with_reasons(choice: "Choice") -> "list[tuple[Candidate, str]]":
    return list(zip(choice.members, choice.reasons, strict=True))


def _cells(one: "Candidate") -> tuple[str, ...]:
    return (
        one.name,
        columns.count(one.n_parameters),
        one.family,
        one.quantization,
        columns.size(one.n_bytes),
        one.found.owner,
    )


def _table_of(rows: Sequence[Sequence[str]]) -> None:
    for line in columns.lines(rows):
        click.echo(f"  {_safe(line)}")


def _safe(line: str) -> str:
    """A line with names from files, safe for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in line)


def _agreed(proposal: _Proposal) -> bool:
    if proposal.pull is not None:
        size = columns.size(proposal.pull_bytes)
        return click.confirm(f"Download {size} and make {proposal.name} the default?", err=True)
    question = f"Write this to {user_file()} and make it the default?"
    return click.confirm(question, default=True, err=True)


def _nothing(survey: _Survey, proposal: _Proposal) -> str:
    """Why nothing was set up, and what to do."""
    what = "fits into memory" if survey.candidates else "can be fused"
    message = (
        f"No model that {what} was found in {_LOOKED_IN}. Name another folder with --folder DIR"
    )
    if proposal.pull is not None:
        size = columns.size(proposal.pull_bytes)
        return f"{message}, or download {proposal.name} ({size}): cf-local setup --yes --pull"
    return f"{message}, or download models with `cf-local pull`."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _as_json(survey: _Survey, proposal: _Proposal, written: Path | None) -> dict[str, Any]:
    choice, pull = proposal.choice, proposal.pull
    members = choice.members if choice else ()
    models = [
        {
            "name": one.name,
            "path": str(one.found.path),
            "owner": one.found.owner,
            "repo": one.found.repo,
            "is_new": one.is_new,
            "parameters": one.n_parameters,
            "size_bytes": one.n_bytes,
            "family": one.family,
            "quantization": one.quantization,
            "chat_template": one.chats,
        }
        for one in survey.candidates
    ]
    refused = [
        {"path": str(each.found.path), "owner": each.found.owner, "reason": each.reason}
        for each in survey.refused
    ]
    kind = "fusion" if choice else "pull" if pull else None
    return {
        "models": models,
        "refused": refused,
        "proposal": kind
        and {
            "kind": kind,
            "fusion": proposal.name,
            "sources": [one.name for one in members] or list(pull.sources if pull else ()),
            "reasons": list(choice.reasons) if choice else [],
            "left_out": {one.name: why for one, why in choice.left_out} if choice else {},
            "memory": proposal.memory or None,
            "download_bytes": proposal.pull_bytes,
        },
        "written_to": str(written) if written else None,
    }
