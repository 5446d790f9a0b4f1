"""The connection to a cluster: a local one on loopback, and errors that say what to do."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cf_local.cluster import connection
from cf_local.cluster.connection import connect
from cf_local.errors import ClusterError, InputError

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "cf-local\[ray\]"'):
        connect("local")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://head:10001", "client protocol is not supported.*--ray auto"),
        ("head", "not the address of a Ray cluster.*HOST:PORT"),
        ("head:", "not the address"),
        (":6379", "not the address"),
        ("", "not the address"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(address: str, says: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=says):
        connect(address)


def test_a_cluster_that_is_not_there_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # whatever tests before have joined
    monkeypatch.setattr(connection, "_joined", {})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # it does not listen
        port = free.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"no Ray cluster at 127.0.0.1:{port}.*ray start"):
            connect(f"127.0.0.1:{port}")


def listening(process: psutil.Process) -> Iterator[str]:
    """The addresses on which a process and its children listen."""
    for each in [process, *process.children(recursive=True)]:
        try:
            connections = each.net_connections(kind="inet")
        except psutil.Error:  # it has ended
            continue
        yield from (c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN)


PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from cf_local.cluster.connection import connect
with ThreadPoolExecutor(1) as pool:  # a load runs in a thread that ends with it
    cluster = pool.submit(connect, "local").result()
with cluster, connect("local") as same:
    (node,) = cluster.nodes()
    print(node.name, node.total["CPU"] >= 1, node.available["CPU"] >= 1, node.labels, flush=True)
    same.close()
    assert [each.id for each in cluster.nodes()] == [node.id]
    sys.stdin.readline()
import ray
print(ray.is_initialized())
"""


def test_a_local_cluster_listens_on_loopback_alone_and_ends_with_its_connection() -> None:
    pytest.importorskip("ray")
    done = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout is not None
    assert "True True" in done.stdout.readline()
    process = psutil.Process(done.pid)
    family = process.children(recursive=True)
    running = {each.name() for each in family if each.status() != psutil.STATUS_ZOMBIE}
    assert running >= {"gcs_server", "raylet"}
    addresses = set(listening(process))
    assert addresses
    assert addresses <= LOOPBACK
    rest, _ = done.communicate("\n")
    assert rest.strip() == "False"
    assert psutil.wait_procs(family, timeout=60)[1] == []
