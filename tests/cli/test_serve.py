"""``cf-local serve`` as a process: its address, its signals, what keeps it from starting."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the server needs the extra cf-local[server]")
pytestmark = pytest.mark.model

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Start = Callable[..., "tuple[subprocess.Popen[str], int]"]


@pytest.fixture
def start(environment: dict[str, str], work_folder: Path) -> Iterator[Start]:
    begun: list[subprocess.Popen[str]] = []

    def start_server(*arguments: str, **env: str) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-m", "cf_local", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=work_folder,
            env=environment | env,
        )
        begun.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"Listening on http://[^/]*:(\d+)/", line):
                return process, int(found[1])
        raise AssertionError(f"it ended with {process.wait()}")

    yield start_server
    for process in begun:
        process.kill()
        process.communicate()


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    return response.status, response.read()


def answer(port: int, model: str) -> str:
    messages = [{"role": "user", "content": "What is 7 times 8?"}]
    body = json.dumps({"model": model, "messages": messages, "max_tokens": 20})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    found: str = json.load(connection.getresponse())["choices"][0]["message"]["content"]
    return found


def stream(port: int) -> socket.socket:
    body = json.dumps(
        {
            "model": "builtin",
            "messages": [{"role": "user", "content": "Tom has 23 apples and buys 45 more."}],
            "stream": True,
            "max_tokens": 400,
            "cf_local": {"repetition_guard": False},
        }
    )
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
        f"\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    return sock


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX terminal")
def test_ctrl_c_leaves_the_terminal_at_the_start_of_a_line(
    environment: dict[str, str], work_folder: Path
) -> None:
    import pexpect

    command = ["-m", "cf_local", "serve", "--port", "0"]
    child = pexpect.spawn(
        sys.executable, command, env=environment, cwd=work_folder, encoding="utf-8", timeout=60
    )
    child.expect("Ctrl-C stops the server")
    child.sendcontrol("c")
    child.expect(pexpect.EOF)
    assert child.before.endswith("^C\r\n")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_answers_finish(start: Start, sent: signal.Signals) -> None:
    process, port = start("builtin")
    assert b'cf_local_loads_total{outcome="loaded"} 1' in get(port, "/metrics")[1]
    sock = stream(port)
    got = sock.recv(65536)
    process.send_signal(sent)
    while part := sock.recv(65536):
        got += part
    assert b"[DONE]" in got
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_second_signal_ends_at_once(start: Start) -> None:
    process, _ = start("--idle", "0")
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err


def test_only_what_is_named_is_served(start: Start, work_folder: Path) -> None:
    (work_folder / "models.toml").write_text('[fusions.pair]\nsources = ["ash", "birch"]\n')
    _, port = start("pair")
    models = json.loads(get(port, "/v1/models")[1])["data"]
    assert [(m["id"], m["cf_local"]["default"]) for m in models] == [
        ("pair", True),
        ("ash", False),
        ("birch", False),
    ]
    assert get(port, "/v1/models/builtin")[0] == 404


def test_a_source_is_served_alone(start: Start) -> None:
    _, port = start("birch", "--any-model")
    models = json.loads(get(port, "/v1/models")[1])["data"]
    assert [(m["id"], m["cf_local"]["default"]) for m in models] == [("birch", True)]
    assert models[0]["cf_local"]["loaded"]
    assert answer(port, "birch")
    assert answer(port, "gpt-9") == answer(port, "birch")


def test_the_key_from_the_environment(start: Start) -> None:
    _, port = start(CF_LOCAL_API_KEY="sesame")
    assert get(port, "/v1/models")[0] == 401
    assert get(port, "/v1/models", {"Authorization": "Bearer sesame"})[0] == 200


def test_another_address_without_a_key_is_warned_of(
    environment: dict[str, str], work_folder: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cf_local", "serve", "--port", "0", "--host", "0.0.0.0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=work_folder,
        env=environment,
    )
    assert process.stderr is not None
    told = [process.stderr.readline() for _ in range(2)]
    process.kill()
    process.communicate()
    assert told[0].startswith("Note: Anyone who can reach 0.0.0.0 can use this server.")
    assert told[1].startswith("Listening on http://0.0.0.0:")


def test_what_keeps_it_from_starting(run: Run, work_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in done.stderr.decode()
    for arguments, code, told in (
        (("nonesuch",), 2, "No fusion is named 'nonesuch'"),
        (("laptop", "--offline"), 3, "qwen3-4b"),
        (("--host", "no.such.host.invalid"), 2, "there is no such address"),
        (("--allow-origin", "example.com"), 2, "an origin looks like"),
        (("--api-key", " "), 2, "API key is empty"),
        (("builtin", "--memory", "1MB"), 5, "memory"),
        (("builtin", "--memory", "120MB", "--parallel", "16"), 5, "instead of 16 (--parallel"),
    ):
        done = run("serve", "--port", "0", *arguments)
        assert done.returncode == code, done.stderr
        assert told.lower() in done.stderr.decode().lower()
        assert b"Traceback" not in done.stderr


def test_a_missing_extra_is_named(environment: dict[str, str], work_folder: Path) -> None:
    code = (
        "import importlib.util, sys\n"
        "real = importlib.util.find_spec\n"
        "def find(name, *more): return None if name == 'uvicorn' else real(name, *more)\n"
        "importlib.util.find_spec = find\n"
        "from cf_local.cli.main import main\n"
        "main(['serve'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=work_folder,
        env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert 'pip install "cf-local[server]"' in done.stderr
