"""An evaluation on a Ray cluster: the questions are spread over its nodes.

Each node has workers, actors that load the fusion as ``load`` does and take one question at a time.
The driver judges and stores what they write, so that table, folder and ``--resume`` are those of
one process. A worker that dies gives its question back.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cf_local.cluster.connection import library, why_lost
from cf_local.errors import Cancelled, CfLocalError, ClusterError, InputError
from cf_local.evaluation.runner import Result, Store, judged, write
from cf_local.evaluation.store import differences, models_of, record_of
from cf_local.evaluation.tasks.task import Item, Task
from cf_local.evaluation.variants import Variant
from cf_local.loading.load import load_chosen
from cf_local.loading.load_options import LoadOptions
from cf_local.planning.nodes import Node, share_of_gpus
from cf_local.progress import Closing, IsCancelled, Progress, never
from cf_local.registry.registry import SourceSpec
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings

_POLL_S = 0.1  # from one look at Ctrl-C to the next
_MOST_LOSSES = 2  # workers that may die at one question: it is not their node then


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What a worker has loaded: the names of its sources, their settings and their files."""

    names: tuple[str, ...]
    settings: Settings
    models: list[dict[str, Any]]
    notices: Sequence[str]


class RunWorker:
    """A loaded fusion in an actor of its own, which answers one question at a time."""

    def __init__(
        self, specs: Sequence[SourceSpec], settings: Settings, options: LoadOptions, n_cores: int
    ) -> None:
        """Nothing is loaded yet; ``n_cores`` is what Ray has set aside for this worker."""
        self._specs, self._settings = specs, settings
        self._options = options.within(n_cores)
        self._fusion: Fusion | None = None
        self._parts: dict[str, Fusion] = {}

    def load(self) -> _Loaded:
        """Load the fusion. Raises what ``load`` raises."""
        notices: list[str] = []
        self._fusion = fusion = load_chosen(
            self._specs, self._settings, options=self._options, on_notice=notices.append
        )
        names = tuple(source.info.name for source in fusion.sources)
        return _Loaded(names, fusion.settings, models_of(fusion.sources), notices)

    def write(self, item: Item, variant: Variant) -> Result:
        """Answer a question in one way, without a verdict."""
        assert self._fusion is not None
        if variant.sources is None:
            return write(self._fusion, item, variant)
        if variant.name not in self._parts:
            self._parts[variant.name] = self._fusion.of(variant.sources, variant.settings)
        return write(self._parts[variant.name], item, variant)


@dataclass(eq=False, slots=True)
class _Question:
    """A question, the ways left to answer it, and the nodes whose workers died on it."""

    item: Item
    left: deque[Variant]
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Seat:
    """A worker and the name of its node."""

    actor: Any
    node: str


class ClusterRun(Closing):
    """The workers of one evaluation. They end with it, whatever ends it."""

    def __init__(
        self,
        nodes: Sequence[Node],
        specs: Sequence[SourceSpec],
        settings: Settings,
        *,
        options: LoadOptions,
        is_cancelled: IsCancelled = never,
        on_progress: Progress | None = None,
        on_notice: Callable[[str], None],
    ) -> None:
        """Start workers on ``nodes`` and wait for the first; the others join as they are ready.

        ``specs``, ``settings`` and ``options`` are those of ``load_chosen``. Each node has one
        worker with all its cores, or with ``n_threads`` as many as its cores allow. ``on_notice``
        gets what the user should know, also later. Raises what loading raises if no worker can
        load, ClusterError if no node has a core, and Cancelled.
        """
        self._ray = library()
        self._on_notice = on_notice
        self._noted: set[str] = set()
        self._loading: dict[Any, _Seat] = {}
        self._free: list[_Seat] = []
        self._seats: list[_Seat] = []
        self._first: _Loaded | None = None
        self._failed: CfLocalError | None = None
        portable = [spec.portable() for spec in specs]
        try:
            for node in nodes:
                for n_cores, n_gpus in _shares(node, options):
                    self._start(node, n_cores, n_gpus, portable, settings, options)
            if not self._seats:
                raise ClusterError("No node of the cluster has a CPU to work with.")
            self._await_first(is_cancelled, on_progress)
        except BaseException:
            self.close()
            raise

    @property
    def n_loading(self) -> int:
        """The workers that still load it; they are only now taken in."""
        for ref in self._ready(list(self._loading)) if self._loading else ():
            self._join(ref)
        return len(self._loading)

    @property
    def n_workers(self) -> int:
        """The workers that have loaded the fusion, or still load it."""
        return len(self._seats)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources."""
        return self._loaded.names

    @property
    def settings(self) -> Settings:
        """The settings of the loaded fusion."""
        return self._loaded.settings

    @property
    def _loaded(self) -> _Loaded:
        assert self._first is not None
        return self._first

    def record(
        self, task: Task, items: Sequence[Item], variants: Sequence[Variant]
    ) -> dict[str, Any]:
        """What is evaluated, as ``record_of`` a fusion in this process."""
        return record_of((), task, items, variants) | {"models": self._loaded.models}

    def run(
        self,
        task: Task,
        items: Sequence[Item],
        variants: Sequence[Variant],
        store: Store | None = None,
        *,
        is_cancelled: IsCancelled = never,
    ) -> Iterator[Result]:
        """Like ``runner.run``, but the results come in the order in which they are ready.

        Raises ClusterError when all workers are gone, or two have died at one question.
        """
        store = store or Store()
        todo: deque[_Question] = deque()
        for item in items:
            known = [store.results.get((variant.name, item.id)) for variant in variants]
            yield from filter(None, known)
            left = [v for v, result in zip(variants, known, strict=True) if result is None]
            if left:
                todo.append(_Question(item, deque(left)))
        running: dict[Any, tuple[_Seat, _Question]] = {}
        while todo or running:
            if is_cancelled():
                raise Cancelled("The evaluation was interrupted.")
            while todo and self._free:
                self._ask(running, self._free.pop(0), todo.popleft())
            self._check_any_left(running)
            for ref in self._ready([*running, *self._loading]):
                if ref in self._loading:
                    self._join(ref)
                    continue
                seat, question = running.pop(ref)
                written = self._written(ref, seat, question)
                if written is None:
                    todo.appendleft(question)
                    continue
                question.left.popleft()
                result = judged(task, question.item, written)
                store.append(result)
                if question.left:
                    self._ask(running, seat, question)
                else:
                    self._free.append(seat)
                yield result

    def close(self) -> None:
        """End all workers at once. May be called twice."""
        for seat in self._seats:
            self._ray.kill(seat.actor)
        self._seats, self._free, self._loading = [], [], {}

    def _start(
        self,
        node: Node,
        n_cores: int,
        n_gpus: float,
        specs: Sequence[SourceSpec],
        settings: Settings,
        options: LoadOptions,
    ) -> None:
        strategies = self._ray.util.scheduling_strategies
        where = strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        how = {"num_cpus": n_cores, "num_gpus": n_gpus, "scheduling_strategy": where}
        actor = self._ray.remote(RunWorker).options(**how).remote(specs, settings, options, n_cores)
        seat = _Seat(actor, node.name)
        self._seats.append(seat)
        self._loading[actor.load.remote()] = seat

    def _await_first(self, is_cancelled: IsCancelled, on_progress: Progress | None) -> None:
        n_all = len(self._seats)
        while self._first is None:
            if is_cancelled():
                raise Cancelled("The load was interrupted.")
            if not self._loading:
                raise self._failed or ClusterError("All workers died while they loaded.")
            for ref in self._ready(list(self._loading)):
                self._join(ref)
            if on_progress is not None:
                on_progress(1 - len(self._loading) / n_all)

    def _join(self, ref: Any) -> None:
        """Take in a worker that has loaded, or note why it cannot."""
        seat = self._loading.pop(ref)
        try:
            loaded: _Loaded = self._result(ref)
            if self._first is not None:
                _check_same(self._first, loaded)
        except CfLocalError as error:
            self._drop(seat)
            self._failed = self._failed or error
            self._note(f"{seat.node} takes no part: {error}")
            return
        self._first = self._first or loaded
        self._free.append(seat)
        for notice in loaded.notices:
            self._note(notice)

    def _ask(
        self, running: dict[Any, tuple[_Seat, _Question]], seat: _Seat, question: _Question
    ) -> None:
        ref = seat.actor.write.remote(question.item, question.left[0])
        running[ref] = seat, question

    def _written(self, ref: Any, seat: _Seat, question: _Question) -> Result | None:
        """What a worker has written; None if it died. Raises what the worker raises."""
        try:
            written: Result = self._result(ref)
        except _WorkerDied as error:
            self._drop(seat)
            question.lost.append(seat.node)
            if len(question.lost) == _MOST_LOSSES:
                raise ClusterError(
                    f"Two workers died at question {question.item.id!r} (on "
                    f"{' and '.join(question.lost)}): {error}. Leave the question out, or give the "
                    "workers more memory."
                ) from error
            self._on_notice(
                f"A worker on {seat.node} died ({error}). Another worker takes over its question, "
                f"{question.item.id!r}."
            )
            return None
        return written

    def _check_any_left(self, running: Mapping[Any, object]) -> None:
        if not (running or self._free or self._loading):
            raise ClusterError(
                "All workers have died. Answers so far are saved if the run has --out FOLDER; "
                "--resume continues it."
            )

    def _ready(self, refs: list[Any]) -> list[Any]:
        """Those that are ready, after a moment perhaps none."""
        ready: list[Any] = self._ray.wait(refs, num_returns=1, timeout=_POLL_S)[0]
        return ready

    def _result(self, ref: Any) -> Any:
        """The result of a call. Raises what the call raises, and _WorkerDied."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.RayTaskError as error:
            if isinstance(error.cause, CfLocalError):
                raise error.cause from None
            raise
        except errors.RayActorError as error:
            raise _WorkerDied(why_lost(error)) from error

    def _drop(self, seat: _Seat) -> None:
        self._ray.kill(seat.actor)
        self._seats.remove(seat)

    def _note(self, text: str) -> None:
        """Note something once: most notices are the same on all nodes."""
        if text not in self._noted:
            self._noted.add(text)
            self._on_notice(text)


class _WorkerDied(ClusterError):
    """A worker, or its node, has died."""


def _shares(node: Node, options: LoadOptions) -> Iterator[tuple[int, float]]:
    """The cores and GPUs of each worker on a node."""
    n_cores = int(node.total.get("CPU", 0))
    if not n_cores:
        return
    own = min(options.n_threads or n_cores, n_cores)
    n_workers = n_cores // own
    n_gpus = 0.0 if options.device == "cpu" else share_of_gpus(node, n_workers)
    for _ in range(n_workers):
        yield own, n_gpus


def _check_same(first: _Loaded, other: _Loaded) -> None:
    """Raise InputError if two nodes would not give the same answers."""
    if found := differences(first.models, other.models):
        raise InputError(f"its models are not those of the first node: {found}.")
