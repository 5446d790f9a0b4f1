"""A real server over replicas on a real Ray cluster, and the processes of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from serving import Served, serving, wait_until

from cf_local.loading.load_options import LoadOptions
from cf_local.server.replicas import Bounds, Replicas

N_SLOTS = 2
OPTIONS = LoadOptions(n_threads=1, overlap=False, n_conversations=N_SLOTS, offline=True)


@contextmanager
def replicated(n_min: int = 2, n_max: int = 2) -> Iterator[tuple[Served, Replicas]]:
    with (
        Replicas(Bounds(n_min, n_max, 1, 0.0), OPTIONS, lambda _text: None) as replicas,
        serving(replicas.loader(lambda *_: None), n_slots=N_SLOTS * n_max) as served,
    ):
        served.server.metrics.add(replicas)
        yield served, replicas
    wait_until(lambda: not processes("ray::ServeReplica"), "the replicas end")


def processes(title: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = process.cmdline()
        except psutil.Error:  # it has just ended
            continue
        if line and line[0].startswith(title):
            found.append(process)
    return found
