"""``cf-local eval``: measures how often each way to answer is right on a task."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from cf_local import files
from cf_local.cli import columns, references
from cf_local.cli.help import LongCommand
from cf_local.cli.interrupt import Interrupt, how_to_go_on
from cf_local.cli.loading import loaded, spread
from cf_local.cli.options import fusion_options, model_options, settings_of
from cf_local.errors import Cancelled, ContextError, InputError
from cf_local.evaluation import (
    FolderStore,
    Item,
    ReferenceFile,
    Result,
    Store,
    Summary,
    Task,
    TaskOptions,
    Variant,
    WordSummary,
    alone,
    checked_items,
    chosen,
    default_variants,
    distinct,
    open_task,
    parse_variant,
    record_of,
    run,
    settings_for,
    summarize,
    summarize_words,
    with_system,
)
from cf_local.evaluation import report as html
from cf_local.settings import Settings

_HEAD = ("", "right (95%)", "won/lost", "p", "bytes/s", "wins")
_NO_SPEED = _HEAD.index("bytes/s")


@click.command("eval", cls=LongCommand)
@click.argument("task_name", metavar="TASK")
@click.option(
    "--limit", type=click.IntRange(1), help="Use at most this many questions; --seed draws them."
)
@click.option(
    "--variant",
    "variant_texts",
    metavar="'MODE KEY=VALUE...'",
    multiple=True,
    help="Another way to answer; 'cool score=nll weight.ash=2', for example. Repeatable.",
)
@click.option("--metric", metavar="NAME", help="How to judge answers (see docs/evaluation.md).")
@click.option(
    "--examples", "n_examples", type=click.IntRange(0), help="Worked examples in the prompt [8]."
)
@click.option(
    "--raw-prompts", is_flag=True, help="For gsm8k and mgsm: plain text, no chat template."
)
@click.option("--out", metavar="FOLDER", type=click.Path(path_type=Path), help="Save all answers.")
@click.option("--resume", is_flag=True, help="Continue the run saved in FOLDER.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a report; it has plots, and the answers that fusion fixed or broke.",
)
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Spread the questions over the nodes of this Ray cluster (see docs/evaluation.md).",
)
@fusion_options
@model_options
def evaluate(
    task_name: str,
    limit: int | None,
    variant_texts: tuple[str, ...],
    metric: str | None,
    n_examples: int | None,
    raw_prompts: bool,
    out: Path | None,
    resume: bool,
    as_json: bool,
    report: Path | None,
    address: str | None,
    system: str | None,
    **options: Any,
) -> None:
    """Compare ways to answer the questions of TASK.

    TASK is builtin, gsm8k:FILE, mgsm:LANGUAGE, a .jsonl, .csv or .tsv file with questions, or
    MODULE:CLASS. By default each source answers alone, then all are fused in modes rerank, cool
    and cool+r. --mode selects one mode, --only one source. The table goes to stdout.

    With references:FILE, nothing is answered: at each word of good answers (.jsonl, with prompt and
    reference), it counts which sources would have written that word. It compares each source alone
    and cool; each --variant is a score, weights or a set of sources.

    \b
    cf-local eval builtin --limit 100 --report report.html
    cf-local eval questions.jsonl --out run1 --variant "cool score=nll segments=shortest" --resume
    cf-local eval references:texts.jsonl --variant "cool score=nll weights=equal"
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    if resume and out is None:
        raise click.UsageError("--resume needs the folder of the run. Add --out FOLDER.")
    if report is not None:
        files.check_folder(report)  # an error is reported now, not after hours
    how = TaskOptions(metric, n_examples, raw_prompts, limit, options["seed"], options["offline"])
    task = open_task(task_name, how)
    items = chosen(checked_items(task), limit, options["seed"])
    if system:
        items = [with_system(item, system) for item in items]
    if isinstance(task, ReferenceFile):
        if address is not None:
            raise click.UsageError("--ray: reference texts are read in one process. Leave it out.")
        _evaluate_words(task, items, variant_texts, out, resume, as_json, report, options)
        return
    with (
        Interrupt() as interrupt,
        _answering(interrupt, options, address) as answering,
        ExitStack() as opened,
    ):
        variants = _variants(answering, task, variant_texts, options)
        record = answering.record(task, items, variants)
        store = Store()
        if out is not None:
            store = opened.enter_context(FolderStore(out, record, items, resume=resume))
            _show_known(store, len(items) * len(variants))
        results, stopped = _run(answering, task, items, variants, store, interrupt)
    summary = summarize(task.name, variants, results)
    if summary is not None:
        click.echo(json.dumps(asdict(summary), indent=2) if as_json else _table(summary))
        if report is not None:
            files.write_result(report, html.render(summary, record, items, results))
    if stopped:
        raise Cancelled(
            how_to_go_on(f"{len(results)} of {len(items) * len(variants)} answers", out)
        )


def _evaluate_words(
    task: ReferenceFile,
    items: Sequence[Item],
    variant_texts: Sequence[str],
    out: Path | None,
    resume: bool,
    as_json: bool,
    report: Path | None,
    options: dict[str, Any],
) -> None:
    """Compare all variants along reference texts."""
    references.refuse_unused(options)
    with Interrupt() as interrupt, loaded(interrupt, options) as fusion:
        settings = references.settings_on_walk(fusion, options)
        variants = references.variants_of(fusion, settings, variant_texts, options)
        is_kept = out is not None or report is not None  # a record takes reading all model files
        record = record_of(fusion.sources, task, items, variants) if is_kept else {}
        infos = [source.info for source in fusion.sources]
        with references.opened_store(record, items, settings, out, resume=resume) as store:
            walks, stopped = references.walked(fusion, items, settings, store, interrupt)
    summary = summarize_words(task.name, variants, items, walks, infos)
    if summary is not None:
        click.echo(json.dumps(asdict(summary), indent=2) if as_json else _table(summary))
        if report is not None:
            page = html.render_words(summary, record, variants, items, walks, infos)
            files.write_result(report, page)
    if stopped:
        raise Cancelled(how_to_go_on(f"{len(walks)} of {len(items)} texts", out))
    if summary is None:
        raise ContextError("No prompt leaves room for its text. Choose a larger --context.")


@dataclass(frozen=True, slots=True)
class _Answering:
    """What answers the questions: a fusion in this process, or workers on a cluster."""

    names: Sequence[str]
    settings: Settings
    record: Callable[[Task, Sequence[Item], Sequence[Variant]], dict[str, Any]]
    run: Callable[..., Iterator[Result]]


@contextmanager
def _answering(
    interrupt: Interrupt, options: dict[str, Any], address: str | None
) -> Iterator[_Answering]:
    """What answers, loaded; it ends with the block."""
    if address is not None:
        with spread(interrupt, options, address) as workers:
            yield _Answering(workers.names, workers.settings, workers.record, workers.run)
        return
    with loaded(interrupt, options) as fusion:
        names = [source.info.name for source in fusion.sources]
        record = partial(record_of, fusion.sources)
        yield _Answering(names, fusion.settings, record, partial(run, fusion))


def _variants(
    answering: _Answering, task: Task, texts: Sequence[str], options: dict[str, Any]
) -> list[Variant]:
    """The ways to answer that the command line selects, with the task's stops and length."""
    mode, only, max_tokens = options["mode"], options["only"], options["max_tokens"]
    names = answering.names
    given = settings_of(answering.settings, names, options)
    settings = settings_for(task, given, max_tokens=max_tokens)
    if only is not None and only not in names:
        raise InputError(f"No source is named {only!r}. The sources are {', '.join(names)}.")
    if only is not None:
        found = alone(settings, [only])
    elif mode is not None:
        found = alone(settings, names)
        found += [Variant(mode, replace(settings, mode=mode))] if mode != "single" else []
    else:
        found = default_variants(settings, names)
    return distinct([*found, *(parse_variant(text, settings, names) for text in texts)])


def _run(
    answering: _Answering,
    task: Task,
    items: Sequence[Item],
    variants: Sequence[Variant],
    store: Store,
    interrupt: Interrupt,
) -> tuple[list[Result], bool]:
    """All results in the order of the questions, and whether Ctrl-C ended the run."""
    results: list[Result] = []
    stopped = False
    known = set(store.results)
    n_left = len(items) * len(variants) - len(known)
    stderr = sys.stderr
    with click.progressbar(
        length=n_left,
        label="Answering",
        file=stderr,
        hidden=not (n_left and stderr.isatty()),
        show_pos=True,
    ) as bar:
        try:
            for result in answering.run(
                task, items, variants, store, is_cancelled=interrupt.is_set
            ):
                results.append(result)
                if (result.variant, result.item) not in known:
                    bar.update(1)
        except Cancelled:
            stopped = True
    # Those of a cluster come as they are ready; neither table nor report may depend on that.
    place = {item.id: index for index, item in enumerate(items)}
    return sorted(results, key=lambda result: place[result.item]), stopped


def _show_known(store: Store, n_answers: int) -> None:
    if isinstance(store, FolderStore) and store.n_dropped:
        click.echo(
            "Note: the last saved answer is incomplete and will be computed again.", err=True
        )
    if store.results:
        click.echo(f"{len(store.results)} of {n_answers} answers are already saved.", err=True)


def _table(summary: Summary) -> str:
    rows: list[tuple[str, ...]] = [_HEAD]
    for row in summary.rows:
        share, versus = row.accuracy, row.versus
        interval = f"({100 * share.low:.1f}-{100 * share.high:.1f})"
        rows.append(
            (
                row.variant,
                f"{html.percent(share.value)} {interval}",
                f"+{versus.won}/-{versus.lost}" if versus else "",
                html.p_value(versus.p_value) if versus else "",
                f"{row.bytes_per_s:.0f}" if row.bytes_per_s is not None else "",
                html.wins(row),
            )
        )
    head = f"{summary.task}: {summary.n_items} questions"
    remarks = _remarks(summary)
    if isinstance(summary, WordSummary):
        head = f"{summary.task}: {summary.n_words} words of {summary.n_items} texts"
        remarks = references.remarks(summary)
        rows = [(*row[:_NO_SPEED], *row[_NO_SPEED + 1 :]) for row in rows]
    if summary.best_alone is not None:
        head += f"; won/lost and p against {summary.best_alone}, the best source alone"
    return "\n".join([head, *columns.lines(rows), *remarks])


def _remarks(summary: Summary) -> list[str]:
    """What a reader should know before trusting the table."""
    cut = [f"{row.variant} {row.n_cut}" for row in summary.rows if row.n_cut]
    no_room = [f"{row.variant} {row.n_no_room}" for row in summary.rows if row.n_no_room]
    remarks = []
    if cut:
        remarks.append(f"cut short (--max-tokens, or repetition): {', '.join(cut)}")
    if no_room:
        remarks.append(
            f"prompts that do not fit (--context), counted as wrong: {', '.join(no_room)}"
        )
    return remarks
