"""``cf-local calibrate``: finds the settings that suit a task and writes them to models.toml."""

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

from cf_local import __version__
from cf_local.cli import columns, references
from cf_local.cli.interrupt import Interrupt, how_to_go_on
from cf_local.cli.loading import loaded
from cf_local.cli.options import model_options, ray_options
from cf_local.errors import Cancelled, CfLocalError
from cf_local.evaluation import (
    FolderStore,
    Item,
    ReferenceFile,
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
    walk_settings,
    with_system,
)
from cf_local.evaluation.calibration import Calibration, Outcome, Tried, Unit, expected, halves
from cf_local.evaluation.marks import Verdict
from cf_local.evaluation.search_space import SearchSpace
from cf_local.evaluation.word_calibration import calibrate_words, check_texts
from cf_local.evaluation.word_marks import WordMarks
from cf_local.progress import IsCancelled
from cf_local.registry.edit import RegistryEntry, check_name, sources_of, write_entry
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings

_N_TIMED = 2  # questions used to estimate the time
_N_SHOWN = 12


@click.command("calibrate")
@click.argument("task_name", metavar="TASK")
@click.option(
    "--limit", type=click.IntRange(1), help="Use at most this many questions, drawn by --seed."
)
@click.option(
    "--seed",
    type=int,
    default=0,
    help="Seed for drawing questions and splitting them in halves [0].",
)
@click.option("--name", default="calibrated", help="Name of the fusion to write [calibrated].")
@click.option("--force", is_flag=True, help="Replace a fusion that calibrate did not write.")
@click.option("--dry-run", is_flag=True, help="Write nothing to models.toml.")
@click.option("--out", metavar="FOLDER", type=click.Path(path_type=Path), help="Save all answers.")
@click.option("--resume", is_flag=True, help="Continue the run saved in FOLDER.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--metric", metavar="NAME", help="How to judge answers (see docs/evaluation.md).")
@click.option(
    "--examples", "n_examples", type=click.IntRange(0), help="Worked examples in the prompt [8]."
)
@click.option(
    "--raw-prompts", is_flag=True, help="For gsm8k and mgsm: plain text, no chat template."
)
@click.option("--max-tokens", type=click.IntRange(1), help="End a longer answer here.")
@click.option("--system", metavar="TEXT", help="Instructions for all sources.")
@model_options
@ray_options
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
    """Find the settings that suit TASK, and write a fusion.

    TASK is as for `eval`. One half of the questions decides between modes, scores, segments,
    weights and sets of sources. On the other half, the winner must beat the best single source by
    more than chance; otherwise that source is recommended and written. Use the result with
    `cf-local ask --fusion calibrated`.

    With references:FILE, no questions with answers are needed, only texts that you would like to
    get (see `eval`). Scores, weights (learnt ones too) and sets of sources are compared by the
    words of the texts that they would have written.

    \b
    cf-local calibrate questions.jsonl --fusion laptop
    cf-local calibrate builtin --limit 200 --dry-run
    cf-local calibrate references:texts.jsonl --name mine
    cf-local calibrate questions.jsonl --model a.gguf --model b.gguf --name mine --out run1
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    if resume and out is None:
        raise click.UsageError("--resume needs the folder of the run. Add --out FOLDER.")
    if not dry_run:
        check_name(name, evidence.MARK, force=force)  # an error is reported now, not after hours
    how = TaskOptions(metric, n_examples, raw_prompts, limit, seed, options["offline"])
    task = open_task(task_name, how)
    items = chosen(checked_items(task), limit, seed)
    if system:
        items = [with_system(item, system) for item in items]
    if isinstance(task, ReferenceFile) and max_tokens is not None:
        raise click.UsageError("--max-tokens: on reference texts no answers are written.")
    n_ctx = options["n_ctx"]
    with Interrupt() as interrupt, loaded(interrupt, options) as fusion:
        if isinstance(task, ReferenceFile):
            outcome = _run_on_words(fusion, task, items, seed, out, resume, interrupt)
        else:
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
    """The outcome. On Ctrl-C, prints the results so far and raises Cancelled."""
    settings = settings_for(task, fusion.settings, max_tokens=max_tokens)
    space = SearchSpace(settings, tuple(source.info.name for source in fusion.sources))
    with ExitStack() as opened:
        store = Store()
        if out is not None:
            base = [Variant("base", space.base)]
            record = {**record_of(fusion.sources, task, items, base), "calibration_seed": seed}
            store = opened.enter_context(FolderStore(out, record, items, resume=resume))
        answering = TimedAnswers(fusion, task, store, interrupt.is_set)
        calibration = Calibration(space, items, answering, seed=seed, on_stage=answering.stage)
        try:
            answering.estimate(space, items, seed)
            return calibration.run()
        except Cancelled as error:
            answering.clear()
            if tried := calibration.tried():
                click.echo(_table(tried, "questions"), err=True)
            done = f"{len(store.results)} answers; nothing is recommended yet"
            raise Cancelled(how_to_go_on(done, out)) from error
        finally:
            answering.clear()


def _run_on_words(
    fusion: Fusion,
    task: ReferenceFile,
    items: Sequence[Item],
    seed: int,
    out: Path | None,
    resume: bool,
    interrupt: Interrupt,
) -> Outcome:
    """The outcome on reference texts. Raises Cancelled on Ctrl-C."""
    settings = walk_settings(replace(fusion.settings, segments=Settings().segments))
    infos = [source.info for source in fusion.sources]
    space = SearchSpace(settings, tuple(info.name for info in infos))
    check_texts(space, items)
    record = {} if out is None else record_of(fusion.sources, task, items, [])
    with references.opened_store(record, items, settings, out, resume=resume) as store:
        walks, stopped = references.walked(fusion, items, settings, store, interrupt)
    if stopped:
        raise Cancelled(how_to_go_on(f"{len(walks)} of {len(items)} texts", out))
    read = {walk.item for walk in walks if walk.words}
    if n_left_out := len(items) - len(read):
        click.echo(f"Note: {n_left_out} texts whose prompt does not fit are left out.", err=True)
    items = [item for item in items if item.id in read]
    return calibrate_words(space, items, WordMarks(walks, infos), seed=seed)


def _entry(
    name: str,
    outcome: Outcome,
    task: Task,
    seed: int,
    files: Mapping[str, Path],
    n_ctx: int | None,
) -> RegistryEntry:
    """The entry for models.toml: recommended sources and settings, with the evidence."""
    used = evidence.names_of(outcome.recommended, tuple(files))
    names, tables = sources_of({each: files[each] for each in used}, n_ctx)
    values = evidence.values_of(outcome.recommended, {each: names[each] for each in used})
    description = evidence.sentence(outcome, task.name, dt.date.today())
    models = {each: str(file) for each, file in files.items()}
    notes = evidence.notes(outcome, seed, models, version=__version__)
    return RegistryEntry(name, {**values, "description": description}, notes, tables)


def _finish(outcome: Outcome, entry: RegistryEntry, *, writes: bool, as_json: bool) -> None:
    """Write the entry and print the results, even when writing fails: they took hours."""
    path, failure = None, None
    if writes:
        try:
            path = write_entry(entry)
        except CfLocalError as error:
            failure = error
    if as_json:
        click.echo(json.dumps(_as_json(outcome, entry, path), indent=2))
    else:
        click.echo(f"{_table(outcome.tried, outcome.unit)}\n{evidence.verdict(outcome)}")
    if failure is not None:
        raise failure
    used = f"cf-local ask --fusion {entry.name}"
    click.echo(f"Written to {path}: {used}" if path else "Nothing was written.", err=True)


def _table(tried: Sequence[Tried], unit: Unit) -> str:
    """The results on the search half: best first, dropped ones last.

    There are many ways to choose words, so only the best are shown.
    """
    rows: list[tuple[str, ...]] = [("search half", "right (95%)", unit)]
    fused = [each for each in _best_first(tried) if not each.is_alone]
    left_out = fused[_N_SHOWN:] if unit == "words" else []
    for each in _best_first([each for each in tried if each not in left_out]):
        dropped = " (dropped)" if each.is_dropped else ""
        name = f"{each.variant.name} alone" if each.is_alone else each.variant.name
        rows.append((name, evidence.share_text(each.accuracy), f"{each.accuracy.n}{dropped}"))
    more = [f"and {len(left_out)} more ways to fuse (--json has all)"] if left_out else []
    return "\n".join([*columns.lines(rows), *more])


def _best_first(tried: Sequence[Tried]) -> list[Tried]:
    return sorted(tried, key=lambda each: (each.is_dropped, -each.accuracy.value))


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
        "unit": outcome.unit,
        "n_search": outcome.n_search,
        "n_confirm": outcome.n_confirm,
        "tried": [
            {"name": each.variant.name, **asdict(each.accuracy), "is_dropped": each.is_dropped}
            for each in outcome.tried
        ],
    }


class TimedAnswers:
    """Answers with the loaded sources, saves answers in the store, and shows progress on stderr."""

    def __init__(self, fusion: Fusion, task: Task, store: Store, is_cancelled: IsCancelled) -> None:
        self._fusion, self._task, self._store = fusion, task, store
        self._is_cancelled = is_cancelled
        self._start = self._last_shown = time.monotonic()
        self._n_done = 0
        self._expected = ""

    def __call__(self, variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
        """Answer every item with every variant, one verdict at a time, as ``Calibration`` needs."""
        for result in run(
            self._fusion, self._task, items, variants, self._store, is_cancelled=self._is_cancelled
        ):
            yield result.variant, result.item, result.right
            self._n_done += 1
            self._show_progress()

    def stage(self, text: str) -> None:
        """Announce the next stage."""
        self.clear()
        click.echo(f"{text[0].upper()}{text[1:]}.", err=True)

    def estimate(self, space: SearchSpace, items: Sequence[Item], seed: int) -> None:
        """Estimate the total time from a few answers, which are saved."""
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
        self.stage(f"about {counts.total()} answers, in about {columns.duration(total_s)}")

    def clear(self) -> None:
        """Erase the progress line."""
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)

    def _show_progress(self) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._last_shown > 0.2:
            self._last_shown = now
            spent = columns.duration(now - self._start)
            click.echo(
                f"\r\x1b[K{self._n_done} answers{self._expected}, {spent}", nl=False, err=True
            )
