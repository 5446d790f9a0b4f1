"""Many requests at once: turns, the queue, clients that go, loading, idleness, the end."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving import (
    PATIENCE_S,
    QUESTION,
    Served,
    SlowSession,
    endless,
    failing,
    serving,
    slow,
    wait_until,
)

import cf_local
from cf_local.builtin.problems import generate
from cf_local.errors import BrokenModelError, MissingModelError, OutOfMemoryError
from cf_local.llama import weights
from cf_local.loading.load_options import LoadOptions
from cf_local.progress import IsCancelled, Progress
from cf_local.runtime.fusion import Fusion
from cf_local.server.catalogue import ServedModel
from cf_local.server.pool import Loaded
from cf_local.server.running import loader

RUNNING, WAITING = "cf_local_running", "cf_local_queue_length"
GIVEN_UP = 'cf_local_answers_total{end="given_up",model="builtin"}'


@pytest.fixture
def busy() -> Iterator[Served]:
    """Two places, a queue of two, and answers that take for ever."""
    with serving(slow(n_sessions=2), n_slots=2, n_queue=2) as served:
        yield served


# --- The queue ------------------------------------------------------------------------------


def test_a_full_queue_is_a_429(busy: Served) -> None:
    socks = [busy.open(endless(stream=True)) for _ in range(2)]
    busy.wait_for(RUNNING, 2)
    socks += [busy.open(endless(stream=True)) for _ in range(2)]
    busy.wait_for(WAITING, 2)
    reply = busy.ask("POST", "/v1/chat/completions", endless())
    assert (reply.status, reply.error["code"]) == (429, "queue_full")
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert busy.ask("GET", "/health").status == 200  # what needs no turn goes on
    socks.pop(0).close()  # makes room for the next one
    busy.wait_for(WAITING, 1)
    assert busy.figure(RUNNING) == 2
    for sock in socks:
        sock.close()
    busy.wait_for(RUNNING, 0)
    assert busy.figure(WAITING) == 0
    assert busy.chat(max_tokens=2).status == 200


def test_who_waits_and_goes_leaves_no_trace(busy: Served) -> None:
    inside = [busy.open(endless()) for _ in range(2)]
    busy.wait_for(RUNNING, 2)
    for _ in range(5):
        waiting = busy.open(endless())
        busy.wait_for(WAITING, 1)
        waiting.close()
        busy.wait_for(WAITING, 0)
    for sock in inside:
        sock.close()
    busy.wait_for(RUNNING, 0)
    assert busy.figure(WAITING) == 0
    assert busy.chat(max_tokens=2).status == 200


# --- Clients that go ------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [True, False])
def test_who_goes_is_answered_no_more(busy: Served, streams: bool) -> None:
    taken_s = []
    for _ in range(5):
        n_before = busy.figure(GIVEN_UP)
        sock = busy.open(endless(stream=streams))
        if streams:
            assert sock.recv(100)
        busy.wait_for(RUNNING, 1)
        n_segments = busy.figure("cf_local_segments_total")
        wait_until(lambda n=n_segments: busy.figure("cf_local_segments_total") > n, "segments")  # type: ignore[misc]
        sock.close()
        start = time.perf_counter()
        busy.wait_for(GIVEN_UP, n_before + 1)
        taken_s.append(time.perf_counter() - start)
    assert min(taken_s) < 0.3, taken_s  # more is the machine's doing
    n_after = busy.figure("cf_local_segments_total")
    time.sleep(0.1)
    assert busy.figure("cf_local_segments_total") == n_after


def test_who_reads_nothing_is_taken_for_gone() -> None:
    with serving(slow(pass_s=0.0), socket_bytes=4096, send_s=0.2) as served:
        sock = served.open(
            endless(stream=True, cf_local={"trace": True, "repetition_guard": False})
        )
        served.wait_for(GIVEN_UP, 1)
        served.wait_for(RUNNING, 0)
        assert served.chat(max_tokens=2).status == 200
        sock.close()


def test_a_silent_stream_is_kept_alive() -> None:
    load = slow(" fox" * 30, pass_s=0.01)
    with serving(load, first_s=0.05, alive_s=0.05) as served:
        reply = served.chat(stream=True, cf_local={"mode": "rerank", "speculation": False})
        assert reply.body.count(b": still working\n\n") >= 2
        assert reply.body.index(b": still") < reply.body.index(b"data:")
        assert len(reply.events) == 3


def test_an_error_within_a_stream_is_an_event() -> None:
    with serving(slow(), timeout_s=0.3, first_s=0.05) as served:
        reply = served.ask("POST", "/v1/chat/completions", endless(stream=True))
        assert reply.status == 200
        assert b'"code": "timeout"' in reply.body
        assert b"[DONE]" not in reply.body
        whole = served.ask("POST", "/v1/chat/completions", endless())
        assert (whole.status, whole.error["code"]) == (504, "timeout")
        assert whole.headers["x-should-retry"] == "false"
        served.wait_for(RUNNING, 0)


# --- The same answers as alone --------------------------------------------------------------


@pytest.mark.model
def test_among_others_that_come_and_go_answers_are_those_given_alone() -> None:
    questions = [problem.question for problem in generate(24, seed=5, split="test")]
    with cf_local.load() as fusion:
        expected = [fusion.answer(cf_local.chat(question)).text for question in questions]
    with serving(n_slots=3, n_queue=100) as served:

        def ask(index: int) -> str | None:
            draw = random.Random(index)
            if draw.random() < 0.4:
                body = {"model": "builtin", "stream": draw.random() < 0.5}
                body["messages"] = [{"role": "user", "content": questions[index]}]
                sock = served.open(body)
                time.sleep(draw.random() * 0.2)
                sock.close()
                return None
            return str(served.chat(questions[index]).json["choices"][0]["message"]["content"])

        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(ask, range(len(questions))))
    kept = [(f, e) for f, e in zip(found, expected, strict=True) if f is not None]
    assert len(kept) > 8
    assert [f for f, _ in kept] == [e for _, e in kept]


@pytest.mark.model
def test_a_shared_system_prompt_is_read_once() -> None:
    system = {"role": "system", "content": "Answer briefly. " * 20}
    kept: list[Fusion] = []

    def load(model: ServedModel, is_cancelled: IsCancelled, on_progress: Progress) -> Fusion:
        options = LoadOptions(n_conversations=4, n_threads=1)
        kept.append(loader(options, lambda _text: None)(model, is_cancelled, on_progress))
        return kept[-1]

    with serving(load) as served:
        with ThreadPoolExecutor(4) as pool:
            asked = [system, {"role": "user", "content": QUESTION}]
            replies = list(pool.map(lambda _: served.chat(messages=asked), range(8)))
        assert [reply.status for reply in replies] == [200] * 8
        (fusion,) = kept
        for source in fusion.sources:
            n_prompt = source.sessions[0]._committed.n_prompt  # type: ignore[attr-defined]
            n_read = sum(session.counters.n_tokens for session in source.sessions)
            assert n_prompt > 100
            assert n_read < 4.5 * n_prompt  # of 8


# --- Loading --------------------------------------------------------------------------------


@pytest.mark.model
def test_sources_are_loaded_once_for_all_models_over_them() -> None:
    with serving() as served:
        assert served.chat(model="ash", max_tokens=2).status == 200
        assert served.chat(max_tokens=2).status == 200
        served.wait_for("cf_local_loaded", 1)  # ash alone is not needed any more
        for model in ("birch", "builtin:rerank", "cedar", "ash"):
            assert served.chat(model=model, max_tokens=2).status == 200
        assert served.figure('cf_local_loads_total{outcome="loaded"}') == 2
        models = {m["id"]: m["cf_local"] for m in served.ask("GET", "/v1/models").json["data"]}
        assert all(models[name]["loaded"] for name in ("builtin", "ash", "birch"))


@pytest.mark.model
def test_what_is_idle_is_unloaded_and_comes_back() -> None:
    with serving(idle_s=0.2) as served:
        assert served.chat(max_tokens=2).status == 200
        served.wait_for("cf_local_loaded", 0)
        assert served.chat(max_tokens=2).status == 200
        assert served.figure('cf_local_loads_total{outcome="loaded"}') == 2


def test_what_is_used_is_not_idle() -> None:
    with serving(slow(), idle_s=0.1) as served:
        sock = served.open(endless(stream=True))
        time.sleep(0.6)
        assert (served.figure("cf_local_loaded"), served.figure(RUNNING)) == (1, 1)
        sock.close()
        served.wait_for("cf_local_loaded", 0)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (MissingModelError("ash: there is no file /secret/ash.gguf."), 404, "model_not_found"),
        (BrokenModelError("/secret/ash.gguf is truncated."), 503, "model_unavailable"),
        (OutOfMemoryError("The set needs 9 GB of 4 GB."), 503, "out_of_memory"),
    ],
)
def test_what_cannot_be_loaded_is_told_and_tried_again(
    error: cf_local.CfLocalError, status: int, code: str
) -> None:
    loads = [failing(error), slow(" fox.", n_sessions=4)]
    with serving(lambda *what: loads.pop(0)(*what)) as served:
        reply = served.chat()
        assert (reply.status, reply.error["code"]) == (status, code)
        assert "secret" not in reply.error["message"]
        assert served.chat().status == 200


def test_what_nobody_uses_makes_room() -> None:
    loads = [slow(" fox."), failing(OutOfMemoryError("full")), slow(" fox.")]
    with serving(lambda *what: loads.pop(0)(*what)) as served:
        assert served.chat(model="ash").status == 200
        assert served.chat(model="birch").status == 200
        assert served.figure("cf_local_loaded") == 1


@pytest.mark.model
def test_a_broken_file_does_not_end_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 50)
    config = tmp_path / "models.toml"
    config.write_text(
        '[sources.bad]\nfile = "bad.gguf"\n[sources.gone]\nfile = "gone.gguf"\n'
        '[fusions.half]\nsources = ["ash", "bad"]\n'
    )
    monkeypatch.setenv("CF_LOCAL_CONFIG", str(config))
    with serving() as served:
        for model, status in (("bad", 503), ("half", 503), ("gone", 404), ("ash", 200)):
            reply = served.chat(model=model, max_tokens=2)
            assert reply.status == status, reply.body
            assert str(tmp_path) not in reply.body.decode()
        listed = [m["id"] for m in served.ask("GET", "/v1/models").json["data"]]
        assert "gone" not in listed


# --- The end --------------------------------------------------------------------------------


def test_the_end_waits_for_what_runs_and_sends_away_what_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on, take_pass = threading.Event(), SlowSession._pass

    def held(session: SlowSession, n_tokens: int) -> None:
        assert goes_on.wait(PATIENCE_S)
        take_pass(session, n_tokens)

    monkeypatch.setattr(SlowSession, "_pass", held)
    with serving(slow(" fox" * 60), n_slots=1) as served, ThreadPoolExecutor(2) as pool:
        running = pool.submit(served.chat, cf_local={"repetition_guard": False})
        served.wait_for(RUNNING, 1)
        waiting = pool.submit(served.chat)
        served.wait_for(WAITING, 1)
        served.signal()
        refused = waiting.result(PATIENCE_S)
        assert (refused.status, refused.error["code"]) == (503, "shutting_down")
        goes_on.set()
        done = running.result(PATIENCE_S)
        assert done.json["choices"][0]["message"]["content"] == " fox" * 60
        assert done.json["choices"][0]["finish_reason"] == "stop"


def test_the_end_does_not_wait_for_ever() -> None:
    with serving(slow(), shutdown_s=1) as served:
        sock = served.open(endless(stream=True))
        served.wait_for(RUNNING, 1)
        start = time.monotonic()
        served.signal()
        while sock.recv(65536):
            pass
        assert 0.5 < time.monotonic() - start < PATIENCE_S


def test_a_second_signal_ends_at_once() -> None:
    with serving(slow(), shutdown_s=60) as served:
        sock = served.open(endless(stream=True))
        served.wait_for(RUNNING, 1)
        start = time.monotonic()
        served.signal()
        threading.Timer(0.3, served.signal).start()
        while sock.recv(65536):
            pass
        assert time.monotonic() - start < PATIENCE_S


def test_models_tell_how_far_their_load_is() -> None:
    steps = threading.Semaphore(0)

    def load(model: ServedModel, is_cancelled: IsCancelled, on_progress: Progress) -> Loaded:
        on_progress(0.4)
        steps.acquire(timeout=PATIENCE_S)
        return slow(" fox ran.", pass_s=0)(model, is_cancelled, on_progress)

    def loading(served: Served, id: str) -> Any:
        return served.ask("GET", f"/v1/models/{id}").json["cf_local"]["loading"]

    with serving(load) as served, ThreadPoolExecutor(1) as pool:
        assert loading(served, "builtin") is None
        reply = pool.submit(served.chat)
        wait_until(lambda: loading(served, "builtin") == 0.4, "loading")
        assert loading(served, "ash") == 0.4  # a part of it
        steps.release()
        assert reply.result().status == 200
        assert loading(served, "builtin") is None


def test_fusions_that_overlap_share_weights(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text(
        '[fusions.ab]\nsources = ["ash", "birch"]\n[fusions.bc]\nsources = ["birch", "cedar"]\n'
    )
    before = {key: entry.n_users for key, entry in weights._entries.items()}  # of other tests
    with serving(models=models) as served:
        with ThreadPoolExecutor(8) as pool:
            asked = ["ab", "bc"] * 4
            replies = list(pool.map(lambda model: served.chat(model=model), asked))
        assert {reply.status for reply in replies} == {200}
        texts = [r.json["choices"][0]["message"]["content"] for r in replies]
        assert len(set(texts[::2])) == len(set(texts[1::2])) == 1
        assert served.figure("cf_local_loaded") == 2
        used = [entry.n_users - before.get(key, 0) for key, entry in weights._entries.items()]
        assert sorted(filter(None, used)) == [1, 1, 2]
