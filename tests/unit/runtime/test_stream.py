"""Several answers at once on one fusion: turns, the queue, cancelling, closing, asyncio."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scripted import VOCABULARIES, noise

from cf_local.errors import CfLocalError, ClosedError, ContextError, InputError
from cf_local.runtime.fusion import Fusion
from cf_local.runtime.stream import Stream
from cf_local.runtime.worker import Worker
from cf_local.settings import Settings
from cf_local.testing import PASS_TOKENS, PieceVocabulary, ScriptedSession, ScriptedSource, writes
from cf_local.types import Answer, Event, Message, RawText, Step

PIECES = VOCABULARIES[0]
LONG = Settings(max_tokens=100_000, repetition_guard=False)
ENDLESS = " fox" * 20_000
_PATIENCE_S = 20.0  # on a machine that does much else


def fusion_of(n_sessions: int = 1, text: str = "the fox is 24.", **options: object) -> Fusion:
    return Fusion(
        [
            ScriptedSource(n, PIECES, writes(text, PIECES), n_sessions=n_sessions, n_ctx=200_000)
            for n in "ab"
        ],
        **options,  # type: ignore[arg-type]
    )


def noisy(n_sessions: int, seed: int = 1) -> Fusion:
    """Two sources that dispute, so that scores and commits of others' words come up."""
    return Fusion(
        [
            ScriptedSource(name, vocabulary, noise(vocabulary, seed + i), n_sessions=n_sessions)
            for i, (name, vocabulary) in enumerate(zip("ab", VOCABULARIES, strict=False))
        ],
        Settings(max_tokens=30),
    )


def prompt(index: int) -> RawText:
    return RawText(f"How many? {index}")


def text_of(events: list[Event]) -> str:
    assert isinstance(events[-1], Answer)
    return events[-1].text


@pytest.fixture(params=[True, False], ids=["computes where asked", "computes in its thread"])
def lends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tiny sources may compute in the asking thread, others never do."""
    if not request.param:
        monkeypatch.setattr("cf_local.runtime.worker.Worker.do", lambda self, job: self.submit(job))
    return bool(request.param)


# --- Turns ----------------------------------------------------------------------------------


@hypothesis_settings(max_examples=40)
@given(seed=st.integers(0, 10**6), n_sessions=st.integers(1, 4), order=st.randoms())
def test_any_interleaving_writes_what_each_alone_writes(
    seed: int, n_sessions: int, order: random.Random
) -> None:
    with noisy(1, seed) as alone:
        expected = [alone.answer(RawText(f"{seed} {i}")).text for i in range(n_sessions)]
    with noisy(n_sessions, seed) as fusion:
        going = {i: fusion.stream(RawText(f"{seed} {i}")) for i in range(n_sessions)}
        found = [""] * n_sessions
        while going:
            index = order.choice(sorted(going))
            event = next(going[index])
            if isinstance(event, Answer):
                found[index] = event.text
                del going[index]
    assert found == expected


def test_threads_write_what_each_alone_writes(lends: bool) -> None:
    with noisy(1) as alone:
        expected = [alone.answer(prompt(i)).text for i in range(40)]
    with noisy(3) as fusion, ThreadPoolExecutor(8) as pool:  # more threads than slots: some wait
        assert [a.text for a in pool.map(fusion.answer, map(prompt, range(40)))] == expected


def test_passes_of_an_answer_are_its_own(lends: bool) -> None:
    with noisy(1) as alone:
        expected = [alone.answer(prompt(i)).passes for i in range(12)]
    with noisy(4) as fusion, ThreadPoolExecutor(4) as pool:
        assert [a.passes for a in pool.map(fusion.answer, map(prompt, range(12)))] == expected


class Slow(ScriptedSource):
    """Takes some time for every pass, and notes whose they are."""

    pass_s = 0.02
    log: list[str]

    def open_session(self) -> ScriptedSession:
        return SlowSession(self)


class SlowSession(ScriptedSession):
    source: Slow

    def _pass(self, n_tokens: int) -> None:
        super()._pass(n_tokens)
        self.source.log.append(getattr(self, "_asked", ""))
        self.take_time()

    def take_time(self) -> None:
        time.sleep(self.source.pass_s)

    def prefill(self, prompt: RawText, **how: object):  # type: ignore[no-untyped-def,override]
        self._asked = prompt.text[:1]
        return super().prefill(prompt, **how)  # type: ignore[arg-type]


def slow(n_sessions: int, text: str = ENDLESS) -> Fusion:
    Slow.log = []
    vocabulary = PieceVocabulary([" fox"])
    return Fusion(
        [Slow("a", vocabulary, writes(text, vocabulary), n_sessions=n_sessions, n_ctx=10**6)]
    )


def queued_turns(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One for each turn that waits."""
    queued: list[bool] = []
    submit = Worker.submit

    def count(worker: Worker, turn: Callable[[], None]) -> None:
        def taken() -> None:
            wait_until(lambda: queued)
            queued.pop()
            turn()

        submit(worker, taken)
        queued.append(True)

    monkeypatch.setattr(Worker, "submit", count)
    return queued


def test_turns_are_taken_segment_by_segment(lends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with slow(3) as fusion, ThreadPoolExecutor(3) as pool:
        names, n_each = "xyz", 40
        reading, queued = set(names), queued_turns(monkeypatch)

        def until_others_wait(_session: SlowSession) -> None:
            wait_until(lambda: len(queued) >= len(reading) - 1)

        def read(name: str) -> None:
            list(fusion.stream(RawText(name), Settings(max_tokens=n_each, repetition_guard=False)))
            reading.remove(name)

        monkeypatch.setattr(SlowSession, "take_time", until_others_wait)
        list(pool.map(read, names))
    # While all three write, each window of a few passes holds all of them.
    begins = max(Slow.log.index(name) for name in names)
    ends = min(len(Slow.log) - 1 - Slow.log[::-1].index(name) for name in names)
    together = Slow.log[begins:ends]
    assert len(together) > 2 * n_each
    counts = [together.count(name) for name in names]
    assert max(counts) - min(counts) <= 4
    assert all(set(together[i : i + 9]) == set(names) for i in range(len(together) - 9))


def test_a_long_prompt_does_not_keep_others_from_writing(
    lends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow(2) as fusion, ThreadPoolExecutor(2) as pool:
        queued, short = queued_turns(monkeypatch), list[Future[Answer]]()

        def until_the_other_waits(session: SlowSession) -> None:
            if session._asked == "L":
                wait_until(lambda: queued or any(found.done() for found in short))

        monkeypatch.setattr(SlowSession, "take_time", until_the_other_waits)
        long = pool.submit(fusion.answer, RawText("L" * PASS_TOKENS * 12), Settings(max_tokens=1))
        wait_until(lambda: Slow.log)
        short.append(pool.submit(fusion.answer, RawText("s"), Settings(max_tokens=3)))
        short[0].result(_PATIENCE_S)
        assert not long.done()
        long.result(_PATIENCE_S)
    assert Slow.log.count("L") == 12 + 1


def test_further_answers_wait_in_order(lends: bool) -> None:
    with fusion_of(1, ENDLESS) as fusion:
        first = fusion.stream(prompt(0), LONG)
        next(first)
        done: list[int] = []

        def ask(index: int) -> None:
            stream = fusion.stream(prompt(index), Settings(max_tokens=3))
            next(stream)
            done.append(index)  # while it holds the only slot, so that none overtakes it here
            stream.close()

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(1, 6)]
        for n_waiting, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda n=n_waiting: len(fusion._slots._queue) == n)
        assert done == []
        first.close()
        for thread in threads:
            thread.join(_PATIENCE_S)
        assert done == [1, 2, 3, 4, 5]


def wait_until(condition, patience_s: float = _PATIENCE_S) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_who_would_wait_for_himself_is_reported() -> None:
    with fusion_of(2, ENDLESS) as fusion:
        streams = [fusion.stream(prompt(i), LONG) for i in range(2)]
        for stream in streams:
            next(stream)
        with pytest.raises(CfLocalError, match="already writing"):
            fusion.answer(prompt(2))
        assert isinstance(next(streams[0]), Step)  # undisturbed
        streams.pop().close()
        assert fusion.answer(prompt(2), Settings(max_tokens=3)).text


def test_slots_of_streams_that_are_forgotten_are_free_again() -> None:
    with fusion_of(1, ENDLESS) as fusion:
        for index in range(6):
            stream = fusion.stream(prompt(index), LONG)
            next(stream)
            if index % 2:
                cycle: list[object] = [stream]
                cycle.append(cycle)
                del cycle, stream
                gc.collect()
            else:
                del stream
        assert fusion.answer(prompt(0), Settings(max_tokens=3)).text
        assert not fusion._streams


def test_a_conversation_that_comes_back_finds_its_slot() -> None:
    with fusion_of(3) as fusion:
        sessions = fusion.sources[0].sessions
        talks = [fusion.conversation(f"You are {name}.") for name in ("Ada", "Bob", "Cy")]
        for question in ("How many?", "Sure?", "Why?"):
            for talk in talks:
                list(talk.ask(question))
        texts = [session._prompt_text for session in sessions]  # type: ignore[attr-defined]
    assert sorted(text.split("\n")[0] for text in texts) == [
        "You are Ada.",
        "You are Bob.",
        "You are Cy.",
    ]
    assert all(text.count("?") == 3 for text in texts)


def test_another_conversation_takes_the_slot_that_was_not_used_for_longest() -> None:
    with fusion_of(2) as fusion:
        for text in ("ada", "bob", "ada 2", "cy"):
            fusion.answer(RawText(text))
        texts = {session._prompt_text for session in fusion.sources[0].sessions}  # type: ignore[attr-defined]
    assert texts == {"ada 2", "cy"}


# --- Cancelling -----------------------------------------------------------------------------


def test_one_of_several_is_cancelled(lends: bool) -> None:
    with fusion_of(2, ENDLESS) as fusion:
        one, other = (fusion.stream(prompt(i), LONG) for i in range(2))
        next(one)
        next(other)
        one.cancel()
        *_, answer = one
        assert isinstance(answer, Answer)
        assert answer.finish_reason == "cancelled"
        assert list(one) == []
        assert isinstance(next(other), Step)


@pytest.mark.parametrize("where", ["writing", "prompt", "queue", "turn of another"])
def test_cancel_is_quick(where: str, lends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for no pass but its own that has begun, and for no other answer."""
    with slow(1 if where == "queue" else 2) as fusion, ThreadPoolExecutor(2) as pool:
        text = "L" * PASS_TOKENS * 500 if where == "prompt" else "s"
        held, is_over = threading.Event(), threading.Event()
        queued = queued_turns(monkeypatch)

        def hold(session: SlowSession) -> None:
            if session._asked == "o":
                held.set()
                is_over.wait(2 * _PATIENCE_S)

        def hold_the_other() -> None:
            monkeypatch.setattr(SlowSession, "take_time", hold)
            assert held.wait(_PATIENCE_S)

        stream = fusion.stream(RawText(text), LONG)
        if where in ("writing", "turn of another"):
            next(stream)
        if where in ("queue", "turn of another"):
            pool.submit(list, fusion.stream(RawText("other"), LONG))
            wait_until(lambda: "o" in Slow.log)
        if where == "turn of another":
            hold_the_other()
        n_passes = len(Slow.log)
        reading = pool.submit(list, stream)
        if where == "turn of another":
            wait_until(lambda: queued)
        elif where == "queue":
            wait_until(lambda: fusion._slots._queue)
            hold_the_other()
        else:
            wait_until(lambda: len(Slow.log) > n_passes + 2)
        stream.cancel()
        n_passes = len(Slow.log)
        try:
            answer = reading.result(_PATIENCE_S)[-1]
            assert len(Slow.log) <= n_passes + 1
        finally:
            is_over.set()
            fusion.cancel()
    assert isinstance(answer, Answer)
    assert answer.finish_reason == "cancelled"


def test_cancel_ends_all_and_those_that_come_later_are_written(lends: bool) -> None:
    with fusion_of(2, ENDLESS) as fusion, ThreadPoolExecutor(4) as pool:
        streams = [fusion.stream(prompt(i), LONG) for i in range(4)]  # two of them wait
        reading = [pool.submit(list, stream) for stream in streams]
        wait_until(lambda: len(fusion._slots.jobs) == 4)
        fusion.cancel()
        answers = [found.result(_PATIENCE_S)[-1] for found in reading]
        assert [a.finish_reason for a in answers] == ["cancelled"] * 4  # type: ignore[union-attr]
        assert fusion.answer(prompt(0), Settings(max_tokens=3)).finish_reason == "length"


def test_cancelled_before_it_began_it_has_no_text() -> None:
    with fusion_of() as fusion:
        stream = fusion.stream(prompt(0))
        stream.cancel()
        (answer,) = stream
        assert isinstance(answer, Answer)
        assert (answer.text, answer.finish_reason) == ("", "cancelled")


def test_progress_counts_what_each_source_takes() -> None:
    with fusion_of() as fusion:
        for source, n_parameters in zip(fusion.sources, (1, 3), strict=True):
            assert isinstance(source, ScriptedSource)
            source.info = replace(source.info, n_parameters=n_parameters)
        shares: list[float] = []
        list(fusion.stream(RawText("x" * PASS_TOKENS * 2), on_progress=shares.append))
    assert shares == [0.125, 0.25, 0.625, 1.0]


def test_progress_is_reported_in_the_thread_that_reads(lends: bool) -> None:
    with fusion_of() as fusion:
        reported: list[tuple[float, int]] = []
        list(
            fusion.stream(
                RawText("x" * PASS_TOKENS * 3),
                on_progress=lambda share: reported.append((share, threading.get_ident())),
            )
        )
    shares = [share for share, _ in reported]
    assert len(shares) == 6
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {thread for _, thread in reported} == {threading.get_ident()}


# --- Errors ---------------------------------------------------------------------------------


class Fails(ScriptedSource):
    """Fails when it is asked for "fail"."""

    def open_session(self) -> ScriptedSession:
        return FailingSession(self)


class FailingSession(ScriptedSession):
    def draft(self, limit: int):  # type: ignore[no-untyped-def]
        if self._prompt_text == "fail":
            raise ContextError("full")
        return super().draft(limit)


def test_an_error_reaches_its_reader_with_its_traceback_and_nobody_else(lends: bool) -> None:
    source = Fails("a", PIECES, writes("the fox is 24.", PIECES), n_sessions=2)
    with Fusion([source]) as fusion:
        other = fusion.stream(prompt(0))
        next(other)
        for _ in range(5):
            with pytest.raises(ContextError, match="full") as raised:
                fusion.answer(RawText("fail"))
            assert any(entry.name == "draft" for entry in raised.traceback)
        assert text_of(list(other)) == "the fox is 24."
        assert fusion.answer(prompt(1)).text == "the fox is 24."


def test_errors_before_a_slot_is_taken(lends: bool) -> None:
    with fusion_of(2) as fusion:
        for _ in range(3):
            with pytest.raises(InputError):
                fusion.answer(prompt(0), Settings(mode="single", only="nobody"))
        assert fusion.answer(prompt(0)).text


def test_a_stream_has_one_reader_at_a_time() -> None:
    with slow(1) as fusion:
        stream = fusion.stream(RawText("s"), LONG)
        thread = threading.Thread(target=next, args=(stream,))
        thread.start()
        wait_until(lambda: Slow.log)
        with pytest.raises(CfLocalError, match="one reader"):
            next(stream)
        thread.join(_PATIENCE_S)


def test_work_with_the_sources_is_done_alone() -> None:
    with fusion_of(2, ENDLESS) as fusion:
        stream = fusion.stream(prompt(0), LONG)
        next(stream)
        with pytest.raises(CfLocalError, match="already writing"):
            fusion.alone(lambda: 1)
        other = fusion.stream(prompt(1), LONG)
        next(other)
        stream.close()
        assert fusion.alone(lambda: fusion.sources[0].info.name) == "a"  # the first slot is free
        with pytest.raises(ZeroDivisionError):
            fusion.alone(lambda: 1 / 0)
        assert isinstance(next(other), Step)


# --- Closing --------------------------------------------------------------------------------


def test_close_ends_all_streams_and_their_readers_get_what_came(lends: bool) -> None:
    fusion = fusion_of(2, ENDLESS)
    with ThreadPoolExecutor(4) as pool:
        reading = [pool.submit(list, fusion.stream(prompt(i), LONG)) for i in range(4)]
        wait_until(lambda: len(fusion._slots.jobs) == 4)
        fusion.close()
        answers = [found.result(_PATIENCE_S)[-1] for found in reading]
    assert [a.finish_reason for a in answers] == ["cancelled"] * 4  # type: ignore[union-attr]
    with pytest.raises(ClosedError):
        fusion.answer(prompt(0))
    for source in fusion.sources:
        with pytest.raises(ClosedError):
            source.sessions[0].draft(1)


def test_close_does_not_wait_for_readers_that_do_something_else() -> None:
    fusion = fusion_of(1, ENDLESS)
    stream = fusion.stream(prompt(0), LONG)
    reader = threading.Thread(target=next, args=(stream,))
    reader.start()
    reader.join(_PATIENCE_S)
    start = time.monotonic()
    fusion.close()
    assert time.monotonic() - start < 2
    (answer,) = stream
    assert isinstance(answer, Answer)
    assert answer.finish_reason == "cancelled"
    assert answer.text


def test_threads_end_with_their_fusion() -> None:
    before = threading.active_count()
    fusions = [fusion_of() for _ in range(5)]
    for fusion in fusions:
        fusion._worker.call(lambda: None)
    assert threading.active_count() == before + 5
    fusions[0].close()
    del fusion, fusions  # four are forgotten without having been closed
    gc.collect()
    wait_until(lambda: threading.active_count() == before)


def _in_child(fusion: Fusion, results: multiprocessing.SimpleQueue) -> None:  # type: ignore[type-arg]
    try:
        fusion.alone(lambda: None)
    except CfLocalError as error:
        results.put(str(error))
    fusion.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_is_reported_instead_of_waiting_forever() -> None:
    context = multiprocessing.get_context("fork")
    with fusion_of() as fusion:
        fusion._worker.call(lambda: None)
        results = context.SimpleQueue()
        child = context.Process(target=_in_child, args=(fusion, results))
        child.start()
        child.join(_PATIENCE_S)
        assert child.exitcode == 0
        assert "forked" in results.get()
        assert fusion.answer(prompt(0)).text


# --- asyncio --------------------------------------------------------------------------------


async def read(stream: Stream) -> list[Event]:
    return [event async for event in stream]


def test_async_iteration_gives_the_same_events() -> None:
    with noisy(3) as fusion:
        expected = [fusion.answer(prompt(i)).text for i in range(6)]

        async def main() -> list[str]:
            found = await asyncio.gather(*(read(fusion.stream(prompt(i))) for i in range(6)))
            return [text_of(events) for events in found]

        assert asyncio.run(main()) == expected


def test_the_loop_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    held, is_over = threading.Event(), threading.Event()

    def hold(_session: SlowSession) -> None:
        held.set()
        is_over.wait(_PATIENCE_S)

    async def main(fusion: Fusion) -> Event:
        first = asyncio.ensure_future(anext(fusion.stream(RawText("s"), LONG)))
        while not held.is_set():
            await asyncio.sleep(0.001)
        assert not first.done()  # the loop goes on within a pass
        is_over.set()
        return await first

    monkeypatch.setattr(SlowSession, "take_time", hold)
    with slow(1) as fusion:
        assert isinstance(asyncio.run(main(fusion)), Step)


@pytest.mark.parametrize("how", ["task", "timeout", "aclose", "break", "cancel"])
def test_async_answers_end_with_their_reader(how: str) -> None:
    async def main(fusion: Fusion) -> float:
        stream = fusion.stream(RawText("s"), LONG)
        start = time.monotonic()
        if how == "task":
            task = asyncio.create_task(read(stream))
            await asyncio.sleep(0.2)
            task.cancel()
            start = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await read(stream)
            start = time.monotonic() - 0.01
        elif how == "aclose":
            await anext(stream)
            await stream.aclose()
            assert await read(stream) == []
        elif how == "break":
            async with stream as events:
                async for _ in events:
                    break
        else:
            task = asyncio.create_task(read(stream))
            await asyncio.sleep(0.2)
            threading.Timer(0.01, stream.cancel).start()
            start = time.monotonic()
            assert (await task)[-1].finish_reason == "cancelled"  # type: ignore[union-attr]
        del stream
        answer = (await read(fusion.stream(RawText("t"), Settings(max_tokens=1))))[-1]
        assert isinstance(answer, Answer)
        assert answer.finish_reason == "length"
        return time.monotonic() - start

    with slow(1) as fusion:  # one slot: the second answer shows that it is free again
        assert asyncio.run(main(fusion)) < _PATIENCE_S


def test_tasks_of_one_loop_wait_for_each_other_but_a_task_not_for_itself() -> None:
    async def main(fusion: Fusion) -> None:
        stream = fusion.stream(prompt(0), LONG)
        await anext(stream)
        with pytest.raises(CfLocalError, match="already writing"):
            await anext(fusion.stream(prompt(1)))
        with pytest.raises(CfLocalError, match="already writing"):
            fusion.answer(prompt(1))  # would block the loop
        waiting = asyncio.create_task(read(fusion.stream(prompt(1), Settings(max_tokens=3))))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await stream.aclose()
        assert text_of(await waiting)

    with fusion_of(1, ENDLESS) as fusion:
        asyncio.run(main(fusion))


# --- Conversations --------------------------------------------------------------------------


def test_conversations_in_threads_keep_their_turns_apart(lends: bool) -> None:
    def talk(fusion: Fusion, index: int) -> list[Message]:
        conversation = fusion.conversation(f"You are {index}.")
        for question in ("Q", "R", "S"):
            *_, answer = conversation.ask(f"{question}{index}")
            assert isinstance(answer, Answer)
        return conversation.messages

    with noisy(1) as alone:
        expected = [talk(alone, i) for i in range(6)]
    with noisy(3) as fusion, ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda i: talk(fusion, i), range(6))) == expected


def test_a_conversation_answers_one_question_at_a_time() -> None:
    with fusion_of(2, ENDLESS) as fusion:
        conversation = fusion.conversation()
        turn = conversation.ask("Q", LONG)
        next(turn)
        with pytest.raises(CfLocalError, match="still being answered"):
            next(conversation.ask("R"))
        turn.cancel()
        *_, answer = turn
        assert isinstance(answer, Answer)
        *_, answer = conversation.ask("R", Settings(max_tokens=3))
        assert [m.content for m in conversation.messages][::2] == ["Q", "R"]


def test_an_async_conversation_drops_old_turns_and_keeps_what_came() -> None:
    bytes_only = VOCABULARIES[2]
    source = ScriptedSource("a", bytes_only, writes("It is 42.", bytes_only), n_ctx=300)

    async def main(fusion: Fusion) -> None:
        conversation, dropped = fusion.conversation("S"), list[int]()
        conversation.messages += [Message("user", "q" * 90), Message("assistant", "a" * 50)] * 2
        async for _event in conversation.ask("R", on_dropped=dropped.append):
            pass
        assert dropped == [1]
        async with conversation.ask("S") as turn:
            await anext(turn)
        assert conversation.messages[-1] == Message("assistant", "It")

    with Fusion([source]) as fusion:
        asyncio.run(main(fusion))


def test_a_conversation_without_a_fusion_cannot_be_asked() -> None:
    from cf_local.runtime.conversation import Conversation

    with pytest.raises(InputError, match=r"fusion\.conversation"):
        Conversation().ask("Q")
