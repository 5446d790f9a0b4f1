"""A source on another node: what the engine knows of it, and what happens when it is lost."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from cf_local.cluster.actor import Opener
from cf_local.cluster.connection import Cluster
from cf_local.cluster.host import Host, SourceLostError
from cf_local.cluster.messages import Opened, Where
from cf_local.cluster.session import RaySession
from cf_local.cluster.texts import RemoteTexts, Texts
from cf_local.errors import Cancelled, CfLocalError, ClosedError, ClusterError
from cf_local.method.costs import PassCosts
from cf_local.method.tokenization import Vocabulary
from cf_local.planning.nodes import Placement
from cf_local.progress import IsCancelled, Progress, never
from cf_local.types import Prompt

_TRIALS = 5
_PLACES_S = 60.0  # to find a node that can take it
_PAUSE_S = 0.2
_log = logging.getLogger(__name__)


class RaySource:
    """A source whose model is in an actor; it obeys the protocol of ``method.session``."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        opener: Opener,
        placement: Placement,
        *,
        copy: Callable[[str], Texts | None] = lambda _fingerprint: None,
        node_id: str = "",
        is_cancelled: IsCancelled = never,
        on_progress: Progress | None = None,
    ) -> None:
        """Place an actor and let it load the source with ``opener``.

        ``copy`` opens the vocabulary here if this machine has a file of that fingerprint.
        ``node_id`` is the node for the actor, if that can take it.
        ``cluster`` is closed with the source, and if it cannot be loaded. Raises ClusterError,
        Cancelled, and what the load on the node raises.
        """
        self.is_closed = False
        self.notice = ""
        """What happened when it was loaded again the last time."""
        self._cluster, self._name, self._opener = cluster, name, opener
        self._placement = placement
        self._lock = threading.Lock()  # held while the source is loaded again
        try:
            self.host, opened = self._loaded("", is_cancelled, on_progress, node_id)
        except BaseException:
            cluster.close()
            raise
        self.info, self.bounds = opened.info, opened.bounds
        self.has_template = opened.has_template
        self.costs = _with_round_trip(opened.costs, placement.round_trip_ms / 1000)
        here = copy(opened.fingerprint) if opened.fingerprint is not None else None
        self._texts: Texts = here or RemoteTexts(self._ask)
        self.sessions: Sequence[RaySession] = [
            RaySession(self, index, state, self._texts.vocabulary, looks_ahead=opened.looks_ahead)
            for index, state in enumerate(opened.states)
        ]

    @property
    def node(self) -> str:
        """The name of the node that it is on."""
        return self.host.node

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The copy of its vocabulary that is here; None where the node is asked for tokens."""
        return self._texts.vocabulary

    def round_trip_s(self) -> float:
        """Seconds that a message there and back takes now, while no answer is written."""
        times = []
        for _ in range(_TRIALS):
            start = time.perf_counter()
            self.host.of_texts("n_tokens", "")
            times.append(time.perf_counter() - start)
        return median(times)

    def joins(self, char: str) -> frozenset[str]:
        """What follows ``char`` within a token (see Source.joins)."""
        return self._texts.joins(char)

    def n_tokens(self, text: str) -> int:
        """Tokens of a text on its own (see Source.n_tokens)."""
        self.check_open()
        return self._texts.n_tokens(text)

    def n_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt (see Source.n_prompt_tokens)."""
        self.check_open()
        return self._texts.n_prompt_tokens(prompt)

    def tokenize(self, text: str, *, adds_bos: bool) -> list[int]:
        """The tokens of a raw text (see OwnTokens.tokenize)."""
        self.check_open()
        return self._texts.tokenize(text, adds_bos=adds_bos)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The text of tokens (see OwnTokens.detokenize)."""
        self.check_open()
        return self._texts.detokenize(tokens)

    def close(self) -> None:
        """End the actor. May be called twice."""
        if self.is_closed:
            return
        self.is_closed = True
        self._texts.close()
        self.host.close()
        self._cluster.close()

    def check_open(self) -> None:
        """Raise ClosedError after ``close``."""
        if self.is_closed:
            raise ClosedError(f"{self._name} has been closed.")

    def revive(self, lost: SourceLostError, life: int, is_cancelled: IsCancelled) -> None:
        """Load the source again after the actor of that ``life`` was lost.

        Raises ClusterError, with the reason of the loss, where no node can take it.
        """
        with self._lock:
            before = self.host
            if before.life == life:
                self.host = self._loaded_again(lost, before.where, is_cancelled)
                before.kill()
                self.notice = (
                    f"{lost} It was loaded again on {self.node}, and the answer goes on from the "
                    "text that was written."
                )
                _log.info("%s", self.notice)

    def _ask(self, name: str, *args: Any, **how: Any) -> Any:
        """What the source in the actor says about a text; asked again of a new actor."""
        host = self.host
        try:
            return host.of_texts(name, *args, **how)
        except SourceLostError as lost:
            self.revive(lost, host.life, never)
            return self.host.of_texts(name, *args, **how)

    def _loaded_again(
        self, lost: SourceLostError, before: Where | None, is_cancelled: IsCancelled
    ) -> Host:
        try:
            host, opened = self._loaded("" if before is None else before.node_id, is_cancelled)
        except Cancelled:
            raise
        except CfLocalError as error:
            raise ClusterError(f"{lost} It cannot be loaded again: {error}") from error
        if opened.info.n_ctx < self.info.n_ctx:
            host.kill()
            raise ClusterError(
                f"{lost} {host.node} has room for a context of only {opened.info.n_ctx} tokens, "
                f"but this fusion was loaded with {self.info.n_ctx}. Load it again."
            )
        return host

    def _loaded(
        self,
        avoid: str,
        is_cancelled: IsCancelled,
        on_progress: Progress | None = None,
        wished: str = "",
    ) -> tuple[Host, Opened]:
        """Load it on a node: ``wished`` if possible, and another one than ``avoid``."""
        deadline = time.monotonic() + _PLACES_S
        while True:
            host = Host(self._cluster, self._name, self._placement, avoid=avoid, wished=wished)
            try:
                return host, host.load(self._opener, is_cancelled, on_progress)
            except SourceLostError:
                # Ray may not know yet that a node is dead, and try to start a process there.
                if host.where is not None or time.monotonic() > deadline:
                    raise
                avoid = host.meant_for
            if is_cancelled():
                raise Cancelled(f"Loading {self._name} was cancelled.")
            time.sleep(_PAUSE_S)


def _with_round_trip(costs: PassCosts, round_trip_s: float) -> PassCosts:
    """The costs of passes that must be asked for over a network."""
    return replace(costs, seconds=tuple((n, pass_s + round_trip_s) for n, pass_s in costs.seconds))
