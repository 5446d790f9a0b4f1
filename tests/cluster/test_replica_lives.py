"""Replicas come, die and go, and the server with them: nothing stays, and nobody waits in vain."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from replicated import OPTIONS, endless_models, processes, replicated
from serving import PATIENCE_S, QUESTION, endless, wait_until

from cf_local.errors import InputError, MissingModelError
from cf_local.registry.registry import SourceSpec
from cf_local.server.catalogue import ServedModel
from cf_local.server.replication.deployment import Bounds, Replicas
from cf_local.settings import Settings

pytestmark = pytest.mark.model


def test_a_replica_that_dies_is_replaced(ray_nodes: Any, tmp_path: Path) -> None:
    with replicated(models=endless_models(tmp_path)) as (served, _):
        sock = served.open(endless(model="endless", stream=True))
        sock.recv(100)
        before = {process.pid for process in processes("ray::ServeReplica")}
        for process in processes("ray::ServeReplica"):
            process.kill()
        rest = b""
        while b"[DONE]" not in rest and (piece := sock.recv(65536)):
            rest += piece
        sock.close()
        assert b"replica_lost" in rest
        assert b"Send the request again" in rest
        wait_until(
            lambda: len({p.pid for p in processes("ray::ServeReplica")} - before) == 2,
            "new replicas are there",
        )
        short: dict[str, Any] = {"model": "endless", "max_tokens": 2}
        wait_until(lambda: served.chat(**short).status == 200, "they answer")
        assert served.chat(**short).status == 200


def test_more_replicas_come_with_more_requests_and_end_with_the_server(ray_nodes: Any) -> None:
    with replicated(1, 2) as (served, _):
        assert served.chat().status == 200
        assert served.figure('cf_local_replicas{model="builtin"}') == 1
        is_over = threading.Event()

        def ask() -> None:
            while not is_over.is_set():
                assert served.chat().status == 200

        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            served.wait_for('cf_local_replicas{model="builtin"}', 2)
        finally:
            is_over.set()
        for client in clients:
            client.join(PATIENCE_S)


def test_a_model_that_no_node_has_is_the_error_of_its_load(
    ray_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a path is relative to the folder here, not to that of Ray
    spec = SourceSpec(name="m", file="m.gguf", origin="test")
    model = ServedModel("m", "m", "source", None, (spec,), Settings(mode="single"))
    with (
        Replicas(Bounds(1, 1, 1, 0.0), OPTIONS, lambda _text: None) as replicas,
        pytest.raises(
            MissingModelError, match=f"The model file {tmp_path}/m[.]gguf does not exist"
        ),
    ):
        replicas.load(model, lambda: False, lambda _share: None)


SERVE = (sys.executable, "-m", "cf_local", "serve", "builtin", "--port", "0", "--threads", "1")


def command(nodes: Any, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The real command, and the port on which it listens."""
    process = subprocess.Popen(
        [*SERVE, "--ray", nodes.address, "--min-replicas", "2", "--max-replicas", "2"],
        cwd=folder,
        env=os.environ | {"CF_LOCAL_DATA": str(folder)},
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.match(rb"Listening on http://127.0.0.1:(\d+)/", line):
            return process, int(found[1])
    raise AssertionError(b"".join(lines))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_server(ray_nodes: Any, tmp_path: Path, how: int) -> None:
    process, port = command(ray_nodes, tmp_path)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        turn = {"role": "user", "content": QUESTION}
        body = json.dumps({"model": "builtin", "messages": [turn]})
        connection.request(
            "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        assert connection.getresponse().status == 200
        assert len(processes("ray::ServeReplica")) == 2
    finally:
        process.send_signal(how)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (0 if how == signal.SIGTERM else -how), stderr
    assert b"Traceback" not in stderr
    for title in ("ray::ServeReplica", "ray::ServeController", "ray::Lifeline"):
        wait_until(lambda title=title: not processes(title), f"{title} ends")


def test_bounds_that_do_not_fit_are_refused_before_anything_starts(
    ray_nodes: Any, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*SERVE, "--ray", ray_nodes.address, "--min-replicas", "5"],
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert b"room for 4 replicas of 1 cores, not for 5" in done.stderr
    assert not processes("ray::Serve")


def test_without_ray_serve_the_error_says_what_to_install(
    ray_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    monkeypatch.delattr("ray.serve", raising=False)
    with pytest.raises(InputError, match=r'pip install "cf-local\[ray\]"'):
        Replicas(Bounds(1, 1, 1, 0.0), OPTIONS, lambda _text: None)


@pytest.mark.parametrize("option", ["--min-replicas", "--max-replicas"])
def test_replicas_need_a_cluster(option: str) -> None:
    done = subprocess.run([*SERVE, option, "2"], capture_output=True, check=False)
    assert done.returncode == 2
    assert f"{option} needs --ray ADDRESS".encode() in done.stderr
