"""One source on this machine: its file, its arrangement in memory, and the load.

The same code runs here and on the nodes of a cluster.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cf_local import hub
from cf_local.cluster.source import RaySource
from cf_local.llama.devices import devices
from cf_local.llama.load_work import LoadWork
from cf_local.llama.source import LlamaSource
from cf_local.llama.threads import threads_for
from cf_local.loading.fit import check_devices, fit, n_forks
from cf_local.loading.load_options import LoadOptions
from cf_local.loading.placement import known_costs
from cf_local.planning.plan import Arrangement
from cf_local.progress import IsCancelled, Progress
from cf_local.registry.registry import SourceSpec


class SourceLoad(NamedTuple):
    """A load that is yet to run, and the seconds that it may take, compared with others."""

    total_s: float
    run: Callable[[IsCancelled, Progress], LlamaSource | RaySource]


def open_here(
    spec: SourceSpec, path: Path, arrangement: Arrangement, n_sources: int, options: LoadOptions
) -> SourceLoad:
    """The load of a source of a fusion of ``n_sources`` in this process, as it was arranged."""
    work = work_of(path, arrangement, options.n_conversations)
    how = (spec, path, arrangement, n_sources, options, work)
    return SourceLoad(work.total_s, partial(open_source, *how))


def located(spec: SourceSpec, offline: bool, is_cancelled: IsCancelled) -> Path:
    """The file of a source, downloaded if it is not here. Raises MissingModelError."""
    if spec.local_path is not None:
        return spec.local_path
    assert spec.repo is not None
    return hub.locate(
        spec.repo,
        spec.file,
        spec.revision,
        quant=spec.quant,
        offline=offline,
        is_cancelled=is_cancelled,
    )


def arranged(
    specs: Sequence[SourceSpec],
    options: LoadOptions,
    on_notice: Callable[[str], None],
    is_cancelled: IsCancelled,
    *,
    n_sources: int | None = None,
) -> Sequence[Arrangement]:
    """The arrangements, planned or as asked. Raises OutOfMemoryError if the set does not fit.

    The fusion has ``n_sources``, if others are elsewhere.
    """
    if not specs:
        return ()
    if not options.fit:
        wishes = [options.wish_of(spec) for spec in specs]
        check_devices([wish.device for wish in wishes], devices())
        return [wish.unplanned(spec.name) for spec, wish in zip(specs, wishes, strict=True)]
    fitted = fit(specs, options, is_cancelled, n_sources=n_sources)
    fitted.check()
    if fitted.is_notable:
        on_notice(f"{fitted.summary()}.")
    return fitted.plan.arrangements


def work_of(path: Path, arrangement: Arrangement, n_contexts: int) -> LoadWork:
    """What it takes to load a model as arranged."""
    is_planned = arrangement.n_layers > 0
    return LoadWork.of(
        path,
        n_moved=arrangement.copied + arrangement.gpu.weights if is_planned else None,
        n_cleared=arrangement.main.cache + arrangement.gpu.cache,
        n_contexts=n_contexts,
    )


def open_source(
    spec: SourceSpec,
    path: Path,
    arrangement: Arrangement,
    n_sources: int,
    options: LoadOptions,
    work: LoadWork,
    is_cancelled: IsCancelled,
    on_progress: Progress,
) -> LlamaSource:
    """Load a source of a fusion of ``n_sources``. Raises what LlamaSource raises."""
    n_threads, gpus = options.n_threads_of(spec), arrangement.gpus
    return LlamaSource(
        spec.name,
        path,
        n_ctx=arrangement.n_ctx,
        n_forks=n_forks(n_sources),
        n_sessions=options.n_conversations,
        n_threads=n_threads,
        n_gpu_layers=arrangement.n_gpu_layers,
        devices=None if gpus is None else [each.device for each in gpus],
        split=[each.n_layers for each in gpus or ()],
        kv_type=arrangement.kv_type,
        template=spec.template,
        costs=known_costs(path, n_threads or threads_for(path)),
        work=work,
        is_cancelled=is_cancelled,
        on_progress=on_progress,
    )
