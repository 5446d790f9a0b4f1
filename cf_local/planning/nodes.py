"""The nodes of a cluster, what a source asks of one, and why none has it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster; ``total`` and ``available`` are its resources by name.

    Ray counts "CPU", "GPU", bytes of "memory", and what an administrator has named.
    """

    id: str
    name: str
    address: str
    total: Mapping[str, float]
    available: Mapping[str, float]
    labels: Mapping[str, str]


def share_of_gpus(node: Node, n: int) -> float:
    """The GPUs of a node for each of ``n`` equal parts: a whole number, or a part of one GPU."""
    share = node.total.get("GPU", 0.0) / n
    return float(int(share)) if share > 1 else share


@dataclass(frozen=True, slots=True)
class Placement:
    """What a source asks of its node; Ray looks for one, and counts what it has given away.

    ``num_cpus`` and ``num_gpus`` are numbers of cores and GPUs, ``memory`` is in bytes,
    ``resources`` are what an administrator has named (``ray start --resources``), and the node must
    have the ``labels``. ``round_trip_ms`` is what a message there and back takes: it is added to
    the costs of passes, which decide who writes ahead.
    """

    num_cpus: float = 0
    num_gpus: float = 0
    memory: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    round_trip_ms: float = 0

    @property
    def wants(self) -> Mapping[str, float]:
        """The resources by Ray's names, without those that are not wanted."""
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


def best_node(
    placement: Placement,
    nodes: Sequence[Node],
    n_taken: Mapping[str, int],
    *,
    avoid: str = "",
    wished: str = "",
) -> Node | None:
    """The node for a source: of those that can take it now, one with the fewest of our sources.

    Sources that compute at the same time are better off on different nodes. ``n_taken`` counts them
    by the node's id; the node ``avoid`` comes last, ``wished`` first. None where no node has enough
    that is free.
    """
    able = [node for node in nodes if not placement.lacking(node, free=True)]

    def order(node: Node) -> tuple[bool, bool, int, float, str]:
        memory = node.available.get("memory", 0.0)
        last, first = node.id == avoid, node.id == wished
        return last, not first, n_taken.get(node.id, 0), -memory, node.name

    return min(able, key=order, default=None)


def assigned(
    placements: Sequence[Placement], nodes: Sequence[Node], n_taken: Mapping[str, int]
) -> list[Node | None]:
    """The node for each of several sources, one after the other, as ``best_node`` chooses it."""
    left, n_taken = {node.id: node for node in nodes}, Counter(n_taken)
    found = []
    for placement in placements:
        node = best_node(placement, list(left.values()), n_taken)
        found.append(node)
        if node is not None:
            n_taken[node.id] += 1
            free = {name: n - placement.wants.get(name, 0) for name, n in node.available.items()}
            left[node.id] = replace(node, available=free)
    return found


def amount(name: str, n: float) -> str:
    """An amount of a resource for a reader."""
    return f"{n / 1e9:.1f} GB of memory" if "memory" in name else f"{n:g} {name}"
