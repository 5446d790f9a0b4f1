"""Several conversations on real models: the texts given alone, no leak, quick cancelling."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import cf_local
from cf_local.builtin.problems import generate
from cf_local.llama.session import LlamaSession
from cf_local.llama.source import LlamaSource
from cf_local.runtime.fusion import Fusion

pytestmark = pytest.mark.model
QUESTIONS = [problem.question for problem in generate(16, seed=21, split="test")]
FOUR = cf_local.LoadOptions(n_conversations=4)


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """The answers of a fusion that has one conversation at a time."""
    with cf_local.load() as fusion:
        return [fusion.answer(cf_local.chat(question)).text for question in QUESTIONS]


@pytest.mark.parametrize("mode", ["cool", "cool+r"])
def test_threads_get_the_answers_that_each_would_get_alone(mode: str, alone: list[str]) -> None:
    settings = cf_local.Settings(mode=mode)  # type: ignore[arg-type]
    if mode != "cool":
        with cf_local.load() as one:
            alone = [one.answer(cf_local.chat(q), settings).text for q in QUESTIONS]
    with cf_local.load(options=FOUR) as fusion, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda q: fusion.answer(cf_local.chat(q), settings).text, QUESTIONS))
    assert found == alone


def test_sources_with_several_threads_compute_in_one_thread(
    alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenMP keeps a pool for each thread that computes on several cores."""
    callers: dict[int, int] = {}
    from cf_local.llama import context

    decode = context.lib.llama_decode

    def spy(handle: object, batch: object) -> int:
        callers[threading.get_ident()] = callers.get(threading.get_ident(), 0) + 1
        status: int = decode(handle, batch)
        return status

    monkeypatch.setattr(context.lib, "llama_decode", spy)
    options = cf_local.LoadOptions(n_conversations=2, n_threads=2, overlap=False)
    with cf_local.load(options=options) as fusion, ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(lambda q: fusion.answer(cf_local.chat(q)).text, QUESTIONS[:6]))
    assert texts == alone[:6]
    assert len(callers) == 1
    assert threading.get_ident() not in callers


def test_a_shared_system_prompt_is_evaluated_once() -> None:
    system = "Answer briefly. " * 20
    with cf_local.load(options=FOUR) as fusion:
        for question in QUESTIONS[:4]:
            list(fusion.conversation(system).ask(question))
        for source in fusion.sources:
            n_tokens = [session._committed.n_prompt for session in source.sessions]  # type: ignore[attr-defined]
            n_read = [session.counters.n_tokens for session in source.sessions]
            assert min(n_tokens) > 100
            assert n_read[0] > n_tokens[0]
            # The others have read their question and answer, which are shorter.
            assert all(n < 0.9 * n_read[0] for n in n_read[1:])


def test_cancel_within_a_long_prompt(tiny_model: Callable[..., Path]) -> None:
    """Passes over 256 tokens of a slow model are interrupted from within."""
    path = tiny_model("llama", n_embd=1024, n_ctx=60_000)
    with Fusion([LlamaSource("a", path, n_ctx=60_000, n_threads=1)]) as fusion:
        text = cf_local.RawText("the quick brown fox " * 9_000)
        began = threading.Event()
        stream = fusion.stream(text, on_progress=lambda _share: began.set())
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(list, stream)
            assert began.wait(60)
            time.sleep(0.2)
            start = time.monotonic()
            stream.cancel()
            (answer,) = reading.result(60)
            elapsed_s = time.monotonic() - start
        assert isinstance(answer, cf_local.Answer)
        assert answer.finish_reason == "cancelled"
        assert elapsed_s < 0.3


def test_nothing_of_a_closed_fusion_waits_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        with cf_local.load(options=cf_local.LoadOptions(n_ctx=512)) as fusion:
            fusion.answer(cf_local.chat(QUESTIONS[0]), cf_local.Settings(max_tokens=8))
        del fusion
        kinds = (cf_local.Fusion, LlamaSource, LlamaSession)
        assert [each for each in gc.get_objects() if isinstance(each, kinds)] == []
    finally:
        gc.enable()


def test_no_memory_is_lost_over_fifty_loads() -> None:
    code = f"""
import gc, json, psutil, cf_local
process, sizes = psutil.Process(), []
for index in range(50):
    with cf_local.load(options=cf_local.LoadOptions(n_ctx=512, n_conversations=2)) as fusion:
        for question in {QUESTIONS[:2]!r}:
            fusion.answer(cf_local.chat(question), cf_local.Settings(max_tokens=8))
    if index % 10 == 9:
        gc.collect()
        sizes.append(process.memory_info().rss / 1e6)
print(json.dumps(sizes))
"""
    # In a process of its own, whose allocator has one arena and returns what is free: models load
    # in several threads, and arenas of glibc grow and shrink by 50 MB on their own.
    environment = os.environ | {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_TRIM_THRESHOLD_": "0",
        "MALLOC_MMAP_THRESHOLD_": "65536",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    sizes = json.loads(done.stdout)
    assert sizes[-1] - sizes[0] < 8, sizes


@pytest.mark.parametrize(
    "how",
    [
        "next(stream)",
        "threading.Thread(target=list, args=(stream,), daemon=True).start(); time.sleep(0.2)",
    ],
)
def test_a_program_that_ends_in_the_middle_of_an_answer_ends(how: str) -> None:
    code = (
        "import threading, time, cf_local\n"
        "fusion = cf_local.load(options=cf_local.LoadOptions(n_threads=2))\n"
        "settings = cf_local.Settings(max_tokens=4000, repetition_guard=False)\n"
        "stream = fusion.stream(cf_local.RawText('7 boxes'), settings)\n"
        f"{how}\n"
        "print('end')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
