"""Where a source may run: what it asks of a node, and why no node has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cf_local.cluster.connection import Node


@dataclass(frozen=True, slots=True)
class Placement:
    """What a source asks of its node; Ray looks for one, and counts what it has given away.

    ``num_cpus`` and ``num_gpus`` are numbers of cores and GPUs, ``memory`` is in bytes,
    ``resources`` are what an administrator has named (``ray start --resources``), and the node must
    have the ``labels``. ``round_trip_ms`` is what a message there and back takes: it is added to
    the costs of passes, from which it follows who writes ahead.
    """

    num_cpus: float = 0
    num_gpus: float = 0
    memory: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    round_trip_ms: float = 0

    def options(self) -> dict[str, Any]:
        """The options of a Ray actor."""
        options: dict[str, Any] = {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            # Sources that compute at the same time are better off on different nodes.
            "scheduling_strategy": "SPREAD",
        }
        if self.memory:
            options["memory"] = self.memory
        if self.resources:
            options["resources"] = dict(self.resources)
        if self.labels:
            options["label_selector"] = dict(self.labels)
            del options["scheduling_strategy"]  # Ray takes one or the other
        return options

    @property
    def wants(self) -> Mapping[str, float]:
        """The resources by Ray's names, without those of which nothing is wanted."""
        asked = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": float(self.memory)}
        return {name: n for name, n in {**asked, **self.resources}.items() if n}

    def lacking(self, node: Node, *, free: bool = False) -> list[str]:
        """What a node lacks in all, or with ``free`` of what is free now; empty if it will do."""
        has = node.available if free else node.total
        lacks = [
            f"{amount(name, n)} (it has {amount(name, has.get(name, 0))})"
            for name, n in self.wants.items()
            if has.get(name, 0) < n
        ]
        wrong = [f"the label {k}={v}" for k, v in self.labels.items() if node.labels.get(k) != v]
        return lacks + wrong

    def refusal(self, name: str, nodes: Sequence[Node], *, free: bool = False) -> str | None:
        """Why no node can take the source ``name``; None if one can."""
        lacking = {node.name: self.lacking(node, free=free) for node in nodes}
        if any(not lacks for lacks in lacking.values()):
            return None
        reasons = "; ".join(f"{node} lacks {', '.join(lacks)}" for node, lacks in lacking.items())
        now = " now" if free else ""
        return (
            f"{name}: no node of the cluster can take it{now}: {reasons or 'there are none'}. "
            "Change `ray` of the source in models.toml, or add a node."
        )


def amount(name: str, n: float) -> str:
    """An amount of a resource for a reader."""
    return f"{n / 1e9:.1f} GB of memory" if "memory" in name else f"{n:g} {name}"
