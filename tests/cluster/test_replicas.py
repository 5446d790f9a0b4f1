"""The server over replicas on a cluster of two nodes: the answers of one process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from replicated import N_SLOTS, endless_models, processes, replicated
from serving import QUESTION, Served, endless, serving, wait_until

from cf_local.errors import ClusterError, InputError
from cf_local.loading.load_options import LoadOptions
from cf_local.planning.nodes import Node
from cf_local.registry.registry import load_registry
from cf_local.server.catalogue import Catalogue
from cf_local.server.replication.deployment import Bounds, Replicas, bounds_of
from cf_local.server.replication.proxy import conversation_of
from cf_local.types import Chat, Infill, Message, RawText, Tokens, chat

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def both(ray_nodes: Any) -> Iterator[tuple[Served, Replicas]]:
    with replicated() as opened:
        yield opened


@pytest.fixture(scope="module")
def served(both: tuple[Served, Replicas]) -> Served:
    return both[0]


@pytest.fixture(scope="module")
def alone() -> Iterator[Served]:
    with serving(n_slots=N_SLOTS) as opened:
        yield opened


def text_of(reply: Any) -> str:
    assert reply.status == 200, reply.body
    return str(reply.json["choices"][0]["message"]["content"])


GREETINGS = [f"Tom has {n} apples and buys 45 more. How many apples?" for n in range(20, 26)]
SAME: dict[str, Any] = {"cf_local": {"speculation": False}}


def test_answers_are_those_of_one_process(served: Served, alone: Served) -> None:
    for question in GREETINGS:
        assert text_of(served.chat(question, **SAME)) == text_of(alone.chat(question, **SAME))


def test_a_stream_comes_word_by_word(served: Served) -> None:
    events = served.chat(stream=True).events
    pieces = [event["choices"][0]["delta"].get("content") for event in events]
    assert "".join(filter(None, pieces)) == text_of(served.chat())
    assert len(pieces) > 5


@pytest.mark.parametrize(
    "more",
    [
        {"logprobs": True, "top_logprobs": 2},
        {"n": 3, "temperature": 0.8, "seed": 3},
        {"model": "ash"},
        {"model": "builtin:rerank"},
        {"response_format": {"type": "json_object"}, "max_tokens": 40},
        {"cf_local": {"trace": True, "only": "birch", "mode": "single"}},
        {"stop": ["apples"]},
    ],
)
def test_what_requests_say_reaches_the_replicas(
    served: Served, alone: Served, more: dict[str, Any]
) -> None:
    there, here = served.chat(**more), alone.chat(**more)
    assert there.status == here.status == 200, there.body
    assert comparable(there.json) == comparable(here.json)


def comparable(reply: dict[str, Any]) -> Any:
    """A reply without ids, times and what depends on earlier requests."""
    usage = reply["usage"]
    usage.pop("prompt_tokens_details", None)
    choices = json.loads(json.dumps(reply["choices"]))
    for choice in choices:
        choice.pop("cf_local", None)
    return choices, usage


def test_what_counts_in_tokens_works(served: Served, alone: Served) -> None:
    for path, body in (
        ("/tokenize", {"model": "ash", "prompt": "24 apples"}),
        ("/tokenize", {"model": "builtin", "prompt": "24 apples"}),
        ("/detokenize", {"model": "ash", "tokens": [300, 301]}),
    ):
        there, here = served.ask("POST", path, body), alone.ask("POST", path, body)
        assert (there.status, there.json) == (here.status, here.json)
        assert there.status == 200
    info = [each.ask("GET", "/tokenizer_info?model=ash").json for each in (served, alone)]
    assert info[0] == info[1]
    body: dict[str, Any] = {"model": "ash", "prompt": "Tom has 23", "echo": True, "logprobs": 2}
    body |= {"max_tokens": 0}
    echo = [each.ask("POST", "/v1/completions", body).json for each in (served, alone)]
    assert echo[0]["choices"] == echo[1]["choices"]
    body = {"model": "builtin", "messages": [{"role": "user", "content": "Hi"}]}
    n = [each.ask("POST", "/v1/messages/count_tokens", body).json for each in (served, alone)]
    assert n[0] == n[1]


def test_previous_responses_are_known(served: Served) -> None:
    first = served.ask("POST", "/v1/responses", {"model": "builtin", "input": QUESTION})
    assert first.status == 200
    body = {"model": "builtin", "input": "And now?", "previous_response_id": first.json["id"]}
    assert served.ask("POST", "/v1/responses", body).status == 200


def test_an_error_of_a_replica_is_that_of_one_process(served: Served, alone: Served) -> None:
    long = "apples " * 5000
    there, here = served.chat(long), alone.chat(long)
    assert there.status == here.status == 400
    assert there.error == here.error


def is_spread(replicas: Any, text: str) -> bool:
    """Whether Serve knows here who has read the conversation that begins with ``text``."""
    routers = [each._handle._router._asyncio_router for each in replicas._fusions.values()]
    known = [router.request_router._multiplexed_model_id_to_replica_ids for router in routers]
    return any(conversation_of(chat(text)) in each for each in known)


def test_a_conversation_stays_with_its_replica(both: tuple[Served, Replicas]) -> None:
    """Otherwise a turn would have to be read again."""
    served, replicas = both
    talks = [[{"role": "user", "content": f"Talk {i}. What is 2 plus {i}?"}] for i in range(2)]
    for _ in range(3):
        for talk in talks:
            reply = served.chat(messages=talk, max_tokens=12)
            usage = reply.json["usage"]
            if len(talk) > 1:
                cached = usage["prompt_tokens_details"]["cached_tokens"]
                assert cached > usage["prompt_tokens"] / 2
            talk += [{"role": "assistant", "content": text_of(reply)}]
            talk += [{"role": "user", "content": "And one more?"}]
            text = talk[0]["content"]
            wait_until(lambda text=text: is_spread(replicas, text), "Serve knows who has read it")


def test_metrics_are_those_of_all_replicas(served: Served) -> None:
    assert served.figure('cf_local_replicas{model="builtin"}') == 2
    lines = served.ask("GET", "/metrics").body.decode().splitlines()
    by_replica = [line for line in lines if line.startswith("cf_local_replica_answers_total{")]
    assert len(by_replica) == 2
    assert all(float(line.rpartition(" ")[2]) > 0 for line in by_replica)
    passes = [line for line in lines if line.startswith("cf_local_replica_passes_total{")]
    assert len(passes) == 2 * 3  # replicas, sources
    assert served.figure("cf_local_replica_running") == 0


@pytest.fixture
def writing(ray_nodes: Any, tmp_path: Path) -> Iterator[Served]:
    """Two replicas whose answers take for ever."""
    with replicated(models=endless_models(tmp_path)) as (opened, _replicas):
        yield opened


def running(served: Served) -> list[float]:
    """The answers that each replica writes."""
    lines = served.ask("GET", "/metrics").body.decode().splitlines()
    found = [line for line in lines if line.startswith("cf_local_replica_running{")]
    return sorted(float(line.rpartition(" ")[2]) for line in found)


def test_a_client_that_leaves_ends_the_answer(writing: Served) -> None:
    sock = writing.open(endless(model="endless", stream=True))
    wait_until(lambda: running(writing) == [0, 1], "the answer is written")
    sock.close()
    wait_until(lambda: running(writing) == [0, 0], "the answer has ended")
    assert writing.chat(model="endless", max_tokens=2).status == 200


def test_two_requests_are_written_by_two_replicas(writing: Served) -> None:
    with ExitStack() as opened:
        for index in range(2):
            turn = {"role": "user", "content": f"Go {index}."}
            body = endless(model="endless", stream=True, messages=[turn])
            # Nobody looks at the metrics meanwhile: for Serve that is a request to each replica.
            assert opened.enter_context(writing.open(body)).recv(100)
        assert running(writing) == [1, 1]


def node(**total: float) -> Node:
    return Node("id", "n", "127.0.0.1", total, total, {})


def test_bounds_follow_from_the_nodes() -> None:
    nodes = [node(CPU=0), node(CPU=8), node(CPU=20)]
    assert bounds_of(nodes, LoadOptions(), 1, None) == Bounds(1, 3, 8, 0.0)
    assert bounds_of(nodes, LoadOptions(n_threads=4), 2, 5) == Bounds(2, 5, 4, 0.0)
    gpus = [node(CPU=8), node(CPU=16, GPU=2), node(CPU=32, GPU=8)]
    assert bounds_of(gpus, LoadOptions(), 1, None) == Bounds(1, 3, 16, 2.0)
    assert bounds_of(gpus, LoadOptions(device="cpu"), 1, None) == Bounds(1, 7, 8, 0.0)
    odd = [node(CPU=12, GPU=8)]  # Ray gives out whole GPUs, or a part of one
    assert bounds_of(odd, LoadOptions(n_threads=4), 1, None) == Bounds(1, 3, 4, 2.0)
    assert bounds_of(odd, LoadOptions(n_threads=1), 1, None).n_gpus == pytest.approx(8 / 12)
    with pytest.raises(ClusterError, match="room for 1 replicas of 16 cores, not for 2"):
        bounds_of(nodes, LoadOptions(n_threads=16), 2, None)
    with pytest.raises(ClusterError, match="room for 0"):
        bounds_of(nodes, LoadOptions(n_threads=64), 1, None)
    with pytest.raises(ClusterError, match="No node"):
        bounds_of([node(CPU=0)], LoadOptions(), 1, None)
    with pytest.raises(InputError, match="--max-replicas 1 is below --min-replicas 2"):
        bounds_of(nodes, LoadOptions(), 2, 1)


def test_models_are_listed_wherever_their_files_are(tmp_path: Path) -> None:
    text = '[sources.far]\nfile = "/nowhere/far.gguf"\n[fusions.away]\nsources = ["far"]\n'
    (tmp_path / "models.toml").write_text(text, encoding="utf-8")
    registry = load_registry(tmp_path / "models.toml")
    listed = [
        [model.id for model in Catalogue(registry, ["away"], lists_all=lists_all).listed()]
        for lists_all in (True, False)
    ]
    assert listed == [["away", "far"], []]


def test_all_turns_of_a_conversation_have_the_same_beginning() -> None:
    first = chat("Hello", system="Be brief.")
    more = (Message("assistant", "Hi."), Message("user", "And?"))
    later = Chat((*first.messages, *more), thinks=True)
    assert conversation_of(first) == conversation_of(later)
    others = [chat("Hello"), chat("Hello!", system="Be brief."), RawText("Hello"), Chat(())]
    others += [Infill("Hello", ""), Tokens((1, 2))]
    assert len({conversation_of(prompt) for prompt in (first, *others)}) >= 6
    assert conversation_of(RawText("a" * 600)) == conversation_of(RawText("a" * 700))


@pytest.fixture(scope="module")
def mixed(ray_nodes: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Replicas of a fusion with a source in an actor of its own, and an embedding model."""
    tiny = pytest.importorskip("tiny_models", reason="tiny models need the gguf package")
    folder = tmp_path_factory.mktemp("mixed")
    tiny.make_embedding_model(folder / "bert.gguf")
    file = folder / "models.toml"
    file.write_text(
        '[fusions.far]\nsources = ["ash", "yew"]\n'
        '[fusions.near]\nsources = ["ash", "birch"]\n'
        '[sources.yew]\nfile = "builtin:birch.gguf"\nwhere = "ray"\n'
        '[sources.bert]\nkind = "embedding"\nfile = "bert.gguf"\n',
        encoding="utf-8",
    )
    with replicated(1, 1, file) as (opened, _replicas):
        yield opened


@pytest.mark.parametrize("mode", ["cool", "rerank"])
def test_a_source_of_a_replica_may_be_an_actor(mixed: Served, mode: str) -> None:
    for question in GREETINGS[:2]:
        far, near = (
            mixed.chat(question, model=f"{fusion}:{mode}", **SAME) for fusion in ("far", "near")
        )
        assert text_of(far) == text_of(near)
    assert processes("ray::SourceActor")


def test_an_embedding_model_stays_beside_the_replicas(mixed: Served) -> None:
    found = mixed.ask("POST", "/v1/embeddings", {"model": "bert", "input": ["a fox", "a dog"]})
    assert found.status == 200, found.body
    vectors = [each["embedding"] for each in found.json["data"]]
    assert len(vectors) == 2
    assert vectors[0] != vectors[1]
    refused = mixed.ask("POST", "/v1/embeddings", {"model": "far", "input": ["a fox"]})
    assert refused.error["code"] == "wrong_kind_of_model"
