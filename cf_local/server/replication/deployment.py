"""Replicas of fusions on a Ray cluster, kept by Ray Serve.

Serve places and restarts them, starts more while requests wait, and routes a request to the one
that has read its conversation. Its own HTTP server stays off: the requests come from ours.
"""

import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from cf_local import errors
from cf_local.cluster.connection import library
from cf_local.errors import Cancelled, CfLocalError, ClusterError, InputError
from cf_local.loading.load_options import LoadOptions
from cf_local.planning.nodes import Node, share_of_gpus
from cf_local.progress import Closing, IsCancelled, Progress
from cf_local.server.catalogue import ServedModel
from cf_local.server.replication.proxy import ReplicatedFusion
from cf_local.server.replication.replica import Lifeline, Loaded, Plan, Replica

_CONTROLLER = "SERVE_CONTROLLER_ACTOR"
_POLL_S = 0.1  # from one look at a load to the next
_PATIENT_LOOKS = 300  # before the user hears that it takes long
_CALL_S = 60.0  # for what a replica knows without a pass
_BUSY = 1.0  # answers at once for which a replica is enough: a second one halves its speed
_COUNT_S, _LOOK_BACK_S, _UPSCALE_S, _DOWNSCALE_S = 1.0, 5.0, 5.0, 300.0
_ERROR = re.compile(r"^cf_local[\w.]*\.(\w+): (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many replicas there may be, and the cores and GPUs of each."""

    n_min: int
    n_max: int
    n_cores: int
    n_gpus: float


def bounds_of(nodes: Sequence[Node], options: LoadOptions, n_min: int, n_max: int | None) -> Bounds:
    """The bounds on these nodes; ``n_max`` None is as many as they have room for.

    A replica has ``n_threads`` cores, or those of the smallest node. Raises ClusterError if
    ``n_min`` do not fit, InputError if it is above ``n_max``.
    """
    able = [node for node in nodes if node.total.get("CPU", 0) >= 1]
    if options.device != "cpu" and any(node.total.get("GPU") for node in able):
        able = [node for node in able if node.total.get("GPU")]
    if not able:
        raise ClusterError("No node of the cluster has a CPU to work with.")
    n_cores = options.n_threads or min(int(node.total["CPU"]) for node in able)
    rooms = [int(node.total["CPU"] // n_cores) for node in able]
    shares = [share_of_gpus(node, n) for node, n in zip(able, rooms, strict=True) if n]
    n_gpus = 0.0 if options.device == "cpu" else min(shares, default=0.0)
    n_room = sum(rooms)
    if n_min > n_room:
        raise ClusterError(
            f"The cluster has room for {n_room} replicas of {n_cores} cores, not for {n_min}. Add "
            "nodes, or lower --min-replicas or --threads."
        )
    if n_max is not None and n_max < n_min:
        raise InputError(f"--max-replicas {n_max} is below --min-replicas {n_min}.")
    return Bounds(n_min, n_max or n_room, n_cores, n_gpus)


class Replicas(Closing):
    """The replicas of one server, by model. They end with it."""

    def __init__(
        self, bounds: Bounds, options: LoadOptions, on_notice: Callable[[str], None]
    ) -> None:
        """Start Ray Serve unless it runs; ``options`` are those of each load.

        Raises InputError if it is not installed.
        """
        self.bounds = bounds
        self._options, self._on_notice = options, on_notice
        self._ray = ray = library()
        try:
            from ray import serve
        except ImportError as error:
            raise InputError(
                f"Ray Serve is not installed ({error}). Install it with: "
                'pip install "cf-local[ray]"'
            ) from error
        logging.getLogger("ray.serve").addFilter(_is_error)  # starting it sets another level
        self._serve: Any = serve
        try:
            ray.get_actor(_CONTROLLER, namespace="serve")
            self._is_first = False
        except ValueError:
            self._is_first = True
            serve.start(proxy_location="Disabled", logging_config=_LOGGING)
        self._lifeline = ray.remote(Lifeline).options(**_here(ray)).remote()
        self._numbers = itertools.count(1)
        self._fusions: dict[str, ReplicatedFusion] = {}

    def loader(self, local: Callable[..., Any]) -> Callable[..., Any]:
        """A ``Load`` of replicas; an embedding model stays in this process, loaded by ``local``."""

        def load(model: ServedModel, is_cancelled: IsCancelled, on_progress: Progress) -> Any:
            if model.kind == "embedding":
                return local(model, is_cancelled, on_progress)
            return self.load(model, is_cancelled, on_progress)

        return load

    def load(
        self, model: ServedModel, is_cancelled: IsCancelled, on_progress: Progress
    ) -> ReplicatedFusion:
        """Start the replicas of a model. Raises what loading raises in one of them."""
        app = f"cf-local-{os.getpid()}-{next(self._numbers)}-{model.name}"
        sources = tuple(spec.portable() for spec in model.sources)
        plan = Plan(sources, model.settings, self._options, self.bounds.n_cores, self._is_first)
        bound = self._deployment(model).bind(plan, app, self._lifeline)
        target = self._serve.api.RunTarget(bound, name=app, route_prefix=None)
        (handle,) = self._serve.api.run_many([target], wait_for_applications_running=False)
        try:
            self._await_running(app, model.name, is_cancelled)
            loaded: Loaded = handle.loaded.remote().result(timeout_s=_CALL_S)
        except BaseException:
            self._delete(app)
            raise
        on_progress(1.0)
        for notice in loaded.notices:
            self._on_notice(notice)
        self._fusions[app] = fusion = ReplicatedFusion(
            model.name, handle, loaded, lambda: self._delete(app)
        )
        return fusion

    def collect(self) -> Iterator[Metric]:
        """The figures of all replicas for Prometheus; waits for them."""
        labels = ("model", "replica", "node")
        n = GaugeMetricFamily("cf_local_replicas", "Running replicas.", labels=["model"])
        running = GaugeMetricFamily(
            "cf_local_replica_running", "Answers being written.", labels=labels
        )
        answers = CounterMetricFamily("cf_local_replica_answers", "Answers.", labels=labels)
        passes = CounterMetricFamily(
            "cf_local_replica_passes", "Forward passes.", labels=(*labels, "source")
        )
        seconds = CounterMetricFamily(
            "cf_local_replica_pass_seconds", "Time in forward passes.", labels=(*labels, "source")
        )
        for fusion in list(self._fusions.values()):
            found = fusion.figures()
            n.add_metric([fusion.name], len(found))
            for each in found:
                own = [fusion.name, each.replica, each.node]
                running.add_metric(own, each.n_running)
                answers.add_metric(own, each.n_answers)
                for source, counters in each.counters.items():
                    passes.add_metric([*own, source], counters.n_passes)
                    seconds.add_metric([*own, source], counters.decode_s)
        yield from (n, running, answers, passes, seconds)

    def close(self) -> None:
        """End all replicas, and Ray Serve if it was started here and nobody else uses it."""
        for app in list(self._fusions):
            self._delete(app)
        with suppress(Exception):  # the cluster may be gone
            self._ray.kill(self._lifeline)
            if self._is_first and not self._others():
                self._serve.shutdown()

    def _others(self) -> bool:
        apps = self._serve.status().applications
        return any(not app.startswith(f"cf-local-{os.getpid()}-") for app in apps)

    def _deployment(self, model: ServedModel) -> Any:
        """The class of the replicas with what Serve has to know."""
        serve, bounds, n_slots = self._serve, self.bounds, self._options.n_conversations

        class Served(Replica):
            # Serve's word for it is a model; it forgets the same ones as the slots do.
            @serve.multiplexed(max_num_models_per_replica=n_slots)  # type: ignore[untyped-decorator]
            async def resident(self, conversation: str) -> str:
                return conversation

        how: dict[str, Any] = {"num_replicas": bounds.n_min}
        if bounds.n_max > bounds.n_min:
            how = {
                "autoscaling_config": {
                    "min_replicas": bounds.n_min,
                    "max_replicas": bounds.n_max,
                    "target_ongoing_requests": _BUSY,
                    "metrics_interval_s": _COUNT_S,
                    "upscale_delay_s": _UPSCALE_S,
                    "look_back_period_s": _LOOK_BACK_S,
                    "downscale_delay_s": _DOWNSCALE_S,
                }
            }
        return serve.deployment(Served).options(
            name=model.name,
            max_ongoing_requests=n_slots,
            ray_actor_options={"num_cpus": bounds.n_cores, "num_gpus": bounds.n_gpus},
            graceful_shutdown_wait_loop_s=_POLL_S,
            graceful_shutdown_timeout_s=5.0,
            max_constructor_retry_count=1,
            logging_config=_LOGGING,
            **how,
        )

    def _await_running(self, app: str, name: str, is_cancelled: IsCancelled) -> None:
        """Wait until all replicas have loaded. Raises what one of them raised, and Cancelled."""
        for n_looks in itertools.count():
            if n_looks == _PATIENT_LOOKS:
                self._on_notice(
                    f"{name}: its replicas are still loading, or wait until {self.bounds.n_cores} "
                    "cores for each are free (`ray status`)."
                )
            status = self._serve.status().applications.get(app)
            state = "" if status is None else status.status.value
            if state == "RUNNING":
                return
            if status is not None and state in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise _of_message("\n".join(d.message for d in status.deployments.values()))
            if is_cancelled():
                raise Cancelled("The load was interrupted.")
            time.sleep(_POLL_S)

    def _delete(self, app: str) -> None:
        self._fusions.pop(app, None)
        with suppress(Exception):  # Serve, or the cluster, may be gone
            self._serve.delete(app, _blocking=False)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


_LOGGING = {"enable_access_log": False, "log_level": "WARNING"}


def _here(ray: Any) -> dict[str, Any]:
    """The options of an actor on this node, without a share of its cores."""
    node = ray.get_runtime_context().get_node_id()
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    return {"num_cpus": 0, "scheduling_strategy": strategy}


def _of_message(text: str) -> CfLocalError:
    """The error of a load that Serve reports as the text of a traceback."""
    found = _ERROR.findall(text)
    if not found:
        lines = text.strip().splitlines() or ["Ray Serve gives no reason"]
        return ClusterError(f"The replicas could not be started: {lines[-1]}")
    name, message = found[-1]
    kind = getattr(errors, name, CfLocalError)
    error: CfLocalError = kind(message)
    return error
