"""Writes the answers to a request, in one slot of the pool, and in more where these are free."""

import asyncio
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from cf_local.errors import CfLocalError
from cf_local.evaluation.likelihood import Judge, Token
from cf_local.runtime.stream import Stream
from cf_local.server.api_errors import of_answer, timed_out
from cf_local.server.catalogue import ServedModel
from cf_local.server.choice import Choice, Delta, PartSplitter, Usage
from cf_local.server.metrics import Metrics
from cf_local.server.pool import Pool, Served
from cf_local.server.replication.proxy import ReplicatedFusion, ReplicatedStream
from cf_local.server.requests import AnswerRequest
from cf_local.server.serve_options import ServeOptions
from cf_local.server.vocabulary import AnySource, Echo, echo, readable
from cf_local.settings import Settings
from cf_local.types import Answer, Event, Prompt, Step

T = TypeVar("T")
_MOST_READERS = 64
_log = logging.getLogger(__name__)


class Answerer:
    """Answers requests on fusions of the pool."""

    def __init__(self, pool: Pool, metrics: Metrics, options: ServeOptions) -> None:
        self._pool, self._metrics, self._options = pool, metrics, options
        # Each waits for its slot, so they must not share the few threads of the event loop.
        self._readers = ThreadPoolExecutor(_MOST_READERS, "cf-local-echo")

    async def deltas(self, request: AnswerRequest, model: ServedModel) -> AsyncGenerator[Delta]:
        """What the answers to a request consist of, as they are written. Raises ApiError.

        Several answers are written at the same time while slots are free. Closing the generator
        early cancels them.
        """
        clock = _Clock(self._metrics, model.name)
        async with self._pool.place(model) as place:
            deadline = asyncio.get_running_loop().time() + self._options.timeout_s
            waiting = deque(request.choices(secrets.randbits(31)))
            running: dict[asyncio.Future[Delta | None], AsyncGenerator[Delta]] = {}
            is_read, echoes = False, dict[Prompt, Echo]()
            try:
                while waiting or running:
                    # A prompt that others share is read once: the first answer is ahead of them.
                    while waiting and (not running or (is_read and place.take_more())):
                        work = _Work(place.fusion, deadline, clock, echoes, *waiting.popleft())
                        answer = self._answer(request, model, work)
                        running[_next_of(answer)] = answer
                    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for future in done:
                        answer, is_read = running.pop(future), True
                        if (delta := future.result()) is not None:
                            running[_next_of(answer)] = answer
                            yield delta
                        elif running:
                            place.give_back()
            finally:
                for future in running:
                    future.cancel()
                await asyncio.gather(*running, return_exceptions=True)
                for answer in running.values():
                    await answer.aclose()

    async def n_prompt_tokens(self, request: AnswerRequest, model: ServedModel) -> int:
        """The tokens of a request's first prompt, as its usage would count them. Raises ApiError.

        It takes a turn as an answer does: the model may have to be loaded.
        """
        async with self._pool.place(model) as place:
            try:
                settings = self._settings(request, model, place.fusion, seed=0)
                counts = await asyncio.to_thread(
                    place.fusion.n_prompt_tokens, request.prompts[0], settings
                )
            except CfLocalError as error:
                raise of_answer(error) from error
        return next(iter(counts.values()))

    async def _answer(
        self, request: AnswerRequest, model: ServedModel, work: "_Work"
    ) -> AsyncGenerator[Delta]:
        """What one answer consists of. Raises ApiError."""
        fusion = work.fusion
        try:
            settings = self._settings(request, model, fusion, work.seed)
            sources: Sequence[AnySource] = fusion.speakers(settings)
            infos = [source.info for source in sources]
            splitter = PartSplitter(work.prompt, settings, infos)
            stream = fusion.stream(readable(work.prompt, sources), settings)
        except CfLocalError as error:
            raise of_answer(error) from error
        self._log_prompt(work.prompt)
        choice = Choice(work.index, settings, [info.name for info in infos], splitter)
        with work.clock.answer() as ended, stream:
            if request.echoes:
                if work.prompt not in work.echoes:
                    reading = self._echo(request, work.prompt, fusion, settings)
                    work.echoes[work.prompt] = await self._in_time(reading, work.deadline)
                yield choice.begin(work.echoes[work.prompt])
            if not request.answers:
                shown = work.echoes[work.prompt]
                answer = await asyncio.to_thread(_no_answer, shown, settings, sources)
                delta = choice.end(answer)
                choice.usage = await asyncio.to_thread(_usage, sources[0], choice, answer)
                ended(answer, choice.usage)
                yield delta
                return
            while (event := await self._next(stream, work.deadline)) is not None:
                if isinstance(event, Step):
                    work.clock.segment()
                    yield choice.add(event)
                else:
                    delta = choice.end(event)
                    choice.usage = await asyncio.to_thread(_usage, sources[0], choice, event)
                    ended(event, choice.usage)
                    yield delta

    def _settings(
        self, request: AnswerRequest, model: ServedModel, fusion: Served, seed: int
    ) -> Settings:
        defaults = replace(model.settings, stop=fusion.settings.stop)
        return request.settings_over(defaults, [s.info for s in fusion.sources], seed)

    async def _next(self, stream: Stream | ReplicatedStream, deadline: float) -> Event | None:
        """The next event; None after the last one. Raises ApiError."""
        return await self._in_time(anext(stream, None), deadline)

    async def _in_time(self, work: Awaitable[T], deadline: float) -> T:
        try:
            async with asyncio.timeout_at(deadline):
                return await work
        except TimeoutError:
            raise timed_out(self._options.timeout_s) from None
        except CfLocalError as error:
            raise of_answer(error) from error

    async def _echo(
        self, request: AnswerRequest, prompt: Prompt, fusion: Served, settings: Settings
    ) -> Echo:
        """The prompt, with the likelihood of its tokens if the request asks for it."""
        n_likely, gone = request.n_logprobs, threading.Event()

        async def read(prompt: Prompt) -> Sequence[Token]:
            if isinstance(fusion, ReplicatedFusion):
                return await fusion.tokens(prompt, settings, n_likely or 0)
            judge = Judge(fusion, settings)
            work = partial(judge.tokens, prompt, n_likely or 0, is_cancelled=gone.is_set)
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)

        try:
            speakers = fusion.speakers(settings)
            return await echo(prompt, speakers, None if n_likely is None else read)
        finally:
            gone.set()  # a client that has left

    def _log_prompt(self, prompt: Prompt) -> None:
        if self._options.logs_prompts:
            _log.info("Prompt: %r", prompt)


@dataclass(frozen=True, slots=True)
class _Work:
    """One answer to write; those of a request share the ``echoes`` of its prompts."""

    fusion: Served
    deadline: float
    clock: "_Clock"
    echoes: dict[Prompt, Echo]
    index: int
    prompt: Prompt
    seed: int


def _next_of(answer: AsyncGenerator[Delta]) -> "asyncio.Future[Delta | None]":
    return asyncio.ensure_future(anext(answer, None))


class _Clock:
    """Measures the times of one request and counts its results."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics, self._model = metrics, model
        self._start = time.perf_counter()
        self._is_first = True

    def segment(self) -> None:
        """Count a segment."""
        self._metrics.segments.labels(self._model).inc()
        if self._is_first:
            self._is_first = False
            self._metrics.first_s.labels(self._model).observe(time.perf_counter() - self._start)

    def answer(self) -> "_AnswerClock":
        """Start to measure an answer."""
        return _AnswerClock(self._metrics, self._model)


class _AnswerClock:
    """Counts one answer, even if it is cancelled."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics, self._model = metrics, model
        self._start, self._end = time.perf_counter(), "given_up"

    def __enter__(self) -> "_AnswerClock":
        return self

    def __call__(self, answer: Answer, usage: Usage) -> None:
        """Record that the answer is complete."""
        self._end = answer.finish_reason
        self._metrics.answer_s.labels(self._model).observe(time.perf_counter() - self._start)
        self._metrics.tokens.labels(self._model, "prompt").inc(usage.prompt)
        self._metrics.tokens.labels(self._model, "completion").inc(usage.completion)

    def __exit__(self, *_: object) -> None:
        self._metrics.answers.labels(self._model, self._end).inc()


def _no_answer(echo: Echo, settings: Settings, speakers: Sequence[AnySource]) -> Answer:
    """What ends a choice that shows nothing but its prompt."""
    infos = tuple(source.info for source in speakers)
    return Answer(
        text="",
        finish_reason="length",
        mode=settings.mode,
        chosen=infos[0].name,
        passes={info.name: 0 for info in infos},
        prompt_s=0.0,
        prompt_tokens={infos[0].name: speakers[0].n_tokens(echo.text)},
        elapsed_s=0.0,
        decode_s=0.0,
        sources=infos,
    )


def _usage(source: AnySource, choice: Choice, answer: Answer) -> Usage:
    """The tokens of an answer, counted by ``source``."""
    name = source.info.name
    try:
        return Usage(
            prompt=answer.prompt_tokens.get(name, 0),
            completion=source.n_tokens(answer.text),
            cached=answer.cached_tokens.get(name, 0),
            reasoning=source.n_tokens(choice.reasoning) if choice.reasoning else 0,
        )
    except CfLocalError as error:  # the model has been closed since
        raise of_answer(error) from error
