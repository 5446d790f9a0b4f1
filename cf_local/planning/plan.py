"""Which source is computed where, with how much context, so that a set of them fits into memory.

Arithmetic only: what a model needs comes in as ``ModelSizes``, what there is as devices. In order
of preference: everything as asked; a quantized cache; less context, down to the minimum asked for.
At each of these levels, as much as fits goes onto GPUs, the largest sources first: they take most
of the time of an answer, so they gain most.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

from cf_local.planning.memory import Device
from cf_local.types import DeviceChoice, KvType

DEFAULT_CONTEXT = 4096
"""Tokens of context unless the user or the model says otherwise."""
MIN_CONTEXT = 2048
"""Tokens below which the context is not shrunk, unless the model has fewer."""
EVERY_GPU = "*"
"""Stands for all GPUs that llama.cpp finds, where it spreads the layers itself."""
CONTEXT_STEP = 256
"""Tokens by which contexts differ."""

# Left free for the system, and for what the estimate does not cover.
_MAIN_MARGIN, _MAIN_MARGIN_SHARE = 200_000_000, 0.03
_GPU_MARGIN, _GPU_MARGIN_SHARE = 512_000_000, 0.03  # a CUDA context alone takes 300 MB or more


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of memory: weights, the cache of a full context, compute buffers, our own data."""

    weights: int = 0
    cache: int = 0
    buffers: int = 0
    program: int = 0

    @property
    def total(self) -> int:
        """The sum of all four."""
        return self.weights + self.cache + self.buffers + self.program

    def __add__(self, other: "Need") -> "Need":
        return Need(
            self.weights + other.weights,
            self.cache + other.cache,
            self.buffers + other.buffers,
            self.program + other.program,
        )


NOTHING = Need()


class Layout(NamedTuple):
    """Bytes that a context needs: its cache, and the buffers of its largest pass."""

    cache: int
    buffers: int
    gpu_buffers: int  # the buffers if a GPU takes part


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """What one model needs, in bytes.

    ``blocks`` are the weights of its layers, ``inputs`` those that always stay in main memory,
    ``outputs`` the rest. ``program`` is the vocabulary and rows of logits, ``per_token`` our own
    data for each token of the context. ``copied`` weights are rearranged for the CPU: until the
    system drops them, the pages of the file are resident as well. ``layout`` returns what a context
    needs, or None if llama.cpp refuses such a cache.
    """

    name: str
    n_ctx_train: int
    blocks: tuple[int, ...]
    inputs: int
    outputs: int
    program: int
    layout: Callable[[int, KvType], Layout | None]
    per_token: int = 0
    copied: int = 0
    n_parameters: int = 0

    @property
    def weights(self) -> int:
        """All weights."""
        return sum(self.blocks) + self.inputs + self.outputs


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for a source: a context, with its minimum, and types of cache, the best first.

    ``n_gpu_layers`` None lets the plan decide, -1 means all.
    """

    n_ctx: int = DEFAULT_CONTEXT
    n_ctx_min: int = MIN_CONTEXT
    kv_types: tuple[KvType, ...] = ("f16", "q8_0")
    device: DeviceChoice = "auto"
    n_gpu_layers: int | None = None
    n_threads: int | None = None

    def unplanned(self, source: str) -> "Arrangement":
        """How to load the source exactly as asked, whether or not it fits."""
        return Arrangement(
            source=source,
            gpus=() if self.device == "cpu" else None,
            n_gpu_layers=-1 if self.n_gpu_layers is None else self.n_gpu_layers,
            n_layers=0,
            n_ctx=self.n_ctx,
            kv_type=self.kv_types[0],
            n_threads=self.n_threads,
        )


@dataclass(frozen=True, slots=True)
class OnGpu:
    """The layers of a source on one GPU, and what they need there."""

    device: str
    n_layers: int
    need: Need


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How one source is loaded, and what it needs if that was planned.

    ``gpus`` are those with its last layers, in the order of the layers: none for the CPU alone,
    None where llama.cpp spreads them over all. ``n_layers`` counts the output as a layer, as
    llama.cpp does; it is 0 if unplanned. ``main`` is the main memory that the source needs.
    """

    source: str
    gpus: tuple[OnGpu, ...] | None
    n_gpu_layers: int
    n_layers: int
    n_ctx: int
    kv_type: KvType
    n_threads: int | None
    main: Need = NOTHING
    copied: int = 0

    @property
    def gpu(self) -> Need:
        """The GPU memory that it needs."""
        return sum((each.need for each in self.gpus or ()), NOTHING)

    @property
    def device(self) -> str | None:
        """The names of its GPUs for people, EVERY_GPU for all; None for the CPU alone."""
        if self.gpus is None:
            return EVERY_GPU
        return "+".join(each.device for each in self.gpus) or None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a set of sources is loaded; ``budgets`` are the bytes that may be used, by device.

    ``is_reduced`` says that something is less than was asked for.
    """

    arrangements: tuple[Arrangement, ...]
    budgets: Mapping[str, int]
    needs: Mapping[str, int]
    is_reduced: bool

    @property
    def fits(self) -> bool:
        """Whether every device has the memory that it must provide."""
        return all(n_bytes <= self.budgets[name] for name, n_bytes in self.needs.items())

    @property
    def n_main(self) -> int:
        """Bytes of main memory that are needed."""
        return self.needs["CPU"]

    @property
    def n_weights(self) -> int:
        """Bytes of weights, wherever they are."""
        return sum(each.main.weights + each.gpu.weights for each in self.arrangements)


@dataclass(frozen=True, slots=True)
class Room:
    """The devices, and the bytes of each that may be used; "CPU" is the main memory."""

    devices: tuple[Device, ...]
    budgets: Mapping[str, int]

    @classmethod
    def of(cls, devices: Sequence[Device], limit: int | None = None) -> "Room":
        """What is available less a margin, or at most ``limit`` bytes of main memory if given."""
        budgets, gpus = {"CPU": 0}, []
        discrete = any(device.kind == "gpu" for device in devices)
        for device in devices:
            free = device.available_bytes
            if device.kind == "cpu":
                spared = max(_MAIN_MARGIN, int(_MAIN_MARGIN_SHARE * free))
                budgets["CPU"] = max(0, free - spared)
                if limit is not None:
                    budgets["CPU"] = min(free, limit)
            elif device.kind == "gpu" or (device.kind == "igpu" and not discrete):
                spared = max(_GPU_MARGIN, int(_GPU_MARGIN_SHARE * free))
                budgets[device.name] = max(0, free - spared)
                gpus.append(device)
        return cls(tuple(gpus), budgets)


def best_plan(models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room) -> Plan:
    """The first plan that fits; if none does, the smallest one, which does not fit."""
    for index, (cap, kv_rank) in enumerate(_levels(wishes)):
        plan = _arrange(models, wishes, room, cap, kv_rank, is_reduced=index > 0)
        if plan.fits:
            break
    return plan


def _levels(wishes: Sequence[Wish]) -> Iterator[tuple[int, int]]:
    """Limits of the context and ranks of the cache's type, the best first."""
    cap, floor = max(w.n_ctx for w in wishes), min(min(w.n_ctx, w.n_ctx_min) for w in wishes)
    n_ranks = max(len(w.kv_types) for w in wishes)
    yield from ((cap, rank) for rank in range(n_ranks))
    while cap > floor:
        cap = max(floor, cap * 3 // 4 // CONTEXT_STEP * CONTEXT_STEP)
        yield cap, n_ranks - 1


def _arrange(
    models: Sequence[ModelSizes],
    wishes: Sequence[Wish],
    room: Room,
    cap: int,
    kv_rank: int,
    *,
    is_reduced: bool,
) -> Plan:
    """A plan with one context and type of cache, on GPUs as far as it fits."""
    free = dict(room.budgets)
    chosen: dict[int, Arrangement] = {}
    pairs = list(zip(models, wishes, strict=True))
    for index in sorted(range(len(pairs)), key=lambda i: -models[i].weights):
        model, wish = pairs[index]
        n_ctx = max(min(wish.n_ctx, cap), min(wish.n_ctx, wish.n_ctx_min))
        placed = _Placing(model, wish, min(n_ctx, model.n_ctx_train or n_ctx), kv_rank)
        chosen[index] = placed.best(room.devices, free)
        _take(chosen[index], room.devices, free)
    needs = {name: room.budgets[name] - left for name, left in free.items()}
    return Plan(tuple(chosen[i] for i in range(len(pairs))), room.budgets, needs, is_reduced)


def _take(chosen: Arrangement, devices: Sequence[Device], free: dict[str, int]) -> None:
    """Subtract what an arrangement needs from what is free."""
    free["CPU"] -= chosen.main.total
    in_main = {device.name for device in devices if device.shares_main_memory}
    for each in chosen.gpus or ():
        free[each.device] -= each.need.total
        if each.device in in_main:
            free["CPU"] -= each.need.total


class _Placing:
    """One source with one context: what it needs with a number of layers on GPUs."""

    def __init__(self, model: ModelSizes, wish: Wish, n_ctx: int, kv_rank: int) -> None:
        self._model, self._wish, self._n_ctx = model, wish, n_ctx
        self._kv_type, self._layout = _cache_of(model, wish, n_ctx, kv_rank)
        self._n_layers = len(model.blocks) + 1
        # Of all layers before each.
        self._weights = list(accumulate((*model.blocks, model.outputs), initial=0))

    def best(self, devices: Sequence[Device], free: Mapping[str, int]) -> Arrangement:
        """With as many layers as fit on GPUs, or as many as were asked for.

        On one GPU if it has the room for so many, for passes are faster there; else on several.
        """
        n_asked = self._wish.n_gpu_layers
        if not devices or self._wish.device == "cpu" or n_asked == 0:
            return self._with([])
        names = [each.name for each in sorted(devices, key=lambda each: -free[each.name])]
        n_most = self._n_layers
        if n_asked is not None and n_asked > 0:
            n_most = min(n_asked, n_most)
        for n_layers in range(n_most, 0 if n_asked is None else n_most - 1, -1):
            for some in (*([name] for name in names), names):
                if (found := self._spread(n_layers, some, free)) is not None:
                    return found
        # What was asked for, though it does not fit.
        start = self._n_layers - n_most
        return self._with([] if n_asked is None else [self._on(names[0], start, self._n_layers)])

    def _spread(
        self, n_layers: int, names: Sequence[str], free: Mapping[str, int]
    ) -> Arrangement | None:
        """So many layers on those GPUs, each as full as it may be; None if they do not fit."""
        gpus, start = list[OnGpu](), self._n_layers - n_layers
        for name in names:
            ends = range(start + 1, self._n_layers + 1)
            n_fitting = bisect_right(
                ends, free[name], key=lambda end: self._on(name, start, end).need.total
            )
            if n_fitting:
                gpus.append(self._on(name, start, start + n_fitting))
                start += n_fitting
        return self._with(gpus) if start == self._n_layers else None

    def _on(self, name: str, start: int, end: int) -> OnGpu:
        """The layers from ``start`` to ``end`` on a GPU; the output is the last layer."""
        n_blocks = self._n_layers - 1
        n_own = min(end, n_blocks) - min(start, n_blocks)
        cache = self._layout.cache * n_own // max(1, n_blocks)
        weights = self._weights[end] - self._weights[start]
        return OnGpu(name, end - start, Need(weights, cache, self._layout.gpu_buffers))

    def _with(self, gpus: Sequence[OnGpu]) -> Arrangement:
        """With these last layers on GPUs, and the others in main memory."""
        model, n_gpu_layers = self._model, sum(each.n_layers for each in gpus)
        is_whole = n_gpu_layers == self._n_layers
        buffers = self._layout.gpu_buffers if gpus else self._layout.buffers
        main = Need(
            weights=model.weights - sum(each.need.weights for each in gpus),
            cache=self._layout.cache - sum(each.need.cache for each in gpus),
            buffers=0 if is_whole else buffers,
            program=model.program + self._n_ctx * model.per_token,
        )
        return Arrangement(
            source=model.name,
            gpus=tuple(gpus),
            n_gpu_layers=n_gpu_layers,
            n_layers=self._n_layers,
            n_ctx=self._n_ctx,
            kv_type=self._kv_type,
            n_threads=self._wish.n_threads,
            main=main,
            copied=model.copied * main.weights // max(1, model.weights),
        )


def _cache_of(model: ModelSizes, wish: Wish, n_ctx: int, rank: int) -> tuple[KvType, Layout]:
    """The cache of that rank, or the next better one that this model supports."""
    for kv_type in reversed(wish.kv_types[: rank + 1]):
        layout = model.layout(n_ctx, kv_type)
        if layout is not None:
            return kv_type, layout
    return wish.kv_types[0], Layout(0, 0, 0)  # the load itself reports what is wrong


def with_context(wishes: Sequence[Wish], n_ctx: int) -> list[Wish]:
    """The wishes with that context as their maximum."""
    return [
        replace(w, n_ctx=min(w.n_ctx, n_ctx), n_ctx_min=min(w.n_ctx_min, n_ctx)) for w in wishes
    ]
