"""Writes the answers to a request, one after the other, in one slot of the pool."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

from cf_local.errors import CfLocalError
from cf_local.runtime.fusion import Fusion
from cf_local.runtime.stream import Stream
from cf_local.server.api_errors import of_answer, timed_out
from cf_local.server.catalogue import ServedModel
from cf_local.server.choice import Choice, Delta, Usage
from cf_local.server.metrics import Metrics
from cf_local.server.pool import Pool
from cf_local.server.requests import AnswerRequest
from cf_local.server.serve_options import ServeOptions
from cf_local.settings import Settings
from cf_local.types import Answer, Event, Prompt, Step

_log = logging.getLogger(__name__)


class Answerer:
    """Answers requests on fusions of the pool."""

    def __init__(self, pool: Pool, metrics: Metrics, options: ServeOptions) -> None:
        self._pool, self._metrics, self._options = pool, metrics, options

    async def deltas(self, request: AnswerRequest, model: ServedModel) -> AsyncGenerator[Delta]:
        """What the answers to a request consist of, as they are written. Raises ApiError.

        Closing the generator early cancels the answer being written.
        """
        clock = _Clock(self._metrics, model.name)
        async with self._pool.slot(model) as fusion:
            deadline = asyncio.get_running_loop().time() + self._options.timeout_s
            for index, prompt, seed in request.choices(secrets.randbits(31)):
                try:
                    settings = self._settings(request, model, fusion, seed)
                    stream = fusion.stream(prompt, settings)
                    names = [source.info.name for source in fusion.speakers(settings)]
                except CfLocalError as error:
                    raise of_answer(error) from error
                self._log_prompt(prompt)
                choice = Choice(index, settings, names)
                with clock.answer() as ended, stream:
                    while (event := await self._next(stream, deadline)) is not None:
                        if isinstance(event, Step):
                            clock.segment()
                            yield choice.add(event)
                        else:
                            usage = _usage(fusion, event)
                            ended(event, usage)
                            yield choice.end(event, usage)

    def _settings(
        self, request: AnswerRequest, model: ServedModel, fusion: Fusion, seed: int
    ) -> Settings:
        defaults = replace(model.settings, stop=fusion.settings.stop)
        return request.settings_over(defaults, [s.info for s in fusion.sources], seed)

    async def _next(self, stream: Stream, deadline: float) -> Event | None:
        """The next event; None after the last one. Raises ApiError."""
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(stream)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise timed_out(self._options.timeout_s) from None
        except CfLocalError as error:
            raise of_answer(error) from error

    def _log_prompt(self, prompt: Prompt) -> None:
        if self._options.logs_prompts:
            _log.info("Prompt: %r", prompt)


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


def _usage(fusion: Fusion, answer: Answer) -> Usage:
    first = answer.sources[0].name
    source = next(source for source in fusion.sources if source.info.name == first)
    try:
        return Usage(answer.prompt_tokens.get(first, 0), source.n_tokens(answer.text))
    except CfLocalError as error:  # the model was closed meanwhile
        raise of_answer(error) from error
