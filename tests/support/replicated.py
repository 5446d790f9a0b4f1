"""A real server over replicas on a real Ray cluster, and the processes of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from serving import Served, serving, wait_until

from cf_local.loading.load_options import LoadOptions
from cf_local.server.replication.deployment import Bounds, Replicas
from cf_local.server.running import loader

N_SLOTS = 2
OPTIONS = LoadOptions(n_threads=1, overlap=False, n_conversations=N_SLOTS, offline=True)


def endless_models(folder: Path) -> Path:
    """A models.toml with the model "endless", whose answers take a minute at least."""
    tiny = pytest.importorskip("tiny_models", reason="tiny models need the gguf package")
    how = {"seed": 1, "n_ctx": 30_000, "eog_bias": -60}
    tiny.make_model(folder / "endless.gguf", "llama", tiny.bpe_vocab(), **how)
    file = folder / "models.toml"
    file.write_text('[sources.endless]\nfile = "endless.gguf"\ncontext = 30000\n', "utf-8")
    return file


@contextmanager
def replicated(
    n_min: int = 2, n_max: int = 2, models: Path | None = None
) -> Iterator[tuple[Served, Replicas]]:
    """A server whose replicas have a core each; ``models`` is a file to add to the registry."""
    here = loader(OPTIONS, lambda _text: None)
    before = _replicas()
    with (
        Replicas(Bounds(n_min, n_max, 1, 0.0), OPTIONS, lambda _text: None) as replicas,
        serving(replicas.loader(here), n_slots=N_SLOTS * n_max, models=models) as served,
    ):
        served.server.metrics.add(replicas)
        yield served, replicas
    wait_until(lambda: not _replicas() - before, "the replicas end")


def _replicas() -> set[psutil.Process]:
    return set(processes("ray::ServeReplica"))


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
