"""The composition root: names of models in, a loaded Fusion out."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from cf_local.cluster.source import RaySource
from cf_local.errors import Cancelled, InputError
from cf_local.llama.header import check_file
from cf_local.llama.room import check_before_load
from cf_local.llama.source import LlamaSource
from cf_local.loading.load_options import LoadOptions
from cf_local.loading.on_ray import open_on_ray
from cf_local.loading.opening import SourceLoad, arranged, located, open_here
from cf_local.loading.placement import MeasuredOverlap
from cf_local.planning.plan import Arrangement
from cf_local.progress import IsCancelled, Progress, never
from cf_local.registry.model_names import distinct, spec_of
from cf_local.registry.registry import Registry, SourceSpec, load_registry
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import Prompt, SourceInfo, text_of

_log = logging.getLogger(__name__)
_DOMINANT = 2 / 3  # of all weight
_PROGRESS_S = 0.05  # from one report of progress to the next

PLAIN_STOP = "\nUser:"
"""Where a model without a chat template would go on to write the user's next turn."""


def load(
    fusion: str | None = None,
    *,
    models: Sequence[str | Path] = (),
    options: LoadOptions | None = None,
    is_cancelled: IsCancelled = never,
    on_progress: Progress | None = None,
    on_notice: Callable[[str], None] = _log.warning,
    fetch: Callable[[Sequence[SourceSpec]], None] | None = None,
    only: str | None = None,
) -> Fusion:
    """Load the fusion of that name (default: the built-in one), or the ``models`` instead.

    A model is an alias in models.toml, ``org/repo[:QUANT]`` on the hub, or the path of a .gguf
    file; missing files are downloaded. ``on_progress`` gets the share loaded so far (0 to 1),
    ``on_notice`` what the user should know. ``fetch`` may download the models before they are
    looked up; it is called once it is known that they fit into memory. ``only`` loads one of the
    sources alone. Raises ConfigError, InputError, MissingModelError, BrokenModelError,
    OutOfMemoryError, or Cancelled once ``is_cancelled`` returns true.
    """
    specs, settings = choose(load_registry(), fusion, models)
    if only is not None:
        specs, settings = alone(specs, settings, only)
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
    prompt: Prompt | None = None,
) -> Fusion:
    """Like ``load``, for what ``choose`` returned.

    A ``prompt`` that leaves no room for an answer is refused before the models are loaded, with
    the ContextError of an answer.
    """
    options = options or LoadOptions()
    here = [spec for spec in specs if not options.is_on_ray(spec)]
    arrangements = arranged(here, options, on_notice, is_cancelled, n_sources=len(specs))
    if fetch is not None:  # only now, as it may download
        fetch(here)
    # All files first: a missing one is reported before minutes of loading.
    paths = [located(spec, options.offline, is_cancelled) for spec in here]
    for path in paths:
        check_file(path)
    if prompt is not None:
        _check_room(prompt, settings.reserve_tokens, here, paths, arrangements)
    loads = open_on_ray([spec for spec in specs if spec not in here], len(specs), options)
    loads |= {
        spec.name: open_here(spec, path, arrangement, len(specs), options)
        for spec, path, arrangement in zip(here, paths, arrangements, strict=True)
    }
    with ExitStack() as opened:
        sources = _together([loads[spec.name] for spec in specs], is_cancelled, on_progress)
        for source in sources:
            opened.callback(source.close)
        settings = _settled(settings, sources, on_notice)
        n_threads = [options.n_threads_of(spec) for spec in here]
        loaded = _fused(sources, settings, options.overlap, MeasuredOverlap(paths, n_threads))
        opened.pop_all()
    return loaded


def _settled(
    settings: Settings,
    sources: Sequence[LlamaSource | RaySource],
    on_notice: Callable[[str], None],
) -> Settings:
    """The settings for these sources, and what the user should know of them."""
    plain = [source.info.name for source in sources if not source.has_template]
    if plain:
        on_notice(f"{', '.join(plain)}: no chat template in the file; using 'User: / Assistant:'.")
        settings = replace(settings, stop=(*settings.stop, PLAIN_STOP))
    if name := dominant(settings, [source.info for source in sources]):
        on_notice(
            f"{name} is much larger than the others; it will mostly write alone. "
            "`cf-local calibrate` measures whether the others help."
        )
    return settings


def _fused(
    sources: Sequence[LlamaSource | RaySource],
    settings: Settings,
    overlap: bool | None,
    known: MeasuredOverlap,
) -> Fusion:
    """The fusion. If it is unknown whether overlap pays, that is measured after an answer."""
    here = [source for source in sources if isinstance(source, LlamaSource)]
    if overlap is None:
        overlap = known.pays if len(here) > 1 else False
    loaded = Fusion(sources, settings, overlap=bool(overlap))
    if overlap is None:
        loaded.after_answer(lambda: known.measure(here))
    return loaded


def dominant(settings: Settings, sources: Sequence[SourceInfo]) -> str | None:
    """The source whose size gives it nearly all of the vote; None if there is none."""
    if settings.weights != "size" or len(sources) < 2:
        return None
    weights = settings.weights_of(sources)
    largest = max(weights)
    return sources[weights.index(largest)].name if largest > _DOMINANT * sum(weights) else None


def choose(
    registry: Registry, fusion: str | None, models: Sequence[str | Path]
) -> tuple[list[SourceSpec], Settings]:
    """The sources to load and their settings; see ``load``."""
    if models:
        if fusion is not None:
            raise InputError("Name a fusion or models, not both.")
        specs = distinct([spec_of(registry, model) for model in models])
        if embedding := [spec.name for spec in specs if spec.kind == "embedding"]:
            raise InputError(
                f"{', '.join(embedding)}: an embedding model turns texts into vectors and cannot "
                "write. It is for load_embedder() and the server's /v1/embeddings."
            )
        return specs, Settings()
    spec = registry.fusion(fusion)
    return [registry.source(name) for name in spec.sources], spec.settings


def alone(
    specs: Sequence[SourceSpec], settings: Settings, name: str
) -> tuple[list[SourceSpec], Settings]:
    """One of the sources that ``choose`` returned, and the settings without the others.

    Raises InputError if there is no such source.
    """
    names = [spec.name for spec in specs]
    if name not in names:
        raise InputError(f"No source is named {name!r}; the sources are {', '.join(names)}.")
    # A weight, and a choice between sources, have no meaning for one.
    return [specs[names.index(name)]], replace(settings, weights="equal", only=None)


def _check_room(
    prompt: Prompt,
    n_reserved: int,
    specs: Sequence[SourceSpec],
    paths: Sequence[Path],
    arrangements: Sequence[Arrangement],
) -> None:
    """Raise ContextError if a prompt is too long for a source.

    A prompt has at most as many tokens as bytes, so most need no look at a vocabulary.
    """
    n_bytes = len(text_of(prompt).encode(errors="replace")) + n_reserved
    checks = [
        partial(
            check_before_load,
            spec.name,
            path,
            prompt,
            n_reserved=n_reserved,
            n_ctx=arrangement.n_ctx,
            template=spec.template,
        )
        for spec, path, arrangement in zip(specs, paths, arrangements, strict=True)
        if n_bytes > arrangement.n_ctx
    ]
    with ThreadPoolExecutor(max(1, len(checks))) as pool:
        for checked in [pool.submit(check) for check in checks]:
            checked.result()


def _together(
    loads: Sequence[SourceLoad], is_cancelled: IsCancelled, on_progress: Progress | None
) -> list[LlamaSource | RaySource]:
    """What all ``loads`` return. A load keeps one core busy, so they run at the same time.

    ``on_progress`` is called in this thread; loads are weighted by the time that they take. If one
    fails, the others are stopped, and the first error is raised.
    """
    shares, stopping = [0.0] * len(loads), threading.Event()

    def work(index: int) -> LlamaSource | RaySource:
        def report(share: float) -> None:
            shares[index] = share

        try:
            return loads[index].run(lambda: stopping.is_set() or is_cancelled(), report)
        except BaseException:
            stopping.set()
            raise

    with ThreadPoolExecutor(len(loads)) as pool:
        running = [pool.submit(work, index) for index in range(len(loads))]
        try:
            while wait(running, timeout=_PROGRESS_S).not_done:
                if on_progress is not None:
                    done = zip(loads, shares, strict=True)
                    done_s = sum(load_.total_s * share for load_, share in done)
                    on_progress(done_s / sum(load_.total_s for load_ in loads))
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


def _close(loads: Sequence[Future[LlamaSource | RaySource]]) -> None:
    for load_ in loads:
        if load_.exception() is None:
            load_.result().close()
