"""Sources on the nodes of a Ray cluster: loaded there by the code that loads them here."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cf_local import hub
from cf_local.cluster.connection import connect
from cf_local.cluster.source import RaySource
from cf_local.errors import CfLocalError
from cf_local.llama.header import check_file
from cf_local.llama.source import LlamaSource
from cf_local.llama.state_key import fingerprint_of
from cf_local.llama.texts import VocabularyCopy
from cf_local.loading.load_options import LoadOptions
from cf_local.loading.opening import SourceLoad, arranged, located, open_source, work_of
from cf_local.planning.nodes import Placement
from cf_local.progress import IsCancelled, Progress
from cf_local.registry.registry import BUILTIN_PREFIX, SourceSpec

_START_S = 2.0  # until a process on a node has started
_BYTES_PER_S = 500e6
OWN_CLUSTER = "auto"
"""The cluster that this machine is part of."""


@dataclass(frozen=True)
class OpensOnNode:
    """Loads a source on the node that it was sent to. Nothing is downloaded there."""

    spec: SourceSpec
    n_sources: int
    options: LoadOptions

    def __call__(self, is_cancelled: IsCancelled, on_progress: Progress) -> LlamaSource:
        """The loaded source. Raises what a load raises."""
        path = self._path()
        check_file(path)
        (arrangement,) = arranged(
            [self.spec], self.options, _nobody, is_cancelled, n_sources=self.n_sources
        )
        work = work_of(path, arrangement, self.options.n_conversations)
        return open_source(
            self.spec,
            path,
            arrangement,
            self.n_sources,
            self.options,
            work,
            is_cancelled,
            on_progress,
        )

    def fingerprint(self) -> str | None:
        """Identifies the content of the file."""
        return fingerprint_of(self._path())

    def _path(self) -> Path:
        return located(self.spec, True, lambda: False)


def open_on_ray(spec: SourceSpec, n_sources: int, options: LoadOptions) -> SourceLoad:
    """The load of a source of a fusion of ``n_sources`` on a node of the cluster."""
    address, placement = options.ray or OWN_CLUSTER, spec.ray or Placement()
    # A path means the same file on all machines; it is relative to the folder here.
    local = spec.local_path
    if local is not None and not spec.file.startswith(BUILTIN_PREFIX):
        spec = replace(spec, file=os.path.abspath(local))  # noqa: PTH100 - links stay
    n_cores = int(placement.num_cpus)
    there = replace(
        options,
        n_threads=options.n_threads_of(spec) or n_cores or None,
        n_gpu_layers=-1 if placement.num_gpus and spec.gpu_layers is None else options.n_gpu_layers,
        memory_bytes=placement.memory or None,
        offline=True,
        ray=None,
    )

    def run(is_cancelled: IsCancelled, on_progress: Progress) -> RaySource:
        return RaySource(
            connect(address),
            spec.name,
            OpensOnNode(spec, n_sources, there),
            placement,
            copy=partial(_copy, spec),
            is_cancelled=is_cancelled,
            on_progress=on_progress,
        )

    return SourceLoad(_START_S + (spec.size_bytes or 0) / _BYTES_PER_S, run)


def _copy(spec: SourceSpec, fingerprint: str) -> VocabularyCopy | None:
    """The vocabulary of the same file, if this machine has it."""
    path = spec.local_path
    if spec.repo is not None:
        path = hub.cached(spec.repo, spec.file, spec.revision, spec.quant)
    try:
        if path is None or fingerprint_of(path) != fingerprint:
            return None
        return VocabularyCopy(spec.name, path, spec.template)
    except (OSError, CfLocalError):
        return None


def _nobody(_notice: str) -> None:
    """How a source was arranged on its node is of no interest here."""
