"""A fusion as a replica of Ray Serve: loaded in an actor of its own, and asked from the server.

What crosses the border is plain data: a prompt and settings one way, the events of an answer the
other. A replica answers as many requests at once as its fusion has slots.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cf_local.evaluation.likelihood import Judge, Token
from cf_local.loading.load import load_chosen
from cf_local.loading.load_options import LoadOptions
from cf_local.registry.registry import SourceSpec
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import Counters, Event, Prompt, SourceInfo

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a replica has loaded: what the server has to know of a fusion that is elsewhere."""

    infos: tuple[SourceInfo, ...]
    settings: Settings
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a replica: its answers, those being written, and its sources' work."""

    replica: str
    node: str
    n_running: int
    n_answers: int
    counters: dict[str, Counters]


@dataclass(frozen=True, slots=True)
class Plan:
    """What each replica loads; ``n_cores`` are set aside for it.

    ``ends_serve``: Ray Serve was started for this server, and ends with it.
    """

    specs: tuple[SourceSpec, ...]
    settings: Settings
    options: LoadOptions
    n_cores: int
    ends_serve: bool


class Replica:
    """One replica. It ends with the server that asked for it, whatever ended that."""

    def __init__(self, plan: Plan, app: str, lifeline: Any) -> None:
        """Load the fusion of ``plan`` for the application ``app``. Raises what loading raises.

        ``lifeline`` is an actor that lives as long as the server.
        """
        options, notices = plan.options.within(plan.n_cores), list[str]()
        self._fusion = load_chosen(
            plan.specs, plan.settings, options=options, on_notice=notices.append
        )
        infos = tuple(source.info for source in self._fusion.sources)
        self._loaded = Loaded(infos, self._fusion.settings, tuple(notices))
        self._parts: dict[tuple[str, ...], Fusion] = {}
        self._n_running = self._n_answers = 0
        threading.Thread(
            target=_end_with, args=(app, lifeline, plan.ends_serve), daemon=True
        ).start()

    async def loaded(self) -> Loaded:
        """What is loaded."""
        return self._loaded

    async def answer(
        self, names: tuple[str, ...], prompt: Prompt, settings: Settings
    ) -> AsyncGenerator[Event]:
        """The events of an answer by the sources of these names. Closing it ends the answer."""
        from ray import serve

        if conversation := serve.get_multiplexed_model_id():
            await self.resident(conversation)
        self._n_running += 1
        try:
            async with self._part(names).stream(prompt, settings) as stream:
                async for event in stream:
                    yield event
            self._n_answers += 1
        finally:
            self._n_running -= 1

    async def resident(self, conversation: str) -> str:
        """Note that a conversation is in the caches; the deployment makes Serve know it."""
        return conversation

    async def tokens(
        self, names: tuple[str, ...], prompt: Prompt, settings: Settings, n_likely: int
    ) -> list[Token]:
        """The tokens of a prompt, as ``Judge.tokens``."""
        gone = threading.Event()
        judge = Judge(self._part(names), settings)
        try:
            return await asyncio.to_thread(judge.tokens, prompt, n_likely, is_cancelled=gone.is_set)
        finally:
            gone.set()

    async def n_prompt_tokens(
        self, names: tuple[str, ...], prompt: Prompt, settings: Settings
    ) -> dict[str, int]:
        """Like ``Fusion.n_prompt_tokens``."""
        return await asyncio.to_thread(self._part(names).n_prompt_tokens, prompt, settings)

    async def ask_source(self, name: str, method: str, *arguments: Any, **named: Any) -> Any:
        """What a method of a source returns, or an attribute of it."""
        (source,) = [each for each in self._fusion.sources if each.info.name == name]
        found = getattr(source, method)
        return await asyncio.to_thread(found, *arguments, **named) if callable(found) else found

    async def figures(self) -> Figures:
        """The figures of this replica."""
        import ray
        from ray import serve

        context = serve.get_replica_context()
        counters = {
            source.info.name: sum((session.counters for session in source.sessions), Counters())
            for source in self._fusion.sources
        }
        node = ray.get_runtime_context().get_node_id()
        return Figures(
            context.replica_id.unique_id, node, self._n_running, self._n_answers, counters
        )

    def _part(self, names: tuple[str, ...]) -> Fusion:
        """The fusion of some of the sources; it is cached, as it learns from its answers."""
        if names not in self._parts:
            self._parts[names] = self._fusion.of(names)
        return self._parts[names]


def _end_with(app: str, lifeline: Any, ends_serve: bool) -> None:
    """Delete the application once the server is gone: Serve itself would keep it forever."""
    import ray
    from ray import serve

    with suppress(ray.exceptions.RayActorError):
        ray.get(lifeline.wait.remote())
    _log.warning("%s: the server is gone.", app)
    serve.delete(app, _blocking=False)
    if ends_serve and not serve.status().applications.keys() - {app}:
        serve.shutdown()


class Lifeline:
    """Lives as long as the server; its replicas wait for its end."""

    async def wait(self) -> None:
        """Wait forever."""
        await asyncio.Event().wait()
