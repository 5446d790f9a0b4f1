"""The composition root: names of models in, a loaded Fusion out."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from cf_local import hub
from cf_local.config import Registry, SourceSpec, load_registry
from cf_local.errors import InputError
from cf_local.fusion import Fusion
from cf_local.llama import LlamaSource
from cf_local.placement import measure
from cf_local.source import IsCancelled, Progress, never, share_of
from cf_local.types import Settings
from cf_local.worker import Worker

_log = logging.getLogger(__name__)

PLAIN_STOP = "\nUser:"
"""Where a model without a chat template would begin to write the next turn of the user."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load, over what models.toml says; None leaves it as it is there.

    ``overlap`` lets sources work at the same time; None, like None for ``n_threads``, lets
    measurement decide. ``n_conversations`` are answered at once, in turn, and kept in the caches:
    each takes as much memory for its cache as a single one.
    """

    n_ctx: int | None = None
    n_threads: int | None = None
    overlap: bool | None = None
    n_gpu_layers: int | None = None
    offline: bool = False
    n_conversations: int = 1


def load(
    fusion: str | None = None,
    *,
    models: Sequence[str | Path] = (),
    options: LoadOptions | None = None,
    is_cancelled: IsCancelled = never,
    on_progress: Progress | None = None,
    on_notice: Callable[[str], None] = _log.warning,
) -> Fusion:
    """Load the fusion of that name (default: the built-in one), or the ``models`` instead.

    A model is an alias of models.toml or the path of a .gguf file. ``on_progress`` hears the loaded
    share (0 to 1), ``on_notice`` what the user should know. Raises ConfigError, MissingModelError,
    BrokenModelError, OutOfMemoryError, or Cancelled once ``is_cancelled`` turned true.
    """
    registry = load_registry()
    specs, settings = _choose(registry, fusion, models)
    options = options or LoadOptions()
    # All files first: a missing one is told before minutes of loading.
    paths = [_locate(spec, offline=options.offline) for spec in specs]
    with ExitStack() as opened:
        sources = []
        for index, (spec, path) in enumerate(zip(specs, paths, strict=True)):
            source = LlamaSource(
                spec.name,
                path,
                n_ctx=options.n_ctx or spec.context,
                n_forks=len(specs) + 1,  # every other source's candidate, and the fused answer
                n_seats=options.n_conversations,
                n_threads=options.n_threads or spec.threads,
                n_gpu_layers=_first_given(options.n_gpu_layers, spec.gpu_layers),
                template=spec.template,
                is_cancelled=is_cancelled,
                on_progress=share_of(on_progress, index, len(specs)),
            )
            opened.callback(source.close)
            sources.append(source)
        plain = [source.info.name for source in sources if not source.has_template]
        if plain:
            on_notice(
                f"{', '.join(plain)}: no chat template in the file; using 'User: / Assistant:'."
            )
            settings = replace(settings, stop=(*settings.stop, PLAIN_STOP))
        worker = Worker()
        opened.callback(worker.close)
        fixed_threads = [bool(options.n_threads or spec.threads) for spec in specs]
        # Where all passes will be: OpenMP keeps a pool of threads for every thread that has some.
        placement = worker.call(
            lambda: measure(sources, fixed_threads=fixed_threads, overlap=options.overlap)
        )
        loaded = Fusion(
            sources, settings, overlap=placement.overlap, costs=placement.costs, worker=worker
        )
        opened.pop_all()
    return loaded


def _choose(
    registry: Registry, fusion: str | None, models: Sequence[str | Path]
) -> tuple[list[SourceSpec], Settings]:
    """The sources to load and the settings that go with them."""
    if models:
        if fusion is not None:
            raise InputError("Name a fusion or models, not both.")
        return _distinct([_spec_of(registry, model) for model in models]), Settings()
    spec = registry.fusion(fusion)
    settings = Settings(
        mode=spec.mode,
        score=spec.score,
        segments=spec.segments,
        segment_words=spec.segment_words,
        weighing=spec.weighing,
        weights=spec.weights,
    )
    return [registry.source(name) for name in spec.sources], settings


def _spec_of(registry: Registry, model: str | Path) -> SourceSpec:
    """An alias of the registry, or a path of the user's."""
    path = Path(model).expanduser()
    if str(model) in registry.sources or not (path.suffix == ".gguf" or len(path.parts) > 1):
        return registry.source(str(model))
    return SourceSpec(name=path.stem, file=str(path), origin="command line")


def _distinct(specs: Sequence[SourceSpec]) -> list[SourceSpec]:
    """The specs under different names: the second "model" becomes "model-2"."""
    named: dict[str, SourceSpec] = {}
    for spec in specs:
        candidates = (spec.name, *(f"{spec.name}-{n}" for n in range(2, len(specs) + 1)))
        name = next(name for name in candidates if name not in named)
        named[name] = replace(spec, name=name)
    return list(named.values())


def _locate(spec: SourceSpec, *, offline: bool) -> Path:
    if spec.local_path is not None:
        return spec.local_path
    assert spec.repo is not None
    return hub.locate(spec.repo, spec.file, spec.revision, offline=offline)


def _first_given(*values: int | None) -> int:
    """The first value that is not None; -1, all layers on the GPU if there is one, without any."""
    return next((value for value in values if value is not None), -1)
