"""Which source is computed where, with how much context, so that a set of them fits into memory.

Arithmetic only: what a model needs comes in as ``ModelSizes``, what there is as devices. In order
of preference: everything as asked; a quantized cache; less context, down to the minimum asked for.
At each of these levels, as much as fits goes onto GPUs, the largest sources first: they take most
of the time of an answer, so they gain most.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from cf_local.planning.memory import Device
from cf_local.types import DeviceChoice, KvType

DEFAULT_CONTEXT = 4096
"""Tokens of context unless the user or the model says otherwise."""
MIN_CONTEXT = 2048
"""Tokens below which the context is not shrunk, unless the model has fewer."""
EVERY_GPU = "*"
"""The device of a source whose layers llama.cpp spreads over all GPUs it finds."""
_CONTEXT_STEP = 256

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
            device=None if self.device == "cpu" else EVERY_GPU,
            n_gpu_layers=-1 if self.n_gpu_layers is None else self.n_gpu_layers,
            n_layers=0,
            n_ctx=self.n_ctx,
            kv_type=self.kv_types[0],
            n_threads=self.n_threads,
        )


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How one source is loaded, and what it needs if that was planned.

    ``device`` is a GPU's name, EVERY_GPU for all, None for the CPU alone. ``n_layers`` counts the
    output as a layer, as llama.cpp does; it is 0 if unplanned. ``main`` and ``gpu`` are what the
    source needs of main memory and of the GPU's.
    """

    source: str
    device: str | None
    n_gpu_layers: int
    n_layers: int
    n_ctx: int
    kv_type: KvType
    n_threads: int | None
    main: Need = NOTHING
    gpu: Need = NOTHING
    copied: int = 0


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
        """Whether every device has the memory that is needed of it."""
        return all(n_bytes <= self.budgets[name] for name, n_bytes in self.needs.items())

    @property
    def n_main(self) -> int:
        """Bytes needed of the main memory."""
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
        cap = max(floor, cap * 3 // 4 // _CONTEXT_STEP * _CONTEXT_STEP)
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
    for device in devices:
        if device.name == chosen.device:
            free[device.name] -= chosen.gpu.total
            if device.shares_main_memory:
                free["CPU"] -= chosen.gpu.total


class _Placing:
    """One source with one context: what it needs with a number of layers on a GPU."""

    def __init__(self, model: ModelSizes, wish: Wish, n_ctx: int, kv_rank: int) -> None:
        self._model, self._wish, self._n_ctx = model, wish, n_ctx
        self._kv_type, self._layout = _cache_of(model, wish, n_ctx, kv_rank)
        self._n_layers = len(model.blocks) + 1

    def best(self, devices: Sequence[Device], free: Mapping[str, int]) -> Arrangement:
        """With as many layers as fit on one GPU, or as many as were asked for."""
        n_asked = self._wish.n_gpu_layers
        by_room = sorted(devices, key=lambda device: -free[device.name])
        usable = by_room if self._wish.device != "cpu" and n_asked != 0 else ()
        options = [self._on(device, n_asked, free) for device in usable]
        best = max(options, key=lambda option: option.n_gpu_layers, default=None)
        return best if best is not None and best.n_gpu_layers else self._with(None, 0)

    def _on(self, device: Device, n_asked: int | None, free: Mapping[str, int]) -> Arrangement:
        """On that GPU; on the CPU alone if no layer fits there."""
        if n_asked is not None:
            n_layers = self._n_layers if n_asked < 0 else min(n_asked, self._n_layers)
            return self._with(device, n_layers)
        for n_layers in range(self._n_layers, 0, -1):
            option = self._with(device, n_layers)
            if option.gpu.total <= free[device.name]:
                return option
        return self._with(None, 0)

    def _with(self, device: Device | None, n_gpu_layers: int) -> Arrangement:
        """The output goes onto a GPU first, then blocks from the last to the first."""
        model, n_blocks = self._model, len(self._model.blocks)
        moved = model.blocks[n_blocks - max(0, n_gpu_layers - 1) :]
        is_whole = n_gpu_layers >= self._n_layers
        weights = sum(moved) + (model.outputs if n_gpu_layers else 0)
        cache = self._layout.cache * len(moved) // max(1, n_blocks)
        buffers = self._layout.gpu_buffers if n_gpu_layers else self._layout.buffers
        main = Need(
            weights=model.weights - weights,
            cache=self._layout.cache - cache,
            buffers=0 if is_whole else buffers,
            program=model.program + self._n_ctx * model.per_token,
        )
        gpu = Need(weights, cache, buffers) if n_gpu_layers else Need()
        return Arrangement(
            source=model.name,
            device=device.name if device and n_gpu_layers else None,
            n_gpu_layers=n_gpu_layers,
            n_layers=self._n_layers,
            n_ctx=self._n_ctx,
            kv_type=self._kv_type,
            n_threads=self._wish.n_threads,
            main=main,
            gpu=gpu,
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


# Bits per weight of common quantizations, in whole files of 1 to 9 billion parameters.
_BITS = {"Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.7, "Q4_K_M": 4.9, "Q3_K_M": 4.0, "Q2_K": 3.4}
_LEAST_CONTEXT = 512


@dataclass(frozen=True, slots=True)
class Advice:
    """One change that would make a set fit, in words and as data."""

    kind: str
    text: str
    n_ctx: int | None = None
    sources: tuple[str, ...] = ()


def advise(models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room) -> list[Advice]:
    """What would fit, the smallest change first; nothing if not even one source would."""
    return [
        *_quantized_cache(models, wishes, room),
        *_smaller_context(models, wishes, room),
        *_smaller_weights(models, wishes, room),
        *_fewer_sources(models, wishes, room),
    ]


def refusal(plan: Plan, advices: Sequence[Advice]) -> str:
    """The message for the user: what does not fit, and what would."""
    short = [name for name, need in plan.needs.items() if need > plan.budgets[name]]
    missing = "; ".join(
        f"{megabytes(plan.needs[name])} of {_memory_of(name)} are needed, "
        f"{megabytes(plan.budgets[name])} may be used"
        for name in short
    )
    names = ", ".join(each.source for each in plan.arrangements)
    would = (
        f"What would fit: {'; or '.join(a.text for a in advices)}."
        if advices
        else "Choose much smaller models."
    )
    return f"Not enough memory for {names}: {missing}. {would}"


def megabytes(n_bytes: int) -> str:
    """A readable size in decimal MB or GB."""
    if n_bytes < 999_500_000:
        return f"{n_bytes / 1e6:.0f} MB"
    return f"{n_bytes / 1e9:.1f} GB"


def _memory_of(device: str) -> str:
    return "main memory" if device == "CPU" else f"the memory of {device}"


def _quantized_cache(
    models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    if all("q8_0" in wish.kv_types for wish in wishes):
        return  # the plan has tried it
    quantized = [replace(wish, kv_types=("q8_0",)) for wish in wishes]
    if best_plan(models, quantized, room).fits:
        yield Advice("kv_type", "a quantized cache (--kv-type q8_0)")


def _smaller_context(
    models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    low, high = _LEAST_CONTEXT, max(min(w.n_ctx, w.n_ctx_min) for w in wishes)
    if high <= low or not best_plan(models, with_context(wishes, low), room).fits:
        return
    while high - low > _CONTEXT_STEP:
        middle = (low + high) // 2 // _CONTEXT_STEP * _CONTEXT_STEP
        middle = max(low + _CONTEXT_STEP, middle)
        if middle >= high:
            break
        if best_plan(models, with_context(wishes, middle), room).fits:
            low = middle
        else:
            high = middle
    yield Advice("context", f"a context of {low} tokens (--context {low})", n_ctx=low)


def _smaller_weights(
    models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    """The largest common quantization that would fit, if it is smaller than the present one."""
    n_parameters = sum(model.n_parameters for model in models)
    if not n_parameters:
        return
    now = 8 * sum(model.weights for model in models) / n_parameters
    for name, bits in _BITS.items():
        if bits >= 0.95 * now:
            continue
        if best_plan([_quantized(model, bits) for model in models], wishes, room).fits:
            text = (
                f"a smaller quantization, such as {name} ({bits:g} bits per weight, now {now:.1f})"
            )
            yield Advice("quantization", text)
            return


def _quantized(model: ModelSizes, bits: float) -> ModelSizes:
    """The model with at most that many bits per weight."""
    share = min(1.0, bits * model.n_parameters / (8 * max(1, model.weights)))
    return replace(
        model,
        blocks=tuple(int(share * block) for block in model.blocks),
        inputs=int(share * model.inputs),
        outputs=int(share * model.outputs),
    )


def _fewer_sources(
    models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    """The largest number of sources that fits, and of such subsets the largest in bytes."""
    for count in range(len(models) - 1, 0, -1):
        fitting = [
            chosen
            for chosen in combinations(range(len(models)), count)
            if best_plan([models[i] for i in chosen], [wishes[i] for i in chosen], room).fits
        ]
        if fitting:
            best = max(fitting, key=lambda chosen: sum(models[i].weights for i in chosen))
            names = tuple(models[i].name for i in best)
            what = "only the source" if count == 1 else f"only {count} of the sources,"
            yield Advice("sources", f"{what} {' and '.join(names)}", sources=names)
            return
