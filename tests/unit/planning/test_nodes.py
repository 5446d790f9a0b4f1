"""Which source goes to which node of a cluster, and why none will do."""

from __future__ import annotations

from collections.abc import Mapping

from cf_local.planning.nodes import Node, Placement, assigned, best_node


def node(name: str, free: Mapping[str, float], **labels: str) -> Node:
    total = {"CPU": 8.0, "memory": 64e9, **free}
    return Node(name, name, "10.0.0.1", total, {"CPU": 8.0, "memory": 64e9, **free}, labels)


A, B, C = node("a", {}), node("b", {"GPU": 1.0}), node("c", {"memory": 8e9}, zone="1")


def names(placements: list[Placement], nodes: list[Node]) -> list[str | None]:
    return [found and found.name for found in assigned(placements, nodes, {})]


def test_sources_go_to_different_nodes_the_roomiest_first() -> None:
    assert names([Placement()] * 4, [C, B, A]) == ["a", "b", "c", "a"]


def test_what_one_source_takes_another_cannot_have() -> None:
    assert names([Placement(num_gpus=0.5)] * 3, [A, B]) == ["b", "b", None]
    assert names([Placement(memory=int(40e9))] * 3, [A, B, C]) == ["a", "b", None]


def test_labels_must_be_there() -> None:
    assert names([Placement(labels={"zone": "1"}), Placement(labels={"zone": "2"})], [A, C]) == [
        "c",
        None,
    ]


def test_a_node_to_avoid_comes_last_and_a_wished_one_first() -> None:
    assert best_node(Placement(), [A, B], {"b": 5}, avoid="a") == B
    assert best_node(Placement(), [A], {}, avoid="a") == A
    assert best_node(Placement(), [A, B], {"b": 5}, wished="b") == B
    assert best_node(Placement(), [A, B], {}, avoid="b", wished="b") == A


def test_a_refusal_names_what_each_node_lacks() -> None:
    wants = Placement(num_cpus=9, memory=int(10e9), labels={"zone": "1"})
    refusal = wants.refusal("s", [A, C])
    assert refusal is not None
    assert refusal.startswith(
        "s: no node of the cluster can take it: a lacks 9 CPU (it has 8 CPU), the label zone=1; "
        "c lacks 9 CPU (it has 8 CPU), 10.0 GB of memory (it has 8.0 GB of memory). Change `ray`"
    )
    assert Placement(num_cpus=8).refusal("s", [A]) is None
    assert "there are none" in (Placement().refusal("s", []) or "")
