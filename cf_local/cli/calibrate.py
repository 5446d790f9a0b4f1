"""``cf-local calibrate``: the way to fuse that suits a task, written into models.toml."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from cf_local import __version__
from cf_local.cli.answering import Answering
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.options import loaded, model_options
from cf_local.errors import Cancelled, CfLocalError
from cf_local.evaluation import (
    FolderStore,
    Item,
    Store,
    Task,
    TaskOptions,
    Variant,
    checked_items,
    chosen,
    evidence,
    open_task,
    record_of,
    settings_for,
    with_system,
)
from cf_local.evaluation.calibration import Calibration, Outcome, Tried
from cf_local.evaluation.search_space import SearchSpace
from cf_local.registry.edit import RegistryEntry, check_name, sources_of, write_entry
from cf_local.runtime.fusion import Fusion


@click.command("calibrate")
@click.argument("task_name", metavar="TASK")
@click.option("--limit", type=click.IntRange(1), help="Questions at most, drawn by --seed.")
@click.option("--seed", type=int, default=0, help="Draws questions and halves [0].")
@click.option("--name", default="calibrated", help="Fusion to write [calibrated].")
@click.option("--force", is_flag=True, help="Replace a fusion that calibrate has not written.")
@click.option("--dry-run", is_flag=True, help="Write nothing into models.toml.")
@click.option("--out", metavar="FOLDER", type=click.Path(path_type=Path), help="Keep all answers.")
@click.option("--resume", is_flag=True, help="Go on with the run that FOLDER holds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--metric", metavar="NAME", help="How answers are judged (see docs/evaluation.md).")
@click.option("--examples", "n_examples", type=click.IntRange(0), help="Worked examples shown [8].")
@click.option("--raw-prompts", is_flag=True, help="gsm8k, mgsm: plain text, no chat template.")
@click.option("--max-tokens", type=click.IntRange(1), help="End a longer answer here.")
@click.option("--system", metavar="TEXT", help="Instructions for all sources.")
@model_options
def calibrate(
    task_name: str,
    limit: int | None,
    seed: int,
    name: str,
    force: bool,
    dry_run: bool,
    out: Path | None,
    resume: bool,
    as_json: bool,
    metric: str | None,
    n_examples: int | None,
    raw_prompts: bool,
    max_tokens: int | None,
    system: str | None,
    **options: Any,
) -> None:
    """Find the way to fuse that suits TASK, and write it into your models.toml.

    One half of the questions (TASK as for `eval`) decides between modes, scores, segments, weights
    and sets of sources. The choice must then beat the best source alone on the other half, beyond
    chance; otherwise that source is recommended and written. Use it by
    `cf-local ask --fusion calibrated`.

    \b
    cf-local calibrate questions.jsonl --fusion laptop
    cf-local calibrate builtin --limit 200 --dry-run
    cf-local calibrate questions.jsonl --model a.gguf --model b.gguf --name mine --out run1
    """  # noqa: D301  # click keeps the lines behind a backspace as they are
    if resume and out is None:
        raise click.UsageError("--resume needs the folder of the run: --out FOLDER.")
    if not dry_run:
        check_name(name, evidence.MARK, force=force)  # told now, not after hours
    how = TaskOptions(metric, n_examples, raw_prompts, limit, seed, options["offline"])
    task = open_task(task_name, how)
    items = chosen(checked_items(task), limit, seed)
    if system:
        items = [with_system(item, system) for item in items]
    n_ctx = options["n_ctx"]
    with Interrupt() as interrupt, loaded(interrupt, options) as fusion:
        outcome = _run(fusion, task, items, seed, max_tokens, out, resume, interrupt)
        files = {source.info.name: Path(source.info.file) for source in fusion.sources}
    entry = _entry(name, outcome, task, seed, files, n_ctx)
    _finish(outcome, entry, writes=not dry_run, as_json=as_json)


def _run(
    fusion: Fusion,
    task: Task,
    items: Sequence[Item],
    seed: int,
    max_tokens: int | None,
    out: Path | None,
    resume: bool,
    interrupt: Interrupt,
) -> Outcome:
    """The outcome. Raises Cancelled on Ctrl-C, after what was found until then is told."""
    # Whole answers that cannot win are not read: the winner is the same.
    settings = settings_for(task, replace(fusion.settings, all_scores=False), max_tokens=max_tokens)
    space = SearchSpace(settings, tuple(source.info.name for source in fusion.sources))
    with ExitStack() as opened:
        store = Store()
        if out is not None:
            base = [Variant("base", space.base)]
            record = {**record_of(fusion.sources, task, items, base), "calibration_seed": seed}
            store = opened.enter_context(FolderStore(out, record, items, resume=resume))
        answering = Answering(fusion, task, store, interrupt.is_set)
        calibration = Calibration(space, items, answering, seed=seed, on_stage=answering.stage)
        try:
            answering.estimate(space, items, seed)
            return calibration.run()
        except Cancelled as error:
            answering.clear()
            if tried := calibration.tried():
                click.echo(_table(tried), err=True)
            raise Cancelled(_how_to_go_on(len(store.results), out)) from error
        finally:
            answering.clear()


def _entry(
    name: str,
    outcome: Outcome,
    task: Task,
    seed: int,
    files: Mapping[str, Path],
    n_ctx: int | None,
) -> RegistryEntry:
    """What goes into models.toml: the recommended sources and settings, with the evidence."""
    used = evidence.names_of(outcome.recommended, tuple(files))
    names, tables = sources_of({each: files[each] for each in used}, n_ctx)
    values = evidence.values_of(outcome.recommended, {each: names[each] for each in used})
    told = evidence.sentence(outcome, task.name, dt.date.today())
    models = {each: str(file) for each, file in files.items()}
    notes = evidence.notes(outcome, seed, models, version=__version__)
    return RegistryEntry(name, {**values, "description": told}, notes, tables)


def _finish(outcome: Outcome, entry: RegistryEntry, *, writes: bool, as_json: bool) -> None:
    """Write the entry, and print what was found; hours of work are told before a failure."""
    path, failure = None, None
    if writes:
        try:
            path = write_entry(entry)
        except CfLocalError as error:
            failure = error
    if as_json:
        click.echo(json.dumps(_as_json(outcome, entry, path), indent=2))
    else:
        click.echo(f"{_table(outcome.tried)}\n{evidence.verdict(outcome)}")
    if failure is not None:
        raise failure
    used = f"cf-local ask --fusion {entry.name}"
    click.echo(f"Written to {path}: {used}" if path else "Nothing was written.", err=True)


def _table(tried: Sequence[Tried]) -> str:
    """What came of each way on the search half, best first; dropped ones last."""
    rows = [("search half", "right (95%)", "questions")]
    for each in sorted(tried, key=lambda each: (each.is_dropped, -each.accuracy.value)):
        dropped = " (dropped)" if each.is_dropped else ""
        name = f"{each.variant.name} alone" if each.is_alone else each.variant.name
        rows.append((name, evidence.share_text(each.accuracy), f"{each.accuracy.n}{dropped}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in cells)


def _as_json(outcome: Outcome, entry: RegistryEntry, path: Path | None) -> dict[str, Any]:
    found = asdict(outcome)
    return {
        "recommended": outcome.recommended.name,
        "is_fused": outcome.is_fused,
        "verdict": evidence.verdict(outcome),
        "fusion": {"name": entry.name, **entry.values},
        "new_sources": entry.sources,
        "written_to": None if path is None else str(path),
        "best_alone": outcome.best_alone.name,
        "chosen": None if outcome.chosen is None else outcome.chosen.name,
        **{k: found[k] for k in ("reason", "versus", "accuracy", "alone", "groups", "falling")},
        "n_search": outcome.n_search,
        "n_confirm": outcome.n_confirm,
        "tried": [
            {"name": each.variant.name, **asdict(each.accuracy), "is_dropped": each.is_dropped}
            for each in outcome.tried
        ],
    }


def _how_to_go_on(n_answers: int, out: Path | None) -> str:
    done = f"Interrupted after {n_answers} answers; nothing is recommended yet."
    if out is None:
        return f"{done} Nothing was kept; with --out FOLDER a run can be gone on with."
    return f"{done} They are in {out}; the same command with --resume goes on."
