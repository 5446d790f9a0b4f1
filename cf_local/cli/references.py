"""Walks along reference texts, for ``eval`` and ``calibrate``: options, progress, results."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cf_local.cli.interrupt import Interrupt
from cf_local.cli.options import is_flag_given, settings_of
from cf_local.errors import Cancelled
from cf_local.evaluation import (
    Item,
    Variant,
    Walk,
    WalkFolder,
    WalkStore,
    WordSummary,
    alone,
    distinct,
    parse_variant,
    record_of_walks,
    walk_settings,
    walks,
)
from cf_local.evaluation import report as html
from cf_local.evaluation.store import Record
from cf_local.evaluation.walk import check_variant
from cf_local.runtime.fusion import Fusion
from cf_local.settings import OPTIONS, Settings

_USED = {"mode", "only", "score", "weights", "segments", "segment_limit", "seed"}
_WITHOUT_EFFECT = {"speculation", "all_scores"}  # on any text


def refuse_unused(options: dict[str, Any]) -> None:
    """Raise UsageError for an option of answers that plays no part on a walk."""
    context = click.get_current_context()
    fitting = _USED | _WITHOUT_EFFECT
    names = [name for name in OPTIONS if name not in fitting and is_flag_given(context, name)]
    if options.get("mode") not in (None, "cool", "single"):
        names.append("mode")
    if names:
        flags = ", ".join("--" + name.replace("_", "-") for name in names)
        raise click.UsageError(
            f"{flags}: not for reference texts, where no answers are written; mode cool or a "
            "source alone chooses each word."
        )


def settings_on_walk(fusion: Fusion, options: dict[str, Any]) -> Settings:
    """The settings of a walk, with a note on those of the fusion that play no part."""
    names = [source.info.name for source in fusion.sources]
    given = settings_of(fusion.settings, names, options)
    settings = walk_settings(given)
    if not given.is_final_as_written:
        click.echo(f"Note: reference texts show mode cool, not {given.mode}.", err=True)
    if given.segment_words != settings.segment_words:
        click.echo("Note: reference texts are compared word by word (segment_words 1).", err=True)
    if given.sampling.temperature:
        click.echo("Note: on reference texts nothing is sampled (temperature 0).", err=True)
    return settings


def variants_of(
    fusion: Fusion, settings: Settings, texts: Sequence[str], options: dict[str, Any]
) -> list[Variant]:
    """Each source alone, ``cool``, and the variants of the command line."""
    names = [source.info.name for source in fusion.sources]
    only = options["only"]
    found = alone(settings, names if only is None else [only])
    if only is None and options["mode"] != "single":
        found.append(Variant("cool", settings))
    found += [parse_variant(text, settings, names) for text in texts]
    for variant in found:
        check_variant(variant, settings)
        fusion.of(variant.sources or names, variant.settings)  # raises if they do not match
    return distinct(found)


@contextmanager
def opened_store(
    record: Record, items: Sequence[Item], settings: Settings, out: Path | None, *, resume: bool
) -> Iterator[WalkStore]:
    """The walks so far, of the folder ``out`` if there is one; ``record`` is that of the run."""
    if out is None:
        yield WalkStore()
        return
    with WalkFolder(out, record_of_walks(record, settings), items, resume=resume) as store:
        if store.n_dropped:
            click.echo("Note: the last saved text is incomplete and will be read again.", err=True)
        if store.walks:
            click.echo(f"{len(store.walks)} of {len(items)} texts are already saved.", err=True)
        yield store


def walked(
    fusion: Fusion,
    items: Sequence[Item],
    settings: Settings,
    store: WalkStore,
    interrupt: Interrupt,
) -> tuple[list[Walk], bool]:
    """The walks along all texts, and whether Ctrl-C ended them early."""
    found: list[Walk] = []
    is_shown = len(store.walks) < len(items) and sys.stderr.isatty()
    with click.progressbar(
        length=len(items), label="Reading", file=sys.stderr, hidden=not is_shown, show_pos=True
    ) as bar:
        try:
            for walk in walks(fusion, items, settings, store, is_cancelled=interrupt.is_set):
                found.append(walk)
                bar.update(1)
        except Cancelled:
            return found, True
    return found, False


def remarks(summary: WordSummary) -> list[str]:
    """What all sources together could reach, and what was left out."""
    found = [
        f"any source right, the ceiling of fusing: {html.percent(summary.ceiling.value)} of words",
        f"all sources agree on {html.percent(summary.agreed.value)} of words",
    ]
    if summary.n_cut:
        found.append(f"texts read only as far as the context (--context) goes: {summary.n_cut}")
    if summary.n_no_room:
        found.append(f"texts whose prompt does not fit (--context), left out: {summary.n_no_room}")
    return found
