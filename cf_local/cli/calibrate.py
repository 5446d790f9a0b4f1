"""``cf-local calibrate``: the way to fuse that suits a task, written into models.toml."""

import datetime as dt
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import click

from cf_local import __version__, userfile
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.options import loaded, model_options
from cf_local.errors import Cancelled
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
    run,
    settings_for,
    with_system,
)
from cf_local.evaluation.calibration import Calibration, Outcome, Tried, expected, halves
from cf_local.evaluation.candidates import Space
from cf_local.evaluation.marks import Verdict
from cf_local.fusion import Fusion

_N_TIMED = 2  # questions that the time is estimated from


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
        userfile.check_name(name, evidence.MARK, force=force)  # told now, not after hours
    how = TaskOptions(metric, n_examples, raw_prompts, limit, seed, options["offline"])
    task = open_task(task_name, how)
    items = chosen(checked_items(task), limit, seed)
    if system:
        items = [with_system(item, system) for item in items]
    n_ctx = options["n_ctx"]
    with Interrupt() as interrupt, loaded(interrupt, options) as fusion, ExitStack() as opened:
        space = _space(fusion, task, max_tokens)
        store = Store()
        if out is not None:
            base = [Variant("base", space.base)]
            record = {**record_of(fusion.sources, task, items, base), "calibration_seed": seed}
            store = opened.enter_context(FolderStore(out, record, items, resume=resume))
        answers = _Answers(fusion, task, store, interrupt)
        calibration = Calibration(space, items, answers, seed=seed, on_stage=answers.stage)
        try:
            answers.estimate(space, items, seed)
            outcome = calibration.run()
        except Cancelled as error:
            answers.clear()
            click.echo(_table(calibration.tried()), err=True)
            raise Cancelled(_how_to_go_on(len(store.results), out)) from error
        answers.clear()
        files = {source.info.name: Path(source.info.file) for source in fusion.sources}
    entry = _entry(name, outcome, task, seed, files, n_ctx)
    path = None if dry_run else userfile.write(entry)
    if as_json:
        click.echo(json.dumps(_as_json(outcome, entry, path), indent=2))
        return
    click.echo(_table(outcome.tried))
    click.echo(evidence.verdict(outcome))
    if path is None:
        click.echo("Nothing was written (--dry-run).", err=True)
    else:
        click.echo(f"Written to {path}: cf-local ask --fusion {name}", err=True)


class _Answers:
    """Answers with the loaded sources, kept in the store; tells on stderr how far it is."""

    def __init__(self, fusion: Fusion, task: Task, store: Store, interrupt: Interrupt) -> None:
        self._fusion, self._task, self._store = fusion, task, store
        self._interrupt = interrupt
        self._start = self._last_told = time.monotonic()
        self._n_done = 0
        self._expected = ""

    def __call__(self, variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
        is_cancelled = self._interrupt.is_set
        for result in run(
            self._fusion, self._task, items, variants, self._store, is_cancelled=is_cancelled
        ):
            yield result.variant, result.item, result.right
            self._n_done += 1
            self._tell()

    def stage(self, text: str) -> None:
        """Say what comes next."""
        self.clear()
        click.echo(f"{text[0].upper()}{text[1:]}.", err=True)

    def estimate(self, space: Space, items: Sequence[Item], seed: int) -> None:
        """Say about how long it will take, from a few answers (which are kept)."""
        self.stage("estimating the time")
        timed, first = [*space.alone(), *space.first()], halves(items, seed)[0][:_N_TIMED]
        list(self(timed, first))
        longest: dict[str, float] = {}
        for variant, item in product(timed, first):
            found, mode = self._store.results[variant.name, item.id], variant.settings.mode
            longest[mode] = max(longest.get(mode, 0.0), found.seconds + found.prompt_seconds)
        counts = expected(space, items, seed)
        self._n_done, self._expected = 0, f" of about {counts.total()}"
        total_s = sum(longest[mode] * n_answers for mode, n_answers in counts.items())
        self.stage(f"about {counts.total()} answers, which takes about {_duration(total_s)}")

    def clear(self) -> None:
        """Wipe the line that tells how far it is."""
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)

    def _tell(self) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._last_told > 0.2:
            self._last_told = now
            spent = _duration(now - self._start)
            click.echo(
                f"\r\x1b[K{self._n_done} answers{self._expected}, {spent}", nl=False, err=True
            )


def _space(fusion: Fusion, task: Task, max_tokens: int | None) -> Space:
    """What can be tried with the loaded sources; whole answers that cannot win are not read."""
    settings = replace(fusion.settings, all_scores=False)
    names = tuple(source.info.name for source in fusion.sources)
    return Space(settings_for(task, settings, max_tokens=max_tokens), names)


def _entry(
    name: str,
    outcome: Outcome,
    task: Task,
    seed: int,
    files: Mapping[str, Path],
    n_ctx: int | None,
) -> userfile.Entry:
    """What goes into models.toml: the recommended sources and settings, with the evidence."""
    used = evidence.names_of(outcome.recommended, tuple(files))
    names, tables = userfile.sources_of({each: files[each] for each in used}, n_ctx)
    values = evidence.values_of(outcome.recommended, tuple(names[each] for each in used))
    told = evidence.sentence(outcome, task.name, dt.date.today())
    models = {each: str(file) for each, file in files.items()}
    notes = evidence.notes(outcome, seed, models, version=__version__)
    return userfile.Entry(name, {**values, "description": told}, notes, tables)


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


def _as_json(outcome: Outcome, entry: userfile.Entry, path: Path | None) -> dict[str, Any]:
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


def _duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
