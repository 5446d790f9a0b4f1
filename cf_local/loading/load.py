"""The composition root: names of models in, a loaded Fusion out."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cf_local import hub
from cf_local.errors import Cancelled, InputError
from cf_local.llama.devices import devices
from cf_local.llama.header import check_file
from cf_local.llama.loaded import threads_for
from cf_local.llama.source import LlamaSource
from cf_local.loading.fit import FitOptions, check_devices, fit, n_forks, wish_of
from cf_local.loading.placement import Overlap, known_costs
from cf_local.planning.plan import Wish
from cf_local.progress import IsCancelled, Progress, never
from cf_local.registry.names import distinct, spec_of
from cf_local.registry.registry import Registry, SourceSpec, load_registry
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import DeviceChoice, KvType

_log = logging.getLogger(__name__)
_PROGRESS_S = 0.05  # from one report of progress to the next

PLAIN_STOP = "\nUser:"
"""Where a model without a chat template would begin to write the next turn of the user."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load, over what models.toml says; None leaves it as it is there.

    ``fit`` plans the arrangement that fits into memory (see docs/memory.md), of which at most
    ``memory_bytes`` may be used; without it everything is loaded as it is asked for. ``overlap``
    lets sources work at the same time; None lets measurement decide. ``n_threads`` None takes all
    cores that other processes leave.
    ``n_conversations`` are answered at once, in turn, and kept in the caches: each takes as much
    memory for its cache as a single one.
    """

    n_ctx: int | None = None
    n_threads: int | None = None
    overlap: bool | None = None
    n_gpu_layers: int | None = None
    offline: bool = False
    device: DeviceChoice | None = None
    kv_type: KvType | None = None
    memory_bytes: int | None = None
    fit: bool = True
    n_conversations: int = 1


def load(
    fusion: str | None = None,
    *,
    models: Sequence[str | Path] = (),
    options: LoadOptions | None = None,
    is_cancelled: IsCancelled = never,
    on_progress: Progress | None = None,
    on_notice: Callable[[str], None] = _log.warning,
    fetch: Callable[[Sequence[SourceSpec]], None] | None = None,
) -> Fusion:
    """Load the fusion of that name (default: the built-in one), or the ``models`` instead.

    A model is an alias of models.toml, ``org/repo[:QUANT]`` of the hub, or the path of a .gguf
    file; what is not here is downloaded. ``on_progress`` hears the loaded share (0 to 1),
    ``on_notice`` what the user should know. ``fetch`` may bring the models here before they are
    looked for, once it is known that they fit into memory. Raises ConfigError, MissingModelError,
    BrokenModelError, OutOfMemoryError, or Cancelled once ``is_cancelled`` turned true.
    """
    specs, settings = choose(load_registry(), fusion, models)
    return load_chosen(
        specs,
        settings,
        options=options,
        is_cancelled=is_cancelled,
        on_progress=on_progress,
        on_notice=on_notice,
        fetch=fetch,
    )


def load_chosen(
    specs: Sequence[SourceSpec],
    settings: Settings,
    *,
    options: LoadOptions | None = None,
    is_cancelled: IsCancelled = never,
    on_progress: Progress | None = None,
    on_notice: Callable[[str], None] = _log.warning,
    fetch: Callable[[Sequence[SourceSpec]], None] | None = None,
) -> Fusion:
    """As ``load``, of what ``choose`` returned."""
    options = options or LoadOptions()
    hows = _arranged(specs, options, on_notice, is_cancelled)  # before any download
    if fetch is not None:
        fetch(specs)
    # All files first: a missing one is told before minutes of loading.
    paths = [_locate(spec, options.offline, is_cancelled) for spec in specs]
    for path in paths:
        check_file(path)
    loads = [
        partial(_open, spec, path, how, len(specs), options)
        for spec, path, how in zip(specs, paths, hows, strict=True)
    ]
    sizes = [path.stat().st_size for path in paths]
    with ExitStack() as opened:
        sources = _together(loads, sizes, is_cancelled, on_progress)
        for source in sources:
            opened.callback(source.close)
        plain = [source.info.name for source in sources if not source.has_template]
        if plain:
            on_notice(
                f"{', '.join(plain)}: no chat template in the file; using 'User: / Assistant:'."
            )
            settings = replace(settings, stop=(*settings.stop, PLAIN_STOP))
        n_threads = [options.n_threads or spec.threads for spec in specs]
        loaded = _fused(sources, settings, options.overlap, Overlap(paths, n_threads))
        opened.pop_all()
    return loaded


def _fused(
    sources: Sequence[LlamaSource], settings: Settings, overlap: bool | None, known: Overlap
) -> Fusion:
    """The fusion; whether its sources overlap is found out after an answer if nobody knows it."""
    if overlap is None:
        overlap = known.pays if len(sources) > 1 else False
    loaded = Fusion(sources, settings, overlap=bool(overlap))
    if overlap is None:
        loaded.after_answer(lambda: known.measure(sources))
    return loaded


def choose(
    registry: Registry, fusion: str | None, models: Sequence[str | Path]
) -> tuple[list[SourceSpec], Settings]:
    """The sources to load and the settings that go with them; as ``load`` says."""
    if models:
        if fusion is not None:
            raise InputError("Name a fusion or models, not both.")
        return distinct([spec_of(registry, model) for model in models]), Settings()
    spec = registry.fusion(fusion)
    return [registry.source(name) for name in spec.sources], spec.settings


def _together(
    loads: Sequence[Callable[[IsCancelled, Progress], LlamaSource]],
    sizes: Sequence[int],
    is_cancelled: IsCancelled,
    on_progress: Progress | None,
) -> list[LlamaSource]:
    """What all ``loads`` return: a load keeps one core busy, so they are done at the same time.

    ``on_progress`` is told in this thread, and by the ``sizes`` of the files. If one fails, the
    others are given up, and the first error is raised.
    """
    shares, stopping = [0.0] * len(loads), threading.Event()

    def work(index: int) -> LlamaSource:
        def heard(share: float) -> None:
            shares[index] = share

        try:
            return loads[index](lambda: stopping.is_set() or is_cancelled(), heard)
        except BaseException:
            stopping.set()
            raise

    with ThreadPoolExecutor(len(loads)) as pool:
        running = [pool.submit(work, index) for index in range(len(loads))]
        try:
            while wait(running, timeout=_PROGRESS_S).not_done:
                if on_progress is not None:
                    done = sum(size * share for size, share in zip(sizes, shares, strict=True))
                    on_progress(done / sum(sizes))
        except BaseException:
            stopping.set()
            wait(running)
            _close(running)
            raise
    failed = [error for each in running if (error := each.exception())]
    if failed:
        _close(running)
        raise next((e for e in failed if not isinstance(e, Cancelled)), failed[0])
    if on_progress is not None:
        on_progress(1.0)
    return [each.result() for each in running]


def _close(loads: Sequence[Future[LlamaSource]]) -> None:
    for load_ in loads:
        if load_.exception() is None:
            load_.result().close()


def _locate(spec: SourceSpec, offline: bool, is_cancelled: IsCancelled) -> Path:
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


class _How(NamedTuple):
    """How one source is loaded."""

    n_ctx: int
    kv_type: KvType
    n_gpu_layers: int
    devices: tuple[str, ...] | None


def _open(
    spec: SourceSpec,
    path: Path,
    how: _How,
    n_sources: int,
    options: LoadOptions,
    is_cancelled: IsCancelled,
    on_progress: Progress,
) -> LlamaSource:
    return LlamaSource(
        spec.name,
        path,
        n_ctx=how.n_ctx,
        n_forks=n_forks(n_sources),
        n_seats=options.n_conversations,
        n_threads=options.n_threads or spec.threads,
        n_gpu_layers=how.n_gpu_layers,
        devices=how.devices,
        kv_type=how.kv_type,
        template=spec.template,
        costs=known_costs(path, options.n_threads or spec.threads or threads_for(path)),
        is_cancelled=is_cancelled,
        on_progress=on_progress,
    )


def _arranged(
    specs: Sequence[SourceSpec],
    options: LoadOptions,
    on_notice: Callable[[str], None],
    is_cancelled: IsCancelled,
) -> list[_How]:
    """As the plan says; OutOfMemoryError, which says what would fit, when the set does not."""
    if not options.fit:
        wishes = [wish_of(spec, fit_options(options)) for spec in specs]
        check_devices([wish.device for wish in wishes], devices())
        return [_as_wished(wish) for wish in wishes]
    fitted = fit(specs, fit_options(options), is_cancelled)
    fitted.check()
    if fitted.is_notable:
        on_notice(f"{fitted.summary()}.")
    return [
        _How(
            each.n_ctx,
            each.kv_type,
            each.n_gpu_layers,
            (each.device,) if each.device else (),
        )
        for each in fitted.plan.arrangements
    ]


def _as_wished(wish: Wish) -> _How:
    n_gpu_layers = -1 if wish.n_gpu_layers is None else wish.n_gpu_layers
    return _How(wish.n_ctx, wish.kv_types[0], n_gpu_layers, () if wish.device == "cpu" else None)


def fit_options(options: LoadOptions) -> FitOptions:
    """What of the options concerns the plan."""
    return FitOptions(**{key.name: getattr(options, key.name) for key in fields(FitOptions)})
