"""``cf-local plan --ray``: which source goes to which node, and what each node has."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cf_local.cli import columns
from cf_local.errors import ClusterError
from cf_local.planning.nodes import Node
from cf_local.registry.registry import SourceSpec

if TYPE_CHECKING:
    from cf_local.loading.load_options import LoadOptions
    from cf_local.loading.on_ray import OnNode

_HIDDEN = {"CPU", "GPU", "memory", "object_store_memory"}


def show(
    specs: Sequence[SourceSpec], n_sources: int, options: "LoadOptions", as_json: bool
) -> None:
    """Print the plan for those of ``n_sources`` that go to a cluster.

    Raises ClusterError if one cannot be loaded, and what planning raises.
    """
    # Imported here: it loads the native library, which `--help` need not wait for.
    from cf_local.cluster.connection import TRUST
    from cf_local.loading.on_ray import plan_on_ray

    found, nodes = plan_on_ray(specs, options, n_sources)
    click.echo(_as_json(found, nodes) if as_json else "\n".join(_lines(found, nodes)))
    if not as_json:
        click.echo(f"Note: {TRUST}", err=True)
    if problems := [each.problem for each in found if each.problem]:
        raise ClusterError("\n".join(problems))


def _lines(found: "Sequence[OnNode]", nodes: Sequence[Node]) -> Iterator[str]:
    head = ("source", "node", "on", "context", "KV", "threads", "needs")
    yield from columns.lines([head, *map(_source_row, found)])
    yield ""
    yield from columns.lines(
        [("node", "address", "cores", "GPUs", "memory", "else"), *map(_node_row, nodes)]
    )


def _source_row(each: "OnNode") -> tuple[str, ...]:
    name = "-" if each.node is None else each.node.name
    how = each.arrangement
    if how is None:
        return (each.source, name, "-", "-", "-", "-", "cannot be loaded")
    need = columns.size((how.main + how.gpu).total)
    device, threads = how.device or "CPU", str(how.n_threads or "auto")
    return (each.source, name, device, str(how.n_ctx), how.kv_type, threads, need)


def _node_row(node: Node) -> tuple[str, ...]:
    def of(name: str) -> str:
        free, total = node.available.get(name, 0.0), node.total.get(name, 0.0)
        if name == "memory":
            return f"{columns.size(int(free))} of {columns.size(int(total))}"
        return f"{free:g} of {total:g}" if total else "-"

    rest = [f"{name} {of(name)}" for name in node.total if name not in _HIDDEN]
    rest += [f"{k}={v}" for k, v in node.labels.items() if not k.startswith("ray.io/")]
    return (node.name, node.address, of("CPU"), of("GPU"), of("memory"), ", ".join(rest) or "-")


def _as_json(found: "Sequence[OnNode]", nodes: Sequence[Node]) -> str:
    sources = [
        {
            "source": each.source,
            "node": None if each.node is None else each.node.name,
            "arrangement": None if each.arrangement is None else asdict(each.arrangement),
            "problem": each.problem,
        }
        for each in found
    ]
    return json.dumps({"sources": sources, "nodes": [asdict(node) for node in nodes]})
