"""Sources on the nodes of a Ray cluster: loaded there by the code that loads them here."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cf_local import hub
from cf_local.cluster.connection import Cluster, connect
from cf_local.cluster.host import n_taken
from cf_local.cluster.source import RaySource
from cf_local.errors import CfLocalError, ClusterError
from cf_local.llama.header import check_file
from cf_local.llama.source import LlamaSource
from cf_local.llama.state_key import fingerprint_of
from cf_local.llama.texts import VocabularyCopy
from cf_local.llama.threads import CORES
from cf_local.loading.load_options import LoadOptions
from cf_local.loading.opening import SourceLoad, arranged, located, open_source, work_of
from cf_local.planning.nodes import Node, Placement, assigned
from cf_local.planning.plan import Arrangement
from cf_local.progress import IsCancelled, Progress, never
from cf_local.registry.registry import SourceSpec

_START_S = 2.0  # until a process on a node has started
_BYTES_PER_S = 500e6
OWN_CLUSTER = "auto"
"""The cluster that this machine is part of."""


@dataclass(frozen=True)
class OnNode:
    """What a source would need on a node; ``problem`` says why it cannot be loaded there."""

    source: str
    node: Node | None
    arrangement: Arrangement | None = None
    problem: str | None = None


def plan_on_ray(
    specs: Sequence[SourceSpec], options: LoadOptions, n_sources: int
) -> tuple[list[OnNode], list[Node]]:
    """Which source goes to which node, what it needs there, and all nodes; loads nothing.

    They are sources of a fusion of ``n_sources``. Raises InputError and ClusterError as ``connect``
    does.
    """
    placements = [spec.ray or Placement() for spec in specs]
    with connect(options.ray or OWN_CLUSTER) as cluster:
        nodes = list(cluster.nodes())
        found = []
        for spec, placement, node in zip(
            specs, placements, assigned(placements, nodes, n_taken()), strict=True
        ):
            if node is None:
                why = placement.refusal(spec.name, nodes, free=True)
                found.append(
                    OnNode(spec.name, None, problem=why or f"{spec.name}: no room is left.")
                )
                continue
            opener = _opener(spec, placement, n_sources, options)
            try:
                arrangement = cluster.run_on(node, OpensOnNode.arranged, opener)
            except CfLocalError as error:
                problem = (
                    str(error) if isinstance(error, ClusterError) else f"Node {node.name}: {error}"
                )
                found.append(OnNode(spec.name, node, problem=problem))
            else:
                found.append(OnNode(spec.name, node, arrangement))
    return found, nodes


@dataclass(frozen=True)
class OpensOnNode:
    """Loads a source on the node that it was sent to. Nothing is downloaded there."""

    spec: SourceSpec
    n_sources: int
    options: LoadOptions

    def __call__(self, is_cancelled: IsCancelled, on_progress: Progress) -> LlamaSource:
        """The loaded source. Raises what a load raises."""
        path, arrangement = self._path(), self.arranged(is_cancelled)
        work = work_of(path, arrangement, self.options.n_conversations)
        source = open_source(
            self.spec,
            path,
            arrangement,
            self.n_sources,
            self.options,
            work,
            is_cancelled,
            on_progress,
        )
        CORES.take_turns()
        return source

    def arranged(self, is_cancelled: IsCancelled = never) -> Arrangement:
        """How it fits into the memory of this node. Raises what planning raises."""
        check_file(self._path())
        (found,) = arranged(
            [self.spec], self.options, _nobody, is_cancelled, n_sources=self.n_sources
        )
        return found

    def fingerprint(self) -> str | None:
        """Identifies the content of the file."""
        return fingerprint_of(self._path())

    def _path(self) -> Path:
        return located(self.spec, True, lambda: False)


def open_on_ray(
    specs: Sequence[SourceSpec], n_sources: int, options: LoadOptions
) -> dict[str, SourceLoad]:
    """The loads of sources of a fusion of ``n_sources`` on the nodes that ``plan_on_ray`` shows."""
    nodes = _Assigned([spec.ray or Placement() for spec in specs])

    def load_of(index: int, spec: SourceSpec) -> SourceLoad:
        placement = spec.ray or Placement()
        opener = _opener(spec, placement, n_sources, options)

        def run(is_cancelled: IsCancelled, on_progress: Progress) -> RaySource:
            cluster = connect(options.ray or OWN_CLUSTER)
            try:
                node_id = nodes.of(cluster)[index]
            except BaseException:
                cluster.close()
                raise
            return RaySource(
                cluster,
                spec.name,
                opener,
                placement,
                copy=partial(_copy, spec),
                node_id=node_id,
                is_cancelled=is_cancelled,
                on_progress=on_progress,
            )

        return SourceLoad(_START_S + (spec.size_bytes or 0) / _BYTES_PER_S, run)

    return {spec.name: load_of(index, spec) for index, spec in enumerate(specs)}


class _Assigned:
    """The ids of the nodes for sources that are loaded at the same time, chosen once."""

    def __init__(self, placements: Sequence[Placement]) -> None:
        self._placements = placements
        self._lock = threading.Lock()
        self._ids: list[str] = []

    def of(self, cluster: Cluster) -> Sequence[str]:
        """One for each, empty where no node can take it now. Raises ClusterError."""
        with self._lock:
            if not self._ids:
                nodes = assigned(self._placements, cluster.nodes(), n_taken())
                self._ids = ["" if node is None else node.id for node in nodes]
            return self._ids


def _opener(
    spec: SourceSpec, placement: Placement, n_sources: int, options: LoadOptions
) -> OpensOnNode:
    spec = spec.portable()
    there = replace(
        options,
        n_threads=options.n_threads_of(spec) or int(placement.num_cpus) or None,
        n_gpu_layers=-1 if placement.num_gpus and spec.gpu_layers is None else options.n_gpu_layers,
        memory_bytes=placement.memory or None,
        offline=True,
        ray=None,
    )
    return OpensOnNode(spec, n_sources, there)


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
