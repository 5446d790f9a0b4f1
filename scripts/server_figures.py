"""The server under load: right answers, speed, how soon it cancels, whether memory grows.

    python scripts/server_figures.py [--minutes 1] [--clients 16] [--parallel 4] [--model builtin]

Starts `cf-local serve` as a process, asks it for problems of the built-in test split, each in one
of the dialects of chat, and compares every finished answer with the one that the library gives when
idle. Two clients in five close their connection at a random moment. Prints figures, and exits with
1 if an answer differs.
"""

import argparse
import http.client
import json
import math
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import cf_local
from cf_local.builtin.problems import generate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from dialects import DIALECTS, Spoken
from serving import Reply

ENDS = re.compile(r'cf_local_answers_total\{[^}]*end="(\w+)"[^}]*\} (\d+)')
N_QUESTIONS, N_LATENCIES = 60, 15


@dataclass
class Load:
    """What the clients saw; shared by their threads."""

    counts: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    wrong: list[tuple[str, str, str]] = field(default_factory=list)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--one-s", type=float, default=10.0, help="seconds with one client")
    given = parser.parse_args()
    answers = alone(given.model)
    process, port = start(given.model, given.parallel)
    try:
        ended_s = {kind: cancelled_s(port, given.model, kind) for kind in ("stream", "whole")}
        one = load(port, given.model, answers, 1, given.one_s, leaves=0.0)
        memory = Memory(process.pid)
        many = load(port, given.model, answers, given.clients, 60 * given.minutes, leaves=0.4)
        memory.stop()
    finally:
        process.terminate()
        code = process.wait(60)
    for kind, values in ended_s.items():
        worst = max(values, default=math.nan)
        middle = statistics.median(values or [math.nan])
        print(
            f"cancelled after a disconnect ({kind}, {len(values)} times): "
            f"median {middle:.3f} s, worst {worst:.3f} s"
        )
    report("1 client", one, given.one_s)
    report(f"{given.clients} clients", many, 60 * given.minutes)
    print(f"memory of the server: {memory.summary()}; exit code {code}")
    wrong = [*one.wrong, *many.wrong]
    for _, expected, found in wrong[:5]:
        print(f"DIFFERS\n  alone: {expected!r}\n  found: {found!r}")
    sys.exit(1 if wrong or not many.counts["finished"] else 0)


def alone(model: str) -> dict[str, str]:
    """Questions with the library's answers."""
    name, _, mode = model.partition(":")
    questions = [p.question for p in generate(N_QUESTIONS, seed=31, split="test")]
    with cf_local.load(name) as fusion:
        settings = cf_local.Settings(mode=mode or "cool")  # type: ignore[arg-type]
        return {q: fusion.answer(cf_local.chat(q), settings).text for q in questions}


def start(model: str, parallel: int) -> tuple[subprocess.Popen[str], int]:
    """The server, with the fusion loaded, and its port."""
    command = [sys.executable, "-m", "cf_local", "serve", model.partition(":")[0], "--port", "0"]
    command += ["--parallel", str(parallel), "--queue", "1000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"Listening on http://[^/]*:(\d+)/", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, int(found[1])
    sys.exit(f"the server ended with {process.wait()}")


def body_of(spoken: Spoken, model: str, question: str, *, streams: bool) -> bytes:
    """A request in one of the dialects."""
    return json.dumps(spoken.body(question, stream=streams) | {"model": model}).encode()


def head_of(body: bytes, path: str) -> bytes:
    """The head of a request with that body."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()


def ends(port: int) -> Counter[str]:
    """How answers have ended so far."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return Counter({end: int(n) for end, n in ENDS.findall(text)})


def cancelled_s(port: int, model: str, kind: str) -> list[float]:
    """Seconds from a disconnect until the answer is cancelled, for several answers."""
    found: list[float] = []
    more = {"stream": kind == "stream", "max_tokens": 450, "cf_local": {"repetition_guard": False}}
    for _ in range(4 * N_LATENCIES):
        before = ends(port)
        body = json.dumps({"model": model, "prompt": "7 boxes"} | more).encode()
        sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        sock.sendall(head_of(body, "/v1/completions") + body)
        if kind == "stream":
            sock.recv(100)
        else:
            time.sleep(0.01)  # the built-in models answer in 0.05 s
        sock.close()
        begin = time.perf_counter()
        while not (now := ends(port) - before):
            time.sleep(0.002)
        if "given_up" in now:  # the answer had not ended before
            found.append(time.perf_counter() - begin)
        if len(found) == N_LATENCIES:
            break
    return found


def load(
    port: int, model: str, answers: dict[str, str], n_clients: int, seconds: float, *, leaves: float
) -> Load:
    """Let clients ask for some time; with probability ``leaves`` one disconnects early."""
    seen, end, lock = Load(), time.monotonic() + seconds, threading.Lock()

    def client(index: int) -> None:
        draw = random.Random(f"{n_clients} {index}")
        while time.monotonic() < end:
            question = draw.choice(list(answers))
            streams, goes = draw.random() < 0.5, draw.random() < leaves
            spoken = draw.choice(DIALECTS)
            body = body_of(spoken, model, question, streams=streams)
            begin = time.perf_counter()
            if goes:
                go_early(port, spoken, body, draw.random() * 0.5)
                with lock:
                    seen.counts["left"] += 1
                continue
            status, text = ask(port, spoken, body, streams=streams)
            with lock:
                seen.counts[spoken.path] += 1
                seen.latencies_s.append(time.perf_counter() - begin)
                seen.counts["finished" if status == 200 else f"status {status}"] += 1
                seen.counts["bytes"] += len(text.encode())
                if status == 200 and text != answers[question]:
                    seen.wrong.append((question, answers[question], text))

    threads = [threading.Thread(target=client, args=(index,)) for index in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def go_early(port: int, spoken: Spoken, body: bytes, after_s: float) -> None:
    """Ask, and close the connection after some time."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(head_of(body, spoken.path) + body)
        time.sleep(after_s)


def ask(port: int, spoken: Spoken, body: bytes, *, streams: bool) -> tuple[int, str]:
    """Send a request; returns status and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", spoken.path, body, headers)
    response = connection.getresponse()
    reply = Reply(response.status, dict(response.getheaders()), response.read())
    connection.close()
    if reply.status != 200:
        return reply.status, reply.body.decode()
    return 200, (spoken.stream(reply) if streams else spoken.whole(reply.json)).text


class Memory:
    """Samples the resident memory of a process twice a second."""

    def __init__(self, pid: int) -> None:
        self._process, self._sizes = psutil.Process(pid), []  # type: ignore[var-annotated]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._over.set()
        self._thread.join()

    def summary(self) -> str:
        """Means of the first and the last quarter, and the maximum."""
        quarter = max(1, len(self._sizes) // 4)
        first, last = (
            statistics.mean(self._sizes[:quarter]),
            statistics.mean(self._sizes[-quarter:]),
        )
        return (
            f"{first:.1f} MB in the first quarter, {last:.1f} MB in the last "
            f"({last - first:+.1f}), at most {max(self._sizes):.1f} MB"
        )

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self._sizes.append(self._process.memory_info().rss / 1e6)


def report(name: str, seen: Load, seconds: float) -> None:
    """The figures of a load."""
    counts = dict(seen.counts)
    n_bytes, n_done = counts.pop("bytes", 0), max(1, len(seen.latencies_s))
    listed = ", ".join(f"{key} {n}" for key, n in sorted(counts.items()))
    times = sorted(seen.latencies_s) or [0.0]
    print(
        f"{name}, {seconds:g} s: {listed}, differing {len(seen.wrong)}; "
        f"{n_done / seconds:.1f} answers/s, {n_bytes / seconds:.0f} bytes/s; "
        f"median {times[len(times) // 2]:.3f} s, "
        f"95% {times[int(0.95 * (len(times) - 1))]:.3f} s"
    )


if __name__ == "__main__":
    main()
