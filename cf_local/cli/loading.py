"""Loads what the options of a command select, and reports progress."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from cf_local.cli.fetching import fetch_missing
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.options import check_weights, chosen_models
from cf_local.cli.status import StatusLine
from cf_local.registry.registry import SourceSpec, load_registry
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import Prompt

if TYPE_CHECKING:
    from cf_local.evaluation.cluster_run import ClusterRun
    from cf_local.loading.load_options import LoadOptions


@contextmanager
def loaded(
    interrupt: Interrupt,
    options: dict[str, Any],
    *,
    alone: bool = False,
    prompt: Prompt | None = None,
) -> Iterator[Fusion]:
    """The loaded fusion, closed at the end. Shows progress and notices on stderr.

    Ctrl-C ends the load or the answer. Removes the values of ``model_options`` from ``options``.
    With ``alone``, where one source writes alone, the others are not loaded, and their weights
    are removed. A ``prompt`` that is too long is refused before the load. Raises what loading
    raises, and InputError for weights of unknown sources.
    """
    # Imported here: it loads the native library, which `--help` need not wait for.
    from cf_local.loading import load

    specs, settings, how = _chosen(options)
    if alone and (name := _name_alone(settings, options, specs[0].name)) is not None:
        specs, settings = load.alone(specs, settings, name)
        options["weights"] = None
    with StatusLine() as line:
        opened = load.load_chosen(
            specs,
            settings,
            options=how,
            is_cancelled=interrupt.is_set,
            on_progress=lambda share: line.show("Loading", share),
            on_notice=line.note,
            fetch=partial(fetch_missing, offline=how.offline, is_cancelled=interrupt.is_set),
            prompt=prompt,
        )
    with opened, interrupt.calls(opened.cancel):
        yield opened


@contextmanager
def spread(interrupt: Interrupt, options: dict[str, Any], address: str) -> "Iterator[ClusterRun]":
    """Like ``loaded``, but workers on the nodes of a Ray cluster load the models.

    Raises ClusterError for a cluster that cannot be reached, too.
    """
    from cf_local.cluster.connection import connect
    from cf_local.evaluation.cluster_run import ClusterRun

    specs, settings, how = _chosen(options)
    with connect(address) as cluster, StatusLine() as line:
        workers = ClusterRun(
            cluster.nodes(),
            specs,
            settings,
            options=how,
            is_cancelled=interrupt.is_set,
            on_progress=lambda share: line.show(f"Loading on {address}", share),
            on_notice=line.note,
        )
        line.clear()
        with workers:
            yield workers


def _chosen(options: dict[str, Any]) -> "tuple[list[SourceSpec], Settings, LoadOptions]":
    """The models that ``options`` choose, and how to load them; removes what it uses of them.

    Raises what choosing raises, and InputError for weights of unknown sources.
    """
    from cf_local.loading.load import choose
    from cf_local.loading.load_options import LoadOptions

    specs, settings = choose(load_registry(), *chosen_models(options))
    check_weights(options.get("weights"), [spec.name for spec in specs])
    given = [key.name for key in fields(LoadOptions) if key.name in options]
    return specs, settings, LoadOptions(**{name: options.pop(name) for name in given})


def _name_alone(settings: Settings, options: Mapping[str, Any], first: str) -> str | None:
    """The source that writes alone; None if the mode is not "single"."""
    given = {key: options[key] for key in ("mode", "only") if options[key] is not None}
    settings = settings.with_options(given)
    return (settings.only or first) if settings.mode == "single" else None
