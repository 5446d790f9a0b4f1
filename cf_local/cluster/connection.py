"""The connection to a Ray cluster: joined or started on loopback, and left at the end.

Ray is made for a trusted network: whoever reaches its ports can run programs on all nodes. So
nothing here opens a port outside loopback, and what is joined was started by somebody else.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

from cf_local.errors import CfLocalError, ClusterError, InputError
from cf_local.planning.nodes import Node
from cf_local.progress import Closing

LOCAL = "local"
"""The address of a cluster of one node that is started on loopback, and stopped at the end."""
TRUST = (
    "Ray is for a trusted network: whoever reaches its ports can run programs on its nodes "
    "(docs/cluster.md)."
)
_LOOPBACK = "127.0.0.1"
_ALLOWS_OTHERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # on every system, in spite of its name
_REACH_S = 5.0  # to find out whether anything listens at an address
_PORT = 6379

T = TypeVar("T")
_log = logging.getLogger(__name__)
_lock = threading.RLock()
_joined: "dict[str, _Membership]" = {}  # the one that this process has


class Cluster(Closing):
    """A Ray cluster that this process is connected to; any thread may use it."""

    def __init__(self, address: str, *, is_ours: bool) -> None:
        """``is_ours``: the last connection that is closed also disconnects the process."""
        self.address = address
        self._is_ours = is_ours
        self._is_closed = False

    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are alive, by name. Raises ClusterError."""
        ray = library()
        free = _available_by_node()
        found = [
            Node(
                id=node["NodeID"],
                name=name_of(node),
                address=node["NodeManagerAddress"],
                total=_own(node["Resources"]),
                available=_own(free.get(node["NodeID"], {})),
                labels=dict(node.get("Labels") or {}),
            )
            for node in ray.nodes()
            if node["Alive"]
        ]
        return tuple(sorted(found, key=lambda node: (node.name, node.id)))

    def run_on(self, node: Node, work: Callable[..., T], *given: Any) -> T:
        """What ``work`` returns in a process on a node. It is sent there by its module and name.

        Raises what it raises, and ClusterError.
        """
        ray = library()
        strategies = ray.util.scheduling_strategies
        there = strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        run = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(work)
        try:
            found: T = ray.get(run.remote(*given))
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, CfLocalError) else _failed(node, error) from error
        except ray.exceptions.RayError as error:
            raise _failed(node, error) from error
        return found

    def close(self) -> None:
        """Leave the cluster unless others in this process still use it. May be called twice."""
        with _lock:
            if self._is_closed:
                return
            self._is_closed = True
            if not self._is_ours:
                return
            joined = _joined[self.address]
            joined.n_users -= 1
            if not joined.n_users:
                del _joined[self.address]
                joined.end()


class _Membership:
    """What makes this process a driver of a cluster, and the connections that share it.

    It begins in a thread of its own, which lives as long: Linux kills the processes of a cluster
    that Ray has started when the thread that started them ends (PR_SET_PDEATHSIG).
    """

    def __init__(self, ray: ModuleType, address: str) -> None:
        """Join the cluster. Raises ClusterError."""
        self.n_users = 1
        self._ray, self._address = ray, address
        self._is_over = threading.Event()
        self._begun: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, name="cf-local-ray", daemon=True)
        self._thread.start()
        try:
            self._begun.result()
        except BaseException:  # also Ctrl-C while it waits
            self._is_over.set()
            raise

    def end(self) -> None:
        """Leave the cluster, and stop it if it was started here."""
        self._is_over.set()
        self._thread.join()

    def _live(self) -> None:
        try:
            _join(self._ray, self._address)
        except BaseException as error:  # noqa: BLE001 - raised for the caller
            self._begun.set_exception(error)
            return
        self._begun.set_result(None)
        self._is_over.wait()
        try:
            self._ray.shutdown()
        except Exception as error:  # noqa: BLE001 - the process goes on without a cluster
            _log.warning("Ray did not stop cleanly: %s", error)


def _failed(node: Node, error: Exception) -> ClusterError:
    return ClusterError(f"Node {node.name}: {why_lost(error)}.")


def why_lost(error: Exception) -> str:
    """Why a node or an actor did not do its work, in one line and without Ray's numbers."""
    name, text = type(error).__name__, str(error)
    if "No module named 'cf_local" in text:
        return "cf-local is not installed there"
    if name == "NodeDiedError" or "its node has died" in text:
        return "its node has died"
    known = {
        "ActorDiedError": "its process has died",
        "ActorUnavailableError": "it cannot be reached",
        "OutOfMemoryError": "Ray ended its process, as the node's memory was short",
    }
    return known.get(name) or _first_line(error)


def library() -> ModuleType:
    """The module ``ray``. Raises InputError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when it is imported
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f'Ray is not installed ({error}). Install it with: pip install "cf-local[ray]"'
        ) from error
    return ray  # type: ignore[no-any-return]


def connect(address: str) -> Cluster:
    """Connect this process to the Ray cluster at ``address``; close the result to leave it.

    "HOST:PORT" is the head node of a running cluster, "auto" the cluster that this machine is part
    of, and "local" starts one of a single node that listens on loopback alone. A process that is
    connected already, as inside an actor, shares its connection.

    Raises InputError if Ray is not installed or the address makes no sense, ClusterError if the
    cluster cannot be reached or the process is connected to another one.
    """
    ray = library()
    _check_address(address)
    with _lock:
        if address in _joined:
            _joined[address].n_users += 1
            return Cluster(address, is_ours=True)
        if ray.is_initialized():
            if _joined:
                raise ClusterError(
                    f"This process is connected to the cluster at {next(iter(_joined))} and cannot "
                    f"join another at {address}. Close what uses the first one."
                )
            return Cluster(address, is_ours=False)
        _joined[address] = _Membership(ray, address)
        return Cluster(address, is_ours=True)


def name_of(node: Mapping[str, Any]) -> str:
    """What a user calls a node of ``ray.nodes()``: its name if it was given one, or its host's."""
    given = str(node.get("NodeName") or "")
    is_given = given and given != node["NodeManagerAddress"]
    return given if is_given else str(node["NodeManagerHostname"])


def _check_address(address: str) -> None:
    if address.startswith("ray://"):
        raise InputError(
            f"{address}: Ray's client protocol is not supported. Make this machine a node "
            "(`ray start --address=HOST:6379 --num-cpus=0`) and use --ray auto."
        )
    host, _, port = address.rpartition(":")
    if address not in (LOCAL, "auto") and not (host and port.isdecimal()):
        raise InputError(
            f"{address!r} is not the address of a Ray cluster. Use HOST:PORT (port {_PORT}), "
            '"auto" on a machine that is part of a cluster, or "local".'
        )


def _join(ray: ModuleType, address: str) -> None:
    """Make this process a driver. Raises ClusterError."""
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address not in (LOCAL, "auto"):
        _check_reachable(address)
    try:
        if address == LOCAL:
            with _on_loopback():
                ray.init(address, include_dashboard=False, _node_ip_address=_LOOPBACK, **how)
            _check_loopback(ray)
        else:
            ray.init(address, **how)
        _keep_off_stdout()
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        raise ClusterError(
            f"The Ray cluster at {address} cannot be joined: {_first_line(error)}. "
            "Check that it runs (`ray status`), with the same versions of Ray and Python as here."
        ) from error


def _keep_off_stdout() -> None:
    """Ray prints what its daemons report to stdout, which is for answers; log it instead."""
    from ray._private import worker

    def log(data: Mapping[str, Any], **_: Any) -> None:
        for line in data["lines"]:
            _log.info("%s", line)

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = log


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray replaces the address of loopback by another one of this machine, unless told not to.

    It reads the variable when it is imported, which was earlier if the program did that.
    """
    from ray._private import ray_constants

    before, was_allowed = os.environ.get(_ALLOWS_OTHERS), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_ALLOWS_OTHERS], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = was_allowed
        if before is None:
            del os.environ[_ALLOWS_OTHERS]
        else:
            os.environ[_ALLOWS_OTHERS] = before


def _check_loopback(ray: ModuleType) -> None:
    """Stop the cluster and raise ClusterError if it can be reached from outside."""
    addresses = {node["NodeManagerAddress"] for node in ray.nodes()}
    if addresses != {_LOOPBACK}:
        ray.shutdown()
        raise ClusterError(
            f"This version of Ray ({ray.__version__}) started its node on {', '.join(addresses)} "
            f"instead of {_LOOPBACK}, so it was stopped. Start a cluster yourself (`ray start`)."
        )


def _check_reachable(address: str) -> None:
    """Raise ClusterError where nothing listens: Ray itself would try for most of a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"There is no Ray cluster at {address}: {_first_line(error)}. Start one with "
            f"`ray start --head --port={_PORT}`, or check the address and the firewall."
        ) from error


def _available_by_node() -> Mapping[str, Mapping[str, float]]:
    """What is free on each node by its id; empty where this version of Ray cannot tell."""
    try:  # Ray's public functions only know the sum over all nodes
        from ray._private.state import available_resources_per_node
    except ImportError:
        return {}
    found: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    return found


def _own(resources: Mapping[str, float]) -> dict[str, float]:
    """Resources without those by which Ray addresses a node."""
    return {name: n for name, n in resources.items() if not name.startswith("node:")}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
