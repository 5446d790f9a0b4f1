"""An evaluation on a cluster of two nodes: the results of one process, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import cf_local
from cf_local.cluster.connection import connect
from cf_local.errors import ClusterError, InputError, MissingModelError
from cf_local.evaluation import (
    Item,
    Result,
    Store,
    Task,
    TaskOptions,
    Variant,
    checked_items,
    cluster_run,
    default_variants,
    distinct,
    open_task,
    parse_variant,
    record_of,
    run,
    settings_for,
)
from cf_local.evaluation.cluster_run import ClusterRun, RunWorker
from cf_local.loading.load import choose
from cf_local.loading.load_options import LoadOptions
from cf_local.planning.nodes import Placement
from cf_local.registry.registry import SourceSpec, load_registry

pytestmark = pytest.mark.model
PATIENCE_S = 60.0  # on a machine that does much else
OPTIONS = LoadOptions(n_threads=2, overlap=False)  # two cores for a node: one worker each


@pytest.fixture(scope="module")
def task() -> Task:
    return open_task("builtin", TaskOptions(n_items=3, seed=4))


@pytest.fixture(scope="module")
def items(task: Task) -> Sequence[Item]:
    return checked_items(task)


@pytest.fixture(scope="module")
def variants(task: Task) -> Sequence[Variant]:
    specs, settings = choose(load_registry(), None, ())
    names = [spec.name for spec in specs]
    given = replace(settings_for(task, settings), speculation=False)
    return distinct(
        [
            *default_variants(given, names),
            parse_variant("cool sources=ash,cedar", given, names),
        ]
    )


@pytest.fixture(scope="module")
def alone(task: Task, items: Sequence[Item], variants: Sequence[Variant]) -> list[Any]:
    """The results of one process."""
    with cf_local.load(options=OPTIONS) as fusion:
        return [timeless(result) for result in run(fusion, task, items, variants)]


def timeless(result: Result) -> Result:
    return replace(result, seconds=0.0, prompt_seconds=0.0)


def in_order(results: Sequence[Result], items: Sequence[Item]) -> list[Result]:
    place = [item.id for item in items]
    return sorted(map(timeless, results), key=lambda result: place.index(result.item))


@contextmanager
def workers(
    nodes: Any, notices: list[str] | None = None, specs: Sequence[SourceSpec] = ()
) -> Iterator[ClusterRun]:
    chosen, settings = choose(load_registry(), None, ())
    notes = [] if notices is None else notices
    with (
        connect(nodes.address) as cluster,
        ClusterRun(
            cluster.nodes(), specs or chosen, settings, options=OPTIONS, on_notice=notes.append
        ) as opened,
    ):
        yield opened
    wait_until(lambda: not processes())


def processes() -> list[psutil.Process]:
    """Those of the workers."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = process.cmdline()
        except psutil.Error:  # it has just ended
            continue
        if title and title[0].startswith("ray::RunWorker"):
            found.append(process)
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def dying(folder: Path, n_deaths: int) -> type[RunWorker]:
    """Workers that die while they write, ``n_deaths`` times in all after the first answer."""

    class RunWorkerThatDies(RunWorker):
        def write(self, item: Item, variant: Variant) -> Result:
            for n in range(n_deaths + 1):
                try:
                    (folder / f"write{n}").touch(exist_ok=False)
                except FileExistsError:
                    continue
                if n:
                    os.kill(os.getpid(), signal.SIGKILL)
                break
            return super().write(item, variant)

    return RunWorkerThatDies


@pytest.mark.parametrize("placement", [None, Placement()], ids=["", "an actor in the workers"])
def test_two_nodes_give_the_results_of_one_process(
    ray_nodes: Any,
    task: Task,
    items: Sequence[Item],
    variants: Sequence[Variant],
    alone: list[Result],
    placement: Placement | None,
) -> None:
    first, *others = choose(load_registry(), None, ())[0]
    specs = [replace(first, ray=placement), *others]
    with workers(ray_nodes, specs=specs) as opened:
        assert opened.n_workers == 2
        results = list(opened.run(task, items, variants))
        record = opened.record(task, items, variants)
    assert in_order(results, items) == alone
    with cf_local.load(options=OPTIONS) as fusion:
        assert record == record_of(fusion.sources, task, items, variants)


def test_what_is_known_is_not_asked_again(
    ray_nodes: Any,
    task: Task,
    items: Sequence[Item],
    variants: Sequence[Variant],
    alone: list[Result],
) -> None:
    store = Store()
    n_known = len(variants) + 2  # the first question, and a part of the second
    for result in alone[:n_known]:
        store.append(replace(result, text="known"))
    with workers(ray_nodes) as opened:
        results = in_order(list(opened.run(task, items, variants, store)), items)
    assert [result.text for result in results[:n_known]] == ["known"] * n_known
    assert results[n_known:] == alone[n_known:]
    assert len(store.results) == len(alone)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_worker_that_dies_gives_its_question_back(
    ray_nodes: Any,
    task: Task,
    items: Sequence[Item],
    variants: Sequence[Variant],
    alone: list[Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_run, "RunWorker", dying(tmp_path, 1))
    notices: list[str] = []
    with workers(ray_nodes, notices) as opened:
        results = list(opened.run(task, items, variants))
        assert opened.n_workers == 1
    assert in_order(results, items) == alone
    (notice,) = notices
    assert notice.startswith("A worker on ")
    assert "Another worker takes over its question" in notice


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_question_at_which_two_workers_die_ends_the_run(
    ray_nodes: Any,
    task: Task,
    items: Sequence[Item],
    variants: Sequence[Variant],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_run, "RunWorker", dying(tmp_path, 2))
    with (
        workers(ray_nodes) as opened,
        pytest.raises(ClusterError, match=f"Two workers died at question '{items[0].id}'"),
    ):
        list(opened.run(task, items[:1], variants))


def test_without_any_worker_the_run_ends(
    ray_nodes: Any, task: Task, items: Sequence[Item], variants: Sequence[Variant]
) -> None:
    with workers(ray_nodes) as opened:
        running = opened.run(task, items, variants)
        next(running)
        wait_until(lambda: len(processes()) == 2)
        for process in processes():
            process.kill()
        with pytest.raises(ClusterError, match=r"All workers have died.*--resume"):
            list(running)


def test_a_model_that_no_node_has_is_the_error_of_a_load(ray_nodes: Any, tmp_path: Path) -> None:
    missing = SourceSpec(name="m", file=str(tmp_path / "m.gguf"), origin="test")
    notices: list[str] = []
    with pytest.raises(MissingModelError, match=r"m\.gguf"), workers(ray_nodes, notices, [missing]):
        pass
    wait_until(lambda: not processes())
    assert notices
    assert all("takes no part: " in notice and "m.gguf" in notice for notice in notices)


def test_errors_of_a_worker_are_those_of_one_process(
    ray_nodes: Any, task: Task, items: Sequence[Item], variants: Sequence[Variant]
) -> None:
    wrong = Variant("wrong", replace(variants[0].settings, only="elm"))
    with workers(ray_nodes) as opened, pytest.raises(InputError, match="No source is named 'elm'"):
        list(opened.run(task, items, [wrong]))


SIX = ("eval", "builtin", "--limit", "6", "--seed", "4", "--json", "--no-speculation")
SAME = (*SIX, "--threads", "2", "--no-overlap")


def command(
    *arguments: str, folder: Path, program: Sequence[str] = ("-m", "cf_local")
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env=os.environ | {"CF_LOCAL_DATA": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def stopped_midway(how: int, nodes: Any, folder: Path) -> subprocess.Popen[bytes]:
    """A run that got a signal after some answers."""
    process = command(*SAME, "--ray", nodes.address, "--out", "run", folder=folder)
    path = folder / "run" / "results.jsonl"
    wait_until(
        lambda: process.poll() is not None or (path.exists() and path.read_bytes().count(b"\n") > 7)
    )
    assert process.poll() is None, process.communicate()
    process.send_signal(how)
    return process


def summary(stdout: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stdout)
    for row in found["rows"]:
        assert row.pop("bytes_per_s") > 0
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send to a child")
def test_ctrl_c_ends_all_workers_and_the_run_goes_on_anywhere(
    ray_nodes: Any, tmp_path: Path
) -> None:
    process = stopped_midway(signal.SIGINT, ray_nodes, tmp_path)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, stderr
    assert b"Run the same command with --resume to continue" in stderr
    assert b"Traceback" not in stderr
    wait_until(lambda: not processes())
    resumed = command(*SAME, "--out", "run", "--resume", folder=tmp_path)  # in one process
    stdout, stderr = resumed.communicate(timeout=PATIENCE_S)
    assert resumed.returncode == 0, stderr
    assert b"answers are already saved" in stderr
    at_once = command(*SAME, folder=tmp_path)
    assert summary(stdout) == summary(at_once.communicate(timeout=PATIENCE_S)[0])


WITH_A_DEATH = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_cluster_run import cluster_run, dying
from cf_local.cli.main import main
cluster_run.RunWorker = dying(Path.cwd(), 1)
main(prog_name="cf-local")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_what_ray_says_of_a_dead_worker_is_not_in_the_table(ray_nodes: Any, tmp_path: Path) -> None:
    program = ("-c", WITH_A_DEATH)
    process = command(*SAME, "--ray", ray_nodes.address, folder=tmp_path, program=program)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert summary(stdout)["n_items"] == 6
    assert b"Another worker takes over its question" in stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_driver_leaves_no_worker(ray_nodes: Any, tmp_path: Path) -> None:
    process = stopped_midway(signal.SIGKILL, ray_nodes, tmp_path)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL  # it had not ended by itself
    wait_until(lambda: not processes())


def test_reference_texts_are_read_in_one_process(tmp_path: Path) -> None:
    line = {"prompt": "Go on.", "reference": "A text."}
    (tmp_path / "t.jsonl").write_text(json.dumps(line) + "\n")
    process = command("eval", "references:t.jsonl", "--ray", "local", folder=tmp_path)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert b"--ray: reference texts are read in one process" in stderr
