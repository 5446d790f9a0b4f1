"""One life of an actor, seen from here: placed, loaded, asked, lost.

Waiting for it looks now and then at what else matters: whether the user has cancelled, and whether
the actor still lives. Ray reports a process that has died at once and a node after some seconds; a
process that hangs is found by asking it.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from cf_local.cluster.actor import CONTROL, Opener, SourceActor, version
from cf_local.cluster.connection import Cluster, library, why_lost
from cf_local.cluster.messages import PROTOCOL, Message, Opened, Where
from cf_local.errors import Cancelled, CfLocalError, ClusterError
from cf_local.planning.nodes import Placement, best_node
from cf_local.progress import IsCancelled, Progress, never

POLL_S = 0.05
"""Seconds between looks while an actor works: the first part of the time that a cancel takes."""
PLACE_S = 60.0
"""Seconds to wait for a node with enough that is free, and for the process there."""
QUIET_S = 10.0
"""Seconds without a result after which an actor is asked whether it is alive."""
LOST_S = 30.0
"""Seconds to wait for that answer."""
_lives = itertools.count(1)
_lock = threading.Lock()
_n_taken: Counter[str] = Counter()  # sources of this process by the id of their node


def n_taken() -> Mapping[str, int]:
    """How many sources of this process each node has, by its id."""
    with _lock:
        return dict(_n_taken)


class SourceLostError(ClusterError):
    """An actor or its node has died or cannot be reached, with all that it had read."""


class Host:
    """An actor that holds the source ``name``. Any thread may ask; answers come in order."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        placement: Placement,
        *,
        avoid: str = "",
        wished: str = "",
    ) -> None:
        """On the node ``wished`` if possible, on ``avoid``, which may be dead, as a last resort.

        Raises ClusterError if no node of the cluster can ever take it.
        """
        nodes = cluster.nodes()
        refusal = placement.refusal(name, nodes)
        if refusal is not None:
            raise ClusterError(refusal)
        self.life = next(_lives)
        self.where: Where | None = None
        self._is_ended = False
        self._name, self._cluster, self._placement = name, cluster, placement
        self._ray = library()
        with _lock:
            node = best_node(placement, nodes, _n_taken, avoid=avoid, wished=wished)
            self.meant_for = "" if node is None else node.id
            _n_taken[self.meant_for] += 1
        self._actor = self._started()

    def _started(self) -> Any:
        """A new actor."""
        kind = self._ray.remote(concurrency_groups={CONTROL: 2})(SourceActor)
        placed = kind.options(
            **self._options(),
            max_restarts=0,  # a new life has read nothing: ``RaySource.revive`` starts it
            max_task_retries=0,  # nothing that changes a state is done twice
            enable_task_events=False,
        )
        return placed.remote()

    def _options(self) -> dict[str, Any]:
        """What Ray must set aside, and the node.

        Ray takes a node that is only wished for (``soft``) no notice of where an actor needs no
        cores. One that has died in the meantime is an error, after which another one is chosen.
        """
        placement = self._placement
        options: dict[str, Any] = {"num_cpus": placement.num_cpus, "num_gpus": placement.num_gpus}
        if placement.memory:
            options["memory"] = placement.memory
        if placement.resources:
            options["resources"] = dict(placement.resources)
        if placement.labels:  # Ray takes one or the other
            options["label_selector"] = dict(placement.labels)
        elif self.meant_for:
            strategies = self._ray.util.scheduling_strategies
            options["scheduling_strategy"] = strategies.NodeAffinitySchedulingStrategy(
                self.meant_for, soft=False
            )
        return options

    def load(
        self, opener: Opener, is_cancelled: IsCancelled = never, on_progress: Progress | None = None
    ) -> Opened:
        """Wait for a node, and load there. Raises what a load raises, and ClusterError."""
        try:
            self.where = self._placed(is_cancelled)
            loading = self._actor.open.remote(opener)
            found = self._wait(loading, self._watch_load(is_cancelled, on_progress))
        except BaseException:
            self.kill()
            raise
        if isinstance(found, Exception):
            self.kill()
            raise self._of_node(found)
        opened: Opened = found
        return opened

    def send(self, index: int, message: Message) -> Any:
        """Send a message to a session; ``receive`` has the reply."""
        return self._guarded(lambda: self._actor.apply.remote(index, message))

    def receive(self, sent: Any, index: int, number: int, is_cancelled: IsCancelled) -> Any:
        """The Reply to the message of that number. Raises SourceLostError.

        A cancellation is passed on, so that the reply comes soon, with Cancelled as its error.
        """
        is_passed_on = False

        def look() -> None:
            nonlocal is_passed_on
            if not is_passed_on and is_cancelled():
                self._control("cancel", index, number)
                is_passed_on = True

        return self._wait(sent, look)

    def of_texts(self, name: str, *args: Any, **how: Any) -> Any:
        """What the source says of a text (see Source.n_tokens and its like)."""
        found = self._wait(self._control("of_texts", name, args, how))
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """Free the memory, and end the process. May be called twice."""
        with suppress(self._ray.exceptions.RayError):  # whatever state it is in, it ends
            self._ray.get(self._actor.close.remote(), timeout=QUIET_S)
        self.kill()

    def kill(self) -> None:
        """End the process at once. May be called twice."""
        with _lock:
            _n_taken[self.meant_for] -= not self._is_ended
            self._is_ended = True
        if self._ray.is_initialized():
            self._ray.kill(self._actor)

    @property
    def node(self) -> str:
        """The name of its node, for messages."""
        return "the cluster" if self.where is None else f"node {self.where.node}"

    def _placed(self, is_cancelled: IsCancelled) -> Where:
        """Where Ray has placed it. Raises ClusterError, and Cancelled."""
        deadline = time.monotonic() + PLACE_S

        def look() -> None:
            if is_cancelled():
                raise Cancelled(f"Loading {self._name} was cancelled.")
            if time.monotonic() > deadline:
                raise ClusterError(
                    self._placement.refusal(self._name, self._cluster.nodes(), free=True)
                    or f"{self._name}: Ray did not start a process for it in {PLACE_S:.0f} "
                    "seconds. See `ray status`."
                )

        where: Where = self._wait(self._actor.where.remote(), look, is_asked=False)
        if (where.protocol, where.version) != (PROTOCOL, version()):
            raise ClusterError(
                f"{self._name}: node {where.node} has another version of cf-local "
                f"({where.version}) than this machine ({version()}). Install the same on all nodes."
            )
        return where

    def _watch_load(
        self, is_cancelled: IsCancelled, on_progress: Progress | None
    ) -> Callable[[], None]:
        is_stopped = False

        def look() -> None:
            nonlocal is_stopped
            if not is_stopped and is_cancelled():
                self._control("stop_loading")
                is_stopped = True
            if on_progress is not None:
                share = self._control("share")
                on_progress(self._guarded(lambda: self._ray.get(share, timeout=LOST_S)))

        return look

    def _control(self, name: str, *args: Any) -> Any:
        method = getattr(self._actor, name).options(concurrency_group=CONTROL)
        return self._guarded(lambda: method.remote(*args))

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns. Raises SourceLostError where Ray says that the actor is gone."""
        exceptions = self._ray.exceptions
        try:
            return call()
        except exceptions.GetTimeoutError:
            raise
        except exceptions.RayError as error:
            raise self._lost(error) from error

    def _wait(
        self, asked: Any, look: Callable[[], None] = lambda: None, *, is_asked: bool = True
    ) -> Any:
        """The result of a call; ``look`` is called every POLL_S. Raises SourceLostError.

        With ``is_asked`` an actor that stays silent is asked whether it lives.
        """
        since, question = time.monotonic(), None
        while True:
            try:
                return self._guarded(lambda: self._ray.get(asked, timeout=POLL_S))
            except self._ray.exceptions.GetTimeoutError:
                look()
            silent_s = time.monotonic() - since
            if not is_asked or silent_s < QUIET_S:
                continue
            if question is None:
                question = self._control("share")
            elif self._ray.wait([question], timeout=0)[0]:
                since, question = time.monotonic(), None
            elif silent_s > QUIET_S + LOST_S:
                self.kill()  # or it might go on with what is done elsewhere
                raise self._lost(TimeoutError(f"no sign of life for {silent_s:.0f} seconds"))

    def _of_node(self, error: Exception) -> Exception:
        """The error of a load, with the name of the node."""
        is_ours = isinstance(error, CfLocalError) and not isinstance(error, Cancelled)
        return type(error)(f"On {self.node}: {error}") if is_ours else error

    def _lost(self, error: Exception) -> SourceLostError:
        return SourceLostError(f"{self._name} on {self.node} was lost: {why_lost(error)}.")
