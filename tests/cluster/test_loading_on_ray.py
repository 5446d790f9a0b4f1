"""Fusions whose sources are on the nodes of a cluster: the same text, and clear errors."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

import cf_local
from cf_local import LoadOptions, chat, load
from cf_local.cluster.source import RaySource
from cf_local.errors import BrokenModelError, ClusterError, ContextError, MissingModelError
from cf_local.loading.load import choose, load_chosen
from cf_local.loading.on_ray import plan_on_ray
from cf_local.planning.nodes import Placement
from cf_local.registry.registry import SourceSpec, load_registry
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import Answer, RawText

BUILTIN = Path(cf_local.__file__).parent / "builtin"
QUESTIONS = (
    "Tom has 23 apples and buys 45 more. How many apples does he have now?",
    "Mia reads 12 pages a day. How many pages does she read in 6 days?",
)
SHORT = Settings(max_tokens=40)


@pytest.fixture(scope="module")
def far(ray_nodes: Any) -> Iterator[Fusion]:
    """The built-in fusion, on the nodes of the cluster."""
    with load(options=LoadOptions(ray=ray_nodes.address, n_conversations=2)) as fusion:
        yield fusion


@pytest.fixture(scope="module")
def near() -> Iterator[Fusion]:
    with load() as fusion:
        yield fusion


def specs_of(*names: str) -> list[SourceSpec]:
    registry = load_registry()
    return [registry.source(name) for name in names]


MODES = [
    Settings(max_tokens=40),
    Settings(max_tokens=40, speculation=False),
    Settings(max_tokens=40, all_scores=True),
    Settings(max_tokens=40, mode="rerank"),
    Settings(max_tokens=40, mode="cool+r"),
    Settings(max_tokens=40, mode="cool+r", segments="sentence"),
    Settings(max_tokens=40, mode="single", only="birch"),
    Settings(max_tokens=40, score="perplexity", weights="equal"),
    Settings(max_tokens=40).with_options({"temperature": 0.8, "seed": 3}),
]


@pytest.mark.parametrize("settings", MODES, ids=range(len(MODES)))
def test_answers_and_passes_are_those_of_one_process(
    far: Fusion, near: Fusion, settings: Settings
) -> None:
    for question in QUESTIONS:
        steps, expected = (
            list(far.stream(chat(question), settings)),
            list(near.stream(chat(question), settings)),
        )
        assert [(s.text, getattr(s, "passes", None)) for s in steps] == [
            (s.text, getattr(s, "passes", None)) for s in expected
        ]
        last, other = steps[-1], expected[-1]
        assert isinstance(last, Answer)
        assert isinstance(other, Answer)
        assert (last.finish_reason, last.prompt_tokens, last.notices) == (
            other.finish_reason,
            other.prompt_tokens,
            (),
        )


def test_sources_are_spread_text_is_tokenized_here_and_a_step_takes_few_round_trips(
    far: Fusion,
) -> None:
    sources = [source for source in far.sources if isinstance(source, RaySource)]
    assert len(sources) == 3
    assert {source.node for source in sources} == {"node a", "node b"}
    assert all(source.vocabulary is not None for source in sources)
    before = sum(session.n_round_trips for s in sources for session in s.sessions)
    n_steps = sum(1 for q in QUESTIONS for _ in far.stream(chat(q), SHORT))
    after = sum(session.n_round_trips for s in sources for session in s.sessions)
    assert after - before < 9 * n_steps


def test_sources_go_where_the_plan_says(ray_nodes: Any) -> None:
    specs, options = specs_of("ash", "birch", "cedar"), LoadOptions(ray=ray_nodes.address)
    for _ in range(3):
        planned, _ = plan_on_ray(specs, options, len(specs))
        with load_chosen(specs, SHORT, options=options) as fusion:
            found = [source.node for source in fusion.sources if isinstance(source, RaySource)]
        assert found == [f"node {each.node.name}" for each in planned if each.node]
        assert sorted(set(found)) == ["node a", "node b"]


def test_two_conversations_take_turns(far: Fusion, near: Fusion) -> None:
    streams = [far.stream(chat(question), SHORT) for question in QUESTIONS]
    texts = ["", ""]
    for events in zip_longest(*streams):
        for index, event in enumerate(events):
            texts[index] += "" if event is None or isinstance(event, Answer) else event.text
    assert texts == [near.answer(chat(question), SHORT).text for question in QUESTIONS]


def test_a_prompt_that_is_too_long_is_refused(far: Fusion) -> None:
    with pytest.raises(ContextError, match="tokens"):
        far.answer(RawText("apples " * 3000))
    assert far.answer(chat(QUESTIONS[0]), SHORT).text


def test_sources_here_and_there_answer_together(ray_nodes: Any, near: Fusion) -> None:
    ash, birch, cedar = specs_of("ash", "birch", "cedar")
    specs = [replace(ash, where="here"), birch, replace(cedar, where="here")]
    with load_chosen(specs, SHORT, options=LoadOptions(ray=ray_nodes.address)) as fusion:
        kinds = [isinstance(source, RaySource) for source in fusion.sources]
        assert kinds == [False, True, False]
        assert fusion.answer(chat(QUESTIONS[0])).text == near.answer(chat(QUESTIONS[0]), SHORT).text


def test_a_source_goes_to_the_node_that_has_what_it_asks_for(ray_nodes: Any) -> None:
    ash, birch, cedar = specs_of("ash", "birch", "cedar")
    specs = [
        replace(ash, ray=Placement(resources={"b": 0.1})),
        replace(birch, ray=Placement(num_cpus=1, resources={"a": 0.1}, round_trip_ms=5)),
        replace(cedar, ray=Placement(labels={"zone": "b"})),
    ]
    with load_chosen(specs, SHORT, options=LoadOptions(ray=ray_nodes.address)) as fusion:
        assert [source.node for source in fusion.sources] == ["node b", "node a", "node b"]  # type: ignore[attr-defined]
        costs = [source.costs.of(1) for source in fusion.sources]
        assert costs[1] > 0.005 > costs[0]


@pytest.mark.parametrize(
    ("placement", "says"),
    [
        (Placement(num_gpus=1), "ash: no node of the cluster can take it: a lacks 1 GPU"),
        (Placement(memory=10**15), "1000000.0 GB of memory"),
        (Placement(labels={"zone": "7"}), "b lacks the label zone=7"),
    ],
)
def test_what_no_node_has_is_refused_at_once(
    ray_nodes: Any, placement: Placement, says: str
) -> None:
    specs = [replace(specs_of("ash")[0], ray=placement)]
    start = time.monotonic()
    with pytest.raises(ClusterError, match=says):
        load_chosen(specs, SHORT, options=LoadOptions(ray=ray_nodes.address))
    assert time.monotonic() - start < 30


def test_a_file_that_a_node_lacks_is_reported_with_its_name(ray_nodes: Any, tmp_path: Path) -> None:
    missing, broken = tmp_path / "missing.gguf", tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and no more")
    options = LoadOptions(ray=ray_nodes.address)
    with pytest.raises(MissingModelError, match=r"On node [ab]: .*missing\.gguf"):
        load(models=[missing], options=options)
    with pytest.raises(BrokenModelError, match=r"On node [ab]: .*broken\.gguf"):
        load(models=[broken], options=options)


def test_without_a_copy_of_the_file_the_node_counts_tokens(
    ray_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, near: Fusion
) -> None:
    monkeypatch.setattr("cf_local.loading.on_ray._copy", lambda _spec, _fingerprint: None)
    specs, settings = choose(load_registry(), "builtin", ())
    with load_chosen(specs, settings, options=LoadOptions(ray=ray_nodes.address)) as fusion:
        assert fusion.sources[0].n_tokens(" apples") == near.sources[0].n_tokens(" apples")
        found, expected = (each.answer(chat(QUESTIONS[0]), SHORT) for each in (fusion, near))
        assert found.text == expected.text


def test_a_load_can_be_cancelled(ray_nodes: Any) -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(cf_local.Cancelled):
        load(options=LoadOptions(ray=ray_nodes.address), is_cancelled=stopped.is_set)


def test_a_model_of_the_folder_here_is_found_there(
    ray_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(BUILTIN / "ash.gguf", tmp_path / "mine.gguf")
    monkeypatch.chdir(tmp_path)
    with load(models=["mine.gguf"], options=LoadOptions(ray=ray_nodes.address)) as fusion:
        assert Path(fusion.sources[0].info.file) == tmp_path / "mine.gguf"


def test_the_plan_says_which_source_goes_where_and_what_it_needs(ray_nodes: Any) -> None:
    ash, birch, cedar = specs_of("ash", "birch", "cedar")
    specs = [
        replace(ash, ray=Placement(resources={"b": 0.1})),
        replace(birch, file="/nowhere/birch.gguf"),
        replace(cedar, ray=Placement(num_gpus=1)),
    ]
    found, nodes = plan_on_ray(specs, LoadOptions(ray=ray_nodes.address), 3)
    assert {node.name for node in nodes} >= {"a", "b"}
    first, second, third = found
    assert first.node is not None
    assert first.node.name == "b"
    assert first.arrangement is not None
    assert first.arrangement.n_ctx == 512
    assert first.arrangement.main.total > 2_000_000
    assert re.fullmatch(r"Node [ab]: .*/nowhere/birch\.gguf.*", second.problem or "")
    assert third.node is None
    assert "a lacks 1 GPU" in (third.problem or "")
