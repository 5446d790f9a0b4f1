"""Actors and nodes that die or hang, drivers that do, and work that is cancelled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_cluster import OpensScripted, OpensTiny, add_node, open_in_actor

from cf_local import LoadOptions, chat
from cf_local.cluster import host as hosts
from cf_local.cluster.hosted import HostedSession
from cf_local.cluster.messages import Call, Guesses, Message
from cf_local.cluster.source import RaySource
from cf_local.errors import Cancelled, CfLocalError, ClusterError
from cf_local.loading.load import load_chosen
from cf_local.method.session import Session, prefill
from cf_local.planning.nodes import Placement
from cf_local.progress import drained
from cf_local.registry.registry import SourceSpec, load_registry
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.testing import PieceVocabulary, ScriptedSource, writes
from cf_local.types import Answer, Candidate, KnownText, RawText, Step

QUESTION = chat("Tom has 23 apples and buys 45 more. How many apples does he have now?")
SHORT = Settings(max_tokens=40)
GREEDY = Sampling()


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """What the built-in fusion writes in one process, step by step."""
    with load_chosen(specs(), SHORT) as fusion:
        return [event.text for event in fusion.stream(QUESTION) if isinstance(event, Step)]


def specs(**placements: Placement) -> list[SourceSpec]:
    registry = load_registry()
    found = [registry.source(name) for name in ("ash", "birch", "cedar")]
    return [replace(spec, ray=placements.get(spec.name)) for spec in found]


@pytest.fixture
def fusion(ray_nodes: Any) -> Iterator[Fusion]:
    with load_chosen(specs(), SHORT, options=LoadOptions(ray=ray_nodes.address)) as loaded:
        yield loaded


def held(fusion: Fusion, name: str) -> RaySource:
    return next(s for s in fusion.sources if isinstance(s, RaySource) and s.info.name == name)


def pid_of(source: RaySource) -> int:
    import ray

    actor: Any = source.host._actor
    return int(ray.get(actor.__ray_call__.remote(lambda _self: os.getpid())))


def written(fusion: Fusion, before: Mapping[int, Callable[[], object]]) -> tuple[list[str], Answer]:
    """The steps of an answer, with something done before some of them."""
    texts: list[str] = []
    before.get(0, lambda: None)()
    for event in fusion.stream(QUESTION):
        if isinstance(event, Answer):
            return texts, event
        texts.append(event.text)
        before.get(len(texts), lambda: None)()
    raise AssertionError("no answer")


# --- What is lost is loaded again -----------------------------------------------------------


def test_an_actor_that_dies_is_replaced_and_the_answer_goes_on(
    fusion: Fusion, expected: list[str]
) -> None:
    birch, cedar = held(fusion, "birch"), held(fusion, "cedar")
    texts, answer = written(
        fusion,
        {3: lambda: os.kill(pid_of(birch), signal.SIGKILL), 7: cedar.host.kill},
    )
    assert texts == expected
    assert len(answer.notices) == 2
    assert "birch on node" in answer.notices[0] + answer.notices[1]
    assert "was lost: its process has died. It was loaded again on node" in answer.notices[0]
    assert all(n >= 0 for n in answer.passes.values())
    texts, answer = written(fusion, {})
    assert (texts, answer.notices) == (expected, ())


def test_one_that_died_between_two_answers_is_replaced_without_a_word(
    fusion: Fusion, expected: list[str]
) -> None:
    held(fusion, "ash").host.kill()
    assert written(fusion, {})[0] == expected
    assert written(fusion, {})[1].notices == ()


OPERATIONS: tuple[tuple[str, Callable[[Session], object]], ...] = (
    ("draft", lambda s: s.draft(8)),
    ("extend", lambda s: s.extend(12)),
    ("score", lambda s: s.score([Candidate(b" the fox", False)], word_ends=True)),
    ("others", lambda s: s.others([Candidate(b" the fox", False)], s.source.joins)),
    ("commit", lambda s: s.commit(Candidate(b" the fox", False))),
    ("look", lambda s: s.lookahead and s.lookahead.extend(3)),
    ("known", lambda s: s.lookahead and s.lookahead.known()),
    ("sure", lambda s: s.lookahead and s.lookahead.confidence(0)),
    ("prefetch", lambda s: s.lookahead and s.lookahead.prefetch([b" over", b" the hill"])),
    ("draft again", lambda s: s.draft(8)),
    ("trim", lambda s: s.trim(s.draft(3).token_ends[0])),
    ("rollback", lambda s: s.rollback()),
    ("commit own", lambda s: s.commit(_own(s))),
    ("restart", lambda s: s.restart(expect_same=True)),
    ("write", lambda s: s.draft(8)),
)


def _own(session: Session) -> Candidate:
    draft = session.draft(8)
    return Candidate(draft.text, draft.ends)


def everything(session: Session, lost: int | None = None) -> list[object]:
    """The results of all operations; the actor is lost before one of them."""
    found: list[object] = []
    prefill(session, RawText("The quick brown"), sampling=GREEDY, looks_ahead=True)
    for index, (_, operation) in enumerate(OPERATIONS):
        if index == lost:
            assert isinstance(session.source, RaySource)
            session.source.host.kill()
        found.append(operation(session))
        found.append((session.n_response_tokens, session.n_free))
    return found


def certain(results: list[object]) -> list[object]:
    """Without what depends on the last digits of logits, and what is known ahead by chance."""
    return [one for one in results if not isinstance(one, (float, list, KnownText))]


def test_a_session_is_the_same_whenever_its_actor_is_lost(
    ray_nodes: Any, tiny_model: Callable[..., Path]
) -> None:
    opener = OpensTiny(tiny_model("llama", "spm", eog_bias=-3.0))
    source = open_in_actor(ray_nodes.address, opener)
    try:
        session = source.sessions[0]
        undisturbed = everything(session)
        for index in range(len(OPERATIONS)):
            assert certain(everything(session, index)) == certain(undisturbed), OPERATIONS[index][0]
            assert len(session.notices) == 1
            assert session.counters.n_passes > 0
    finally:
        source.close()


def test_a_long_prompt_is_read_again_where_the_actor_is_lost_in_between(
    ray_nodes: Any, tiny_model: Callable[..., Path]
) -> None:
    source = open_in_actor(ray_nodes.address, OpensTiny(tiny_model("llama", "spm", eog_bias=-3.0)))
    try:
        session, prompt = source.sessions[0], RawText("The lazy dog, the fox. " * 60)
        n_tokens = prefill(session, prompt, sampling=GREEDY)
        draft = session.draft(8)
        prefill(session, RawText("She sells"), sampling=GREEDY)
        parts = session.prefill(prompt, sampling=GREEDY)
        next(parts)
        source.host.kill()
        assert drained(parts) == n_tokens
        assert session.draft(8).text == draft.text
        assert len(session.notices) == 1
    finally:
        source.close()


def test_a_node_that_dies_takes_nothing_with_it_that_another_can_hold(
    ray_nodes: Any, expected: list[str]
) -> None:
    node = add_node(ray_nodes, "c")
    placed = specs(
        ash=Placement(resources={"a": 0.1}),
        birch=Placement(resources={"c": 0.5}),
        cedar=Placement(resources={"b": 0.1}),
    )
    with load_chosen(placed, SHORT, options=LoadOptions(ray=ray_nodes.address)) as fusion:
        birch = held(fusion, "birch")
        assert birch.node == "node c"
        birch._placement = Placement()  # it may go anywhere from now on
        actor = psutil.Process(pid_of(birch))

        def remove() -> None:
            ray_nodes.remove_node(node, allow_graceful=False)
            psutil.wait_procs([actor], timeout=60)

        texts, answer = written(fusion, {4: remove})
        assert texts == expected
        assert len(answer.notices) == 1
        assert "birch on node c was lost" in answer.notices[0]
        assert "loaded again on node" in answer.notices[0]


def test_a_node_that_nobody_can_replace_ends_the_answer_with_a_clear_error(
    ray_nodes: Any, expected: list[str]
) -> None:
    node = add_node(ray_nodes, "d")
    placed = specs(
        ash=Placement(resources={"a": 0.1}),
        birch=Placement(resources={"b": 0.1}),
        cedar=Placement(resources={"d": 0.5}),
    )
    with load_chosen(placed, SHORT, options=LoadOptions(ray=ray_nodes.address)) as fusion:
        actor = psutil.Process(pid_of(held(fusion, "cedar")))

        def remove() -> None:
            ray_nodes.remove_node(node)
            psutil.wait_procs([actor], timeout=60)

        with pytest.raises(
            ClusterError, match=r"cedar on node d was lost.*cannot be loaded again: .*lacks 0.5 d"
        ):
            written(fusion, {4: remove})
        back = add_node(ray_nodes, "d")
        assert written(fusion, {})[0] == expected
        ray_nodes.remove_node(back)


def test_a_process_that_hangs_is_found_and_replaced(
    fusion: Fusion, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "QUIET_S", 0.5)
    monkeypatch.setattr(hosts, "LOST_S", 2.0)
    birch = held(fusion, "birch")
    actor = psutil.Process(pid_of(birch))
    texts, answer = written(fusion, {5: actor.suspend})
    assert texts == expected
    assert any("no sign of life" in notice for notice in answer.notices)
    assert psutil.wait_procs([actor], timeout=60)[1] == []


def test_a_message_is_done_once_and_in_its_order() -> None:
    vocabulary = PieceVocabulary([" a"])
    source = ScriptedSource("s", vocabulary, writes(" a a a", vocabulary))
    session = HostedSession(source.sessions[0])
    calls = (Call("prefill", (RawText("x"), {"sampling": GREEDY})), Call("draft", (1,)))
    message = Message(1, False, calls, Guesses(), None)
    assert session.apply(message).error is None
    for number in (1, 3):
        with pytest.raises(CfLocalError, match="messages were lost"):
            session.apply(message._replace(number=number))
    assert session.state.counters.n_passes == 2


def test_a_new_actor_counts_tokens_where_the_old_one_is_lost(ray_nodes: Any) -> None:
    pieces = ("ab", " a")
    opener = OpensScripted(pieces, writes("ab ab", PieceVocabulary(pieces)))
    source = open_in_actor(ray_nodes.address, opener)
    try:
        assert source.vocabulary is None
        source.host.kill()
        assert source.n_tokens("ab ab ab") == 5
        assert source.joins("b") == source.joins("b")
        prefill(source.sessions[0], RawText("x"), sampling=GREEDY)
        source.host.kill()
        assert source.sessions[0].token_ends(b" abab") == {2, 3, 5}
    finally:
        source.close()


# --- Cancelled ------------------------------------------------------------------------------


def slow(pieces: PieceVocabulary) -> Callable[[bytes], Mapping[int, float]]:
    """A script that takes its time and never ends."""
    (token,) = pieces.encode(b"a")

    def script(_response: bytes) -> Mapping[int, float]:
        time.sleep(0.02)
        return {token: 0.9}

    return script


def test_work_on_a_node_is_cancelled_while_it_runs(ray_nodes: Any) -> None:
    opener = OpensScripted(("a",), slow(PieceVocabulary(["a"])))
    source = open_in_actor(ray_nodes.address, opener)
    try:
        session, stop = source.sessions[0], threading.Event()
        prefill(session, RawText("x"), sampling=GREEDY, is_cancelled=stop.is_set)
        before = session.counters.n_passes
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        with pytest.raises(Cancelled):
            session.draft(1000)  # 20 seconds
        timer.join()
        assert session.counters.n_passes - before < 500
        stop.clear()
        session.rollback()
        assert session.draft(2).text == b"aa"
    finally:
        source.close()


def test_a_prompt_that_was_cancelled_leaves_a_session_that_can_be_asked(
    ray_nodes: Any, tiny_model: Callable[..., Path]
) -> None:
    source = open_in_actor(ray_nodes.address, OpensTiny(tiny_model("llama", "spm", eog_bias=-3.0)))
    try:
        session, stop = source.sessions[0], threading.Event()
        prompt = RawText("The lazy dog, the fox. " * 180)
        parts = session.prefill(prompt, sampling=GREEDY, looks_ahead=True, is_cancelled=stop.is_set)
        next(parts)
        stop.set()
        with pytest.raises(Cancelled):
            drained(parts)
        session.rollback()
        assert session.counters.n_tokens > 0
        prefill(session, prompt, sampling=GREEDY, looks_ahead=True)
        assert session.draft(8).token_ends
    finally:
        source.close()


# --- Nothing stays --------------------------------------------------------------------------

DRIVER = """
import os, sys
import ray
from cf_local import LoadOptions, chat, load
fusion = load(options=LoadOptions(ray=sys.argv[1]))
pids = [ray.get(s.host._actor.__ray_call__.remote(lambda _: os.getpid())) for s in fusion.sources]
print(*pids, flush=True)
stream = fusion.stream(chat("Mia reads 12 pages a day. How many does she read in 6 days?"))
next(stream)
sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["killed", "ended"])
def test_actors_end_with_the_program(ray_nodes: Any, end: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, ray_nodes.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stdout is not None
        pids = [int(word) for word in driver.stdout.readline().split()]
        assert len(pids) == 3
        actors = [psutil.Process(pid) for pid in pids]
        if end == "killed":
            driver.kill()  # otherwise it goes on, and ends
    assert psutil.wait_procs(actors, timeout=90)[1] == []
