"""A real Ray cluster of several nodes on loopback, and sources that its actors load."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cf_local.cluster.connection import connect
from cf_local.cluster.host import Host
from cf_local.cluster.source import RaySource
from cf_local.llama.source import LlamaSource
from cf_local.llama.state_key import fingerprint_of
from cf_local.llama.texts import VocabularyCopy
from cf_local.planning.nodes import Placement
from cf_local.progress import IsCancelled, Progress
from cf_local.testing import PieceVocabulary, Script, ScriptedSource

ROOT = Path(__file__).parents[2]
SYSTEM: Mapping[str, Any] = {
    # Dead nodes are noticed in seconds; a busy machine must not look dead.
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 20,
    "memory_monitor_refresh_ms": 0,
}


@dataclass(frozen=True)
class OpensTiny:
    """Loads a tiny model."""

    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = "s"

    def __call__(self, is_cancelled: IsCancelled, on_progress: Progress) -> LlamaSource:
        return LlamaSource(
            self.name,
            self.path,
            n_threads=1,
            is_cancelled=is_cancelled,
            on_progress=on_progress,
            **self.options,
        )

    def fingerprint(self) -> str | None:
        return fingerprint_of(self.path)

    def copy(self, fingerprint: str) -> VocabularyCopy:
        assert fingerprint == self.fingerprint()
        return VocabularyCopy(self.name, self.path)


@dataclass(frozen=True)
class OpensScripted:
    """Makes a scripted source; its vocabulary is nowhere else."""

    pieces: tuple[str | bytes, ...]
    script: Script
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = "s"

    def __call__(self, is_cancelled: IsCancelled, on_progress: Progress) -> ScriptedSource:
        return ScriptedSource(self.name, PieceVocabulary(self.pieces), self.script, **self.options)

    def fingerprint(self) -> str | None:
        return None


@contextmanager
def several_nodes(*names: str) -> Iterator[Any]:
    """A cluster with a node of each name, one core each; the first is its head."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback alone; read by each import
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    folder = tempfile.mkdtemp(prefix="cf-")  # sockets have short paths
    os.environ["RAY_TMPDIR"] = folder
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(p for p in sys.path if "tests" in p)])
    import ray
    from ray.cluster_utils import Cluster as Nodes

    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    nodes = Nodes()
    try:
        for index, name in enumerate(names):
            add_node(nodes, name, is_head=not index)
        yield nodes
    finally:
        nodes.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def add_node(nodes: Any, name: str, *, is_head: bool = False) -> Any:
    """A node that has one of the resource of its name, which is also its zone."""
    how: dict[str, Any] = {"_system_config": dict(SYSTEM)} if is_head else {}
    return nodes.add_node(
        node_ip_address="127.0.0.1",
        node_name=name,
        resources={name: 1.0},
        labels={"zone": name},
        num_cpus=2,
        include_dashboard=False,
        **how,
    )


class Reused(Host):
    """A host whose actor serves one source after the other: starting a process takes a second."""

    idle: ClassVar[list[Any]] = []

    def _started(self) -> Any:
        return self.idle.pop() if self.idle else super()._started()

    def kill(self) -> None:
        self.idle.append(self._actor)


def open_in_actor(address: str, opener: OpensTiny | OpensScripted, **how: Any) -> RaySource:
    """The source in an actor on some node."""
    copy = opener.copy if isinstance(opener, OpensTiny) else None
    given = how if copy is None else {"copy": copy, **how}
    placement = given.pop("placement", Placement())
    return RaySource(connect(address), opener.name, opener, placement, **given)
