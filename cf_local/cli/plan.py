"""``cf-local plan``: how much memory a set of models needs, and how it would be arranged."""

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import click

from cf_local.cli import cluster_plan, columns, completing
from cf_local.cli.options import chosen_models, ray_options, set_options
from cf_local.planning.plan import Arrangement

if TYPE_CHECKING:
    from cf_local.loading.fit import Fitted


@click.command()
@click.argument("name", metavar="[FUSION]", required=False, shell_complete=completing.fusions)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with sizes in bytes.")
@set_options
@ray_options
def plan(name: str | None, as_json: bool, **options: Any) -> None:
    """Show how much memory a set of models needs.

    Downloads and loads nothing: reads only the header of each model (from the hub by a range
    request), and compares the needs with the memory available now. `ask`, `chat` and the other
    commands load by the same plan. If the set does not fit, says what would fit and exits with
    code 5. With --ray, shows which source goes to which node of a cluster, and what each node has.

    \b
    cf-local plan laptop
    cf-local plan --model a.gguf --model b.gguf --context 8192 --memory 6GB --json
    cf-local plan laptop --ray head:6379
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    # Imported here: it loads the native library, which `--help` need not wait for.
    from cf_local.loading.fit import fit
    from cf_local.loading.load import choose
    from cf_local.loading.load_options import LoadOptions
    from cf_local.planning.memory import own_bytes
    from cf_local.registry.registry import load_registry

    fusion, models = chosen_models(options)
    if name is not None and (fusion or models):
        raise click.UsageError("Name a fusion once, or name models instead.")
    specs, _ = choose(load_registry(), name or fusion, models)
    known = {key.name for key in fields(LoadOptions)} & options.keys()
    how = LoadOptions(**{name: options[name] for name in known})
    if far := [spec for spec in specs if how.is_on_ray(spec)]:
        cluster_plan.show(far, len(specs), how, as_json)
    near = [spec for spec in specs if spec not in far]
    if not near:
        return
    fitted = fit(near, how, n_sources=len(specs))
    click.echo(_as_json(fitted, own_bytes()) if as_json else _as_text(fitted, own_bytes()))
    fitted.check()


def _as_text(fitted: "Fitted", n_own: int) -> str:
    plan = fitted.plan
    setup = ("source", "on", "GPU layers", "context", "KV", "threads")
    rows = [
        (*setup, "weights", "cache", "buffers", "program", "in all"),
        *(_row(each) for each in plan.arrangements),
    ]
    lines = [*columns.lines(rows), ""]
    for device in fitted.devices:
        need = plan.needs.get(device.name)
        if need is None:
            continue
        what = "Main memory" if device.name == "CPU" else f"{device.name} ({device.description})"
        verdict = "fits" if need <= plan.budgets[device.name] else "does not fit"
        lines.append(
            f"{what}: {columns.size(need)} needed, {columns.size(plan.budgets[device.name])} of "
            f"the {columns.size(device.available_bytes)} available may be used: {verdict}."
        )
    lines.append(f"The process itself uses {columns.size(n_own)} before the load.")
    if copied := sum(each.copied for each in plan.arrangements):
        lines.append(
            f"{columns.size(copied)} of the weights are rearranged for this CPU; the "
            "pages of the file also count as used until the system needs the memory."
        )
    return "\n".join(lines)


def _row(each: Arrangement) -> tuple[str, ...]:
    need = each.main + each.gpu
    sizes = (need.weights, need.cache, need.buffers, need.program, need.total)
    return (
        each.source,
        each.device or "CPU",
        f"{each.n_gpu_layers} of {each.n_layers}" if each.device else "-",
        str(each.n_ctx),
        each.kv_type,
        str(each.n_threads or "auto"),
        *map(columns.size, sizes),
    )


def _as_json(fitted: "Fitted", n_own: int) -> str:
    plan = fitted.plan
    memory = [
        {
            "device": device.name,
            "kind": device.kind,
            "backend": device.backend,
            "total": device.total_bytes,
            "available": device.available_bytes,
            "may_use": plan.budgets[device.name],
            "needs": plan.needs[device.name],
        }
        for device in fitted.devices
        if device.name in plan.needs
    ]
    found = {
        "fits": plan.fits,
        "reduced": plan.is_reduced,
        "sources": [
            asdict(each) | {"device": each.device, "gpu": asdict(each.gpu)}
            for each in plan.arrangements
        ],
        "memory": memory,
        "own": n_own,
        "advice": [asdict(each) for each in fitted.advices],
    }
    return json.dumps(found, ensure_ascii=False)
