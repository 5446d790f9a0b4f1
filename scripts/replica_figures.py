"""A cluster of two nodes on this machine against one process: equal answers, speed, cancellation.

    python scripts/replica_figures.py [--model builtin] [--rounds 6] [--questions 60]

Starts a Ray cluster on loopback, `cf-local serve` without it and over two replicas, and workers of
an evaluation; each process computes with one thread. Prints figures, and exits with 1 if an answer
differs. On a machine with fewer free cores than two the speed says nothing.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from ray_cluster import several_nodes
from serving import Served, endless

import cf_local
from cf_local.builtin.problems import generate
from cf_local.cluster.connection import Cluster, connect, library
from cf_local.evaluation import (
    Result,
    TaskOptions,
    Variant,
    checked_items,
    cluster_run,
    default_variants,
    open_task,
    run,
    settings_for,
)
from cf_local.evaluation.cluster_run import ClusterRun, RunWorker
from cf_local.evaluation.tasks.task import Item
from cf_local.loading.load import choose
from cf_local.loading.load_options import LoadOptions
from cf_local.registry.registry import SourceSpec, load_registry
from cf_local.settings import Settings

N_CANCELS = 15
CLIENTS = (1, 2, 4)
SPIN = """
import time
end, n = time.time() + 1.5, 0
while time.time() < end:
    n += sum(range(10000)) > 0
print(n)
"""
ONE = LoadOptions(n_threads=1, overlap=False)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="builtin", help="a fusion of models.toml")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=6, help="of loads")
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--items", type=int, default=12, help="of the evaluation; 0 for none")
    parser.add_argument("--max-tokens", type=int, default=64)
    given = parser.parse_args()
    questions = [p.question for p in generate(given.questions, seed=5, split="test")]
    with several_nodes("a", "b") as nodes:
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"two busy processes get {control():.2f} times the work of one done")
        trips(nodes.address)
        waits(nodes.address, given.model)
        n_wrong = evaluation(nodes.address, given.model, given.items)
        n_wrong += serving(nodes.address, given, questions)
    sys.exit(bool(n_wrong))


def control() -> float:
    """What this machine gives two processes beside one: 2 if two cores are free."""

    def work(n: int) -> float:
        running = [subprocess.Popen([sys.executable, "-c", SPIN], stdout=-1) for _ in range(n)]
        return sum(float(process.communicate()[0]) for process in running)

    pairs = [(work(2), work(1)) for _ in range(4)]
    return sum(two for two, _ in pairs) / sum(one for _, one in pairs)


def trips(address: str) -> None:
    """What a call of an actor on another node takes."""
    with connect(address):
        ray = library()

        class Echo:
            def echo(self, value: bytes) -> bytes:
                return value

        actor = ray.remote(Echo).options(resources={"b": 0.1}).remote()
        for n_bytes in (100, 10_000):
            value = bytes(n_bytes)
            times = timed(lambda value=value: ray.get(actor.echo.remote(value)), 300)
            print(f"a call of an actor with {n_bytes} bytes: {1000 * times:.2f} ms (median)")
        ray.kill(actor)


def timed(call: Callable[[], object], n: int) -> float:
    """The median seconds of ``n`` calls."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def evaluation(address: str, model: str, n_items: int) -> int:
    """`eval` in one process, on one node and on two; returns the number of differing results."""
    if not n_items:
        return 0
    task = open_task("builtin", TaskOptions(n_items=n_items, seed=4))
    items = checked_items(task)
    specs, settings = choose(load_registry(), model, ())
    given = replace(settings_for(task, settings), speculation=False)
    variants = default_variants(given, [spec.name for spec in specs])
    seconds, found = Counter[str](), defaultdict[str, list[Result]](list)
    with ExitStack() as opened:
        fusion = opened.enter_context(cf_local.load(model, options=ONE))
        cluster = opened.enter_context(connect(address))
        runs: dict[str, Callable[..., Iterator[Result]]] = {"in one process": partial(run, fusion)}
        for n_nodes in (1, 2):
            workers = opened.enter_context(spread(cluster, n_nodes, specs, settings))
            runs[f"on {n_nodes} node(s)"] = workers.run
        for part in range(0, n_items, 4):  # in turns: others may use this machine, too
            for name, answering in runs.items():
                start = time.perf_counter()
                found[name] += answering(task, items[part : part + 4], variants)
                seconds[name] += time.perf_counter() - start
    alone, *others = ({str(timeless(result)) for result in results} for results in found.values())
    n_wrong = sum(len(alone ^ other) for other in others)
    print(f"eval, {len(alone)} answers:", *(f"{name} {s:.1f} s;" for name, s in seconds.items()))
    print(f"  {n_wrong} results differ")
    return n_wrong


class Waiting(RunWorker):
    """A worker whose answers wait 70 ms, as for a GPU: what is left is the driver's part."""

    def write(self, item: Item, variant: Variant) -> Result:
        """Nothing, after a while."""
        time.sleep(0.07)
        return Result(item.id, item.group, variant.name, 0.0, "", "stop", 0.07, 0.0, 0, "", {})


def waits(address: str, model: str) -> None:
    """How the driver spreads answers that take no core: on one node and on two."""
    task = open_task("builtin", TaskOptions(n_items=40, seed=4))
    items = checked_items(task)
    specs, settings = choose(load_registry(), model, ())
    variants = default_variants(settings, [spec.name for spec in specs])
    seconds = {}
    cluster_run.RunWorker, former = Waiting, cluster_run.RunWorker  # type: ignore[misc]
    for n_nodes in (1, 2):
        with connect(address) as cluster, spread(cluster, n_nodes, specs, settings) as workers:
            start = time.perf_counter()
            n = len(list(workers.run(task, items, variants)))
            seconds[n_nodes] = time.perf_counter() - start
    cluster_run.RunWorker = former  # type: ignore[misc]
    print(f"{n} answers of 70 ms without work: 1 node {seconds[1]:.1f} s, 2 {seconds[2]:.1f} s")


@contextmanager
def spread(
    cluster: Cluster, n_nodes: int, specs: Sequence[SourceSpec], settings: Settings
) -> Iterator[ClusterRun]:
    """Workers of one core on some of the nodes, which have all loaded."""
    nodes = [replace(node, total={"CPU": 1.0}) for node in cluster.nodes()[:n_nodes]]
    with ClusterRun(nodes, specs, settings, options=ONE, on_notice=print) as workers:
        while workers.n_loading:
            time.sleep(0.1)
        yield workers


def timeless(result: Result) -> Result:
    """A result without its times."""
    return replace(result, seconds=0.0, prompt_seconds=0.0)


def serving(address: str, given: argparse.Namespace, questions: Sequence[str]) -> int:
    """The server with and without replicas; returns the number of differing answers."""
    answers: dict[str, str] = {}
    n_wrong = 0
    one = ("--ray", address, "--max-replicas", "1")
    two = ("--ray", address, "--min-replicas", "2", "--max-replicas", "2")
    with ExitStack() as opened:
        servers = {
            name: opened.enter_context(started(given.model, *more))
            for name, more in (("one process", ()), ("one replica", one), ("two replicas", two))
        }
        for served, _ in servers.values():
            for question in questions:
                text = ask(served, given, question)
                n_wrong += answers.setdefault(question, text) != text
        before = {name: work(*server) for name, server in servers.items()}
        speeds = rounds({name: served for name, (served, _) in servers.items()}, given, questions)
        for name, (served, pid) in servers.items():
            shown = (f"{n} client(s) {speeds[name, n]:.0f};" for n in CLIENTS)
            print(f"{name}, bytes/s:", *shown)
            (cpu_s, n), (before_s, n_before) = work(served, pid), before[name]
            each_ms = 1000 * (cpu_s - before_s) / (n - n_before)
            print(f"  CPU of the server's process: {each_ms:.2f} ms a segment")
            if name != "one process":
                times = [cancelled_s(served, given.model) for _ in range(N_CANCELS)]
                middle, worst = statistics.median(times), max(times)
                print(f"  disconnect to quiet replica: median {middle:.3f} s, worst {worst:.3f} s")
    print(f"serve: {n_wrong} of {2 * len(questions)} answers of replicas differ")
    return n_wrong


def rounds(
    servers: Mapping[str, Served], given: argparse.Namespace, questions: Sequence[str]
) -> Mapping[tuple[str, int], float]:
    """Bytes per second by server and clients, in turns: others may use this machine, too."""
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(given.rounds):
        for name, served in servers.items():
            for n in CLIENTS:
                found.setdefault((name, n), []).append(load(served, given, questions, n))
    return {key: statistics.mean(speeds) for key, speeds in found.items()}


def work(served: Served, pid: int) -> tuple[float, float]:
    """Seconds of CPU of the server's own process, and the segments that it has written."""
    times = psutil.Process(pid).cpu_times()
    lines = served.ask("GET", "/metrics").body.decode().splitlines()
    n = sum(float(x.rpartition(" ")[2]) for x in lines if x.startswith("cf_local_segments_total{"))
    return times.user + times.system, n


@contextmanager
def started(model: str, *more: str) -> Iterator[tuple[Served, int]]:
    """`cf-local serve` as a process, with one thread for each model; and its id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cf_local", "serve", model, "--port", "0", "--threads", "1", *more],
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        seen = b""
        for line in process.stderr:
            seen += line
            if found := re.match(rb"Listening on http://127.0.0.1:(\d+)/", line):
                break
        else:
            raise SystemExit(seen.decode())
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or it fills the pipe
        yield Served(None, None, int(found[1])), process.pid  # type: ignore[arg-type]
    finally:
        process.terminate()
        process.wait(60)


def ask(served: Served, given: argparse.Namespace, question: str) -> str:
    """The answer to a question, greedy and without speculation."""
    more: Any = {"cf_local": {"speculation": False}, "max_tokens": given.max_tokens}
    reply = served.chat(question, model=given.model, **more)
    return str(reply.json["choices"][0]["message"]["content"])


def load(served: Served, given: argparse.Namespace, questions: Sequence[str], n: int) -> float:
    """Bytes of answers per second of ``n`` clients, each with questions of its own."""
    end = time.monotonic() + given.seconds
    written = [0] * n

    def client(number: int) -> None:
        for question in questions[number::n] * 1000:
            if time.monotonic() > end:
                return
            written[number] += len(ask(served, given, question).encode())

    start = time.monotonic()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(written) / (time.monotonic() - start)


def cancelled_s(served: Served, model: str) -> float:
    """Seconds from a disconnect until no replica writes."""
    sock = served.open(endless(model=model, stream=True))
    while n_running(served) == 0:
        time.sleep(0.005)
    sock.close()
    start = time.perf_counter()
    while n_running(served):
        time.sleep(0.005)
    return time.perf_counter() - start


def n_running(served: Served) -> float:
    """The answers that all replicas write now."""
    lines = served.ask("GET", "/metrics").body.decode().splitlines()
    found = [line for line in lines if line.startswith("cf_local_replica_running{")]
    return sum(float(line.rpartition(" ")[2]) for line in found)


if __name__ == "__main__":
    main()
