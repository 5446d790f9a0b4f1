"""``cf-local doctor``: shows what this machine has, what is wrong, and how to fix it."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from cf_local import files
from cf_local.cli import columns
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.loading import loaded
from cf_local.cli.options import PREFIX, name_options
from cf_local.doctor import Facts, Finding, collect, examine
from cf_local.planning.memory import RPC_VARIABLE
from cf_local.registry.registry import CONFIG_VARIABLE
from cf_local.registry.toml import nearest

_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--measure",
    is_flag=True,
    help="Time forward passes of the models, and use the times from now on.",
)
@name_options
@click.pass_context
def doctor(context: click.Context, /, as_json: bool, measure: bool, **options: Any) -> None:
    """Look for problems that stop cf-local or slow it down.

    Shows a command that fixes each problem. Asks the built-in models one question. Sends nothing
    and changes nothing. Exit code 0 means no problem, 1 means at least one.

    With --measure, it times forward passes of the default fusion instead, or of the models that
    --fusion or --model name, and saves the times. Before that, times are estimated from the sizes
    of the models. The times decide how far models look ahead, so answers may differ from earlier
    ones where two words score almost the same.
    """
    if measure:
        _measure(options, as_json=as_json)
        return
    facts = collect()
    root = context.find_root().command
    findings = [*examine(facts), *_unknown_variables(root)]
    if as_json:
        record = {**_as_json(facts), "findings": [asdict(each) for each in findings]}
        click.echo(json.dumps(record, ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join([*columns.lines(list(_described(facts))), ""]))
        for finding in findings:
            _show(finding)
    if any(finding.level == "problem" for finding in findings):
        context.exit(1)


def _measure(options: dict[str, Any], *, as_json: bool) -> None:
    """Time forward passes of the sources, then save and print the times."""
    from cf_local.loading import placement  # here: it loads the native library

    with Interrupt() as interrupt, loaded(interrupt, options) as fusion:
        found = fusion.alone(
            lambda: {
                source.info.name: placement.measure_costs(source, interrupt.is_set)
                for source in fusion.sources
                if isinstance(source, placement.Timed)
            }
        )
    seconds = {name: dict(costs.seconds) for name, costs in found.items()}
    if as_json:
        click.echo(json.dumps({"pass_s": seconds}, indent=2))
        return
    sizes = next(iter(seconds.values()))
    rows = [["tokens of a pass", *map(str, sizes)]]
    rows += [[name, *(f"{1000 * s:.1f} ms" for s in of.values())] for name, of in seconds.items()]
    click.echo("\n".join(columns.lines(rows)))


def known_variables(root: click.Command) -> set[str]:
    """All environment variables that the commands read."""
    found = {CONFIG_VARIABLE, files.CACHE_VARIABLE, files.DATA_VARIABLE, RPC_VARIABLE}
    found.add("CF_LOCAL_DEBUG")
    commands = list(_commands_of(root))
    for command in (root, *commands):
        found |= {p.envvar for p in command.params if isinstance(p.envvar, str)}
    for command in commands:
        if isinstance(command, click.Group):
            found |= known_variables(command)
    return found


def _commands_of(root: click.Command) -> Iterator[click.Command]:
    if isinstance(root, click.Group):
        context = click.Context(root)
        for name in root.list_commands(context):
            command = root.get_command(context, name)
            if command is not None:
                yield command


def _unknown_variables(root: click.Command) -> Iterator[Finding]:
    """A finding for each variable with our prefix that no command reads: it is misspelt."""
    known = known_variables(root)
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            text = f"cf-local does not know the environment variable {name}"
            text += nearest(name, known, fold=str.upper)
            yield Finding("problem", "environment", text, (f"unset {name}",))


def _described(facts: Facts) -> Iterator[tuple[str, str]]:
    """The facts as rows, ready for a bug report."""
    versions = [f"{name} {version or 'missing'}" for name, version in facts.versions.items()]
    yield "versions", ", ".join([*versions, f"Python {facts.python}"])
    yield "system", f"{facts.system} {facts.architecture}"
    cores = facts.processor
    physical = "unknown" if cores.n_physical is None else str(cores.n_physical)
    yield "processor", f"{cores.name}; {physical} physical and {cores.n_logical} logical cores"
    native = facts.native
    version = f"{native.library_version}; " if native.library_version else ""
    yield "llama.cpp", version + (native.system_info or "does not load")
    yield "backends", ", ".join(native.backends) or "unknown"
    has_rpc = "built in" if "RPC" in native.backends else "not built in"
    yield "RPC", f"{has_rpc} (for a model too large for one machine, see docs/cluster.md)"
    for name, description, kind, total, available in native.devices:
        room = f"{columns.size(available)} of {columns.size(total)} available"
        yield "device", f"{name}: {description} ({kind}), {room}"
    memory = facts.memory
    room = f"{columns.size(memory.available_bytes)} of {columns.size(memory.total_bytes)} available"
    yield "memory", room
    yield "cache", str(facts.cache.path)
    token = "set (not shown)" if facts.hub.has_token else "none"
    yield "hub", f"{facts.hub.endpoint}; token: {token}"
    yield "your file", facts.configuration.user_file


def _show(finding: Finding) -> None:
    level = click.style(f"{finding.level:7}", fg=_COLOURS[finding.level])
    click.echo(f"{level}  {finding.topic}: {finding.text}")
    for remedy in finding.remedies:
        click.echo(f"           - {remedy}")


def _as_json(facts: Facts) -> dict[str, Any]:
    record = asdict(facts)
    features = facts.processor.features
    record["processor"]["features"] = None if features is None else sorted(features)
    record["cache"]["path"] = str(facts.cache.path)
    record["hub"]["cache_folder"] = str(facts.hub.cache_folder)
    return record
