"""Writes the answers to a request, one after the other, in one slot of the pool."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from cf_local.errors import CfLocalError
from cf_local.runtime.fusion import Fusion
from cf_local.runtime.stream import Stream
from cf_local.server.api_errors import of_answer, timed_out
from cf_local.server.catalogue import ServedModel
from cf_local.server.pool import Pool
from cf_local.server.prometheus import Metrics
from cf_local.server.requests import ApiRequest
from cf_local.server.serve_options import ServeOptions
from cf_local.settings import Settings
from cf_local.types import Answer, Event, Prompt, Step

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompt and of the answer, counted by the first source that takes part."""

    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class AnswerEvent:
    """An event of the answer for choice ``index``; the last one carries ``usage``."""

    index: int
    settings: Settings
    event: Event
    usage: Usage | None = None


class Answerer:
    """Answers requests on fusions of the pool."""

    def __init__(self, pool: Pool, metrics: Metrics, options: ServeOptions) -> None:
        self._pool, self._metrics, self._options = pool, metrics, options

    async def events(self, request: ApiRequest, model: ServedModel) -> AsyncGenerator[AnswerEvent]:
        """All events of the answers to a request. Raises ApiError.

        Closing the generator early cancels the answer being written.
        """
        clock = _Clock(self._metrics, model.name)
        async with self._pool.slot(model) as fusion:
            deadline = asyncio.get_running_loop().time() + self._options.timeout_s
            defaults = replace(model.settings, stop=fusion.settings.stop)
            sources = [source.info for source in fusion.sources]
            for index, prompt, seed in request.choices:
                try:
                    settings = request.settings_over(defaults, sources, seed)
                    stream = fusion.stream(prompt, settings)
                except CfLocalError as error:
                    raise of_answer(error) from error
                self._log_prompt(prompt)
                with clock.answer() as ended, stream:
                    while (event := await self._next(stream, deadline)) is not None:
                        usage = None
                        if isinstance(event, Step):
                            clock.segment()
                        else:
                            try:
                                usage = _usage(fusion, event)
                            except CfLocalError as error:  # the model was closed meanwhile
                                raise of_answer(error) from error
                            ended(event, usage)
                        yield AnswerEvent(index, settings, event, usage)

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
        self._metrics.segments.add(self._model)
        if self._is_first:
            self._is_first = False
            self._metrics.first_s.observe(time.perf_counter() - self._start, self._model)

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
        self._metrics.answer_s.observe(time.perf_counter() - self._start, self._model)
        self._metrics.tokens.add(self._model, "prompt", amount=usage.prompt)
        self._metrics.tokens.add(self._model, "completion", amount=usage.completion)

    def __exit__(self, *_: object) -> None:
        self._metrics.answers.add(self._model, self._end)


def _usage(fusion: Fusion, answer: Answer) -> Usage:
    first = answer.sources[0].name
    source = next(source for source in fusion.sources if source.info.name == first)
    return Usage(answer.prompt_tokens.get(first, 0), source.n_tokens(answer.text))
