"""From the specs of sources to a plan: what they need, what there is, how they are arranged."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from cf_local import hub
from cf_local.errors import BrokenModelError, InputError, OutOfMemoryError
from cf_local.llama.devices import devices
from cf_local.llama.header import parse_header
from cf_local.llama.inspection import try_headers
from cf_local.llama.source import threads_for
from cf_local.loading.measured import RememberedModel
from cf_local.planning.memory import Device
from cf_local.planning.plan import (
    DEFAULT_CONTEXT,
    MIN_CONTEXT,
    Advice,
    ModelSizes,
    Plan,
    Room,
    Wish,
    advise,
    best_plan,
    megabytes,
    refusal,
)
from cf_local.progress import IsCancelled, never
from cf_local.registry.registry import BUILTIN_PREFIX, SourceSpec
from cf_local.types import DeviceChoice, KvType

_NOTABLE_BYTES = 256_000_000  # of smaller sets nobody asks how they were fitted


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What the user fixed; None leaves it to models.toml, and then to the plan.

    ``memory_bytes`` is how much of the main memory the sources may take; each of
    ``n_conversations`` has a context of its own.
    """

    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int | None = None
    kv_type: KvType | None = None
    device: DeviceChoice | None = None
    memory_bytes: int | None = None
    offline: bool = False
    n_conversations: int = 1


@dataclass(frozen=True, slots=True)
class Fitted:
    """The plan for a set; ``advices`` say what would fit when the set does not."""

    plan: Plan
    devices: tuple[Device, ...]
    advices: tuple[Advice, ...] = ()

    def check(self) -> None:
        """Raise OutOfMemoryError, which says what would fit, for a set that does not fit."""
        if not self.plan.fits:
            raise OutOfMemoryError(refusal(self.plan, self.advices))

    @property
    def is_notable(self) -> bool:
        """Whether a user should hear of it: something was decided, or it takes much."""
        plan = self.plan
        on_gpu = any(each.device for each in plan.arrangements)
        return plan.is_reduced or on_gpu or sum(plan.needs.values()) > _NOTABLE_BYTES

    def summary(self) -> str:
        """The plan in one line."""
        plan = self.plan
        memory = [
            f"{megabytes(need)} of {megabytes(plan.budgets[name])} "
            f"{'main memory' if name == 'CPU' else f'on {name}'}"
            for name, need in plan.needs.items()
            if need or name == "CPU"
        ]
        contexts = sorted({each.n_ctx for each in plan.arrangements})
        kv_types = sorted({each.kv_type for each in plan.arrangements})
        places = [
            f"{each.source} {each.n_gpu_layers}/{each.n_layers} layers on {each.device}"
            for each in plan.arrangements
            if each.device
        ]
        details = [f"context {' and '.join(map(str, contexts))}"]
        if plan.is_reduced or kv_types != ["f16"]:
            details.append(f"KV cache {' and '.join(kv_types)}")
        return "; ".join([f"the set takes {' and '.join(memory)}", ", ".join(details), *places])


def fit(
    specs: Sequence[SourceSpec], options: FitOptions, is_cancelled: IsCancelled = never
) -> Fitted:
    """The best arrangement of the sources in the memory that is available now.

    Models that are not on this machine are asked for their headers. Raises what finding and
    reading them raises, InputError for a GPU that is asked for and not there, and Cancelled.
    """
    there = devices()
    room = Room.of(there, options.memory_bytes)
    wishes = [wish_of(spec, options) for spec in specs]
    check_devices([wish.device for wish in wishes], there)
    with ExitStack() as opened:
        paths = _files(specs, options, is_cancelled, opened)
        sizes = partial(_sizes, specs, paths, opened)
        models = sizes(options.n_conversations)  # raises for a file that cannot be read
        wishes = [
            replace(wish, n_threads=wish.n_threads or threads_for(path))
            for wish, path in zip(wishes, paths, strict=True)
        ]
        plan = best_plan(models, wishes, room)
        advices: tuple[Advice, ...] = ()
        if not plan.fits:
            fewer = _fewer_conversations(sizes, options.n_conversations, wishes, room)
            advices = (*fewer, *advise(models, wishes, room))
    return Fitted(plan, there, advices)


def check_devices(choices: Sequence[DeviceChoice], there: Sequence[Device]) -> None:
    """InputError where a GPU is asked for and llama.cpp has none to compute on."""
    if "gpu" in choices and not any(device.is_gpu for device in there):
        raise InputError(
            "device gpu: the installed llama-cpp-python has no GPU to compute on "
            f"(backends: {', '.join(sorted({device.backend for device in there}))}). Install a "
            'build for yours, such as CMAKE_ARGS="-DGGML_CUDA=on" (or -DGGML_VULKAN=on, '
            "-DGGML_METAL=on) pip install --force-reinstall --no-cache-dir --no-binary "
            "llama-cpp-python llama-cpp-python==0.3.36, or a ready-made wheel that the "
            "llama-cpp-python documentation names; or choose --device cpu."
        )


def wish_of(spec: SourceSpec, options: FitOptions) -> Wish:
    """What is wanted of a source: by the options, else by its spec."""
    n_ctx = options.n_ctx or spec.context or DEFAULT_CONTEXT
    kv_type = options.kv_type or spec.kv_type
    device = options.device or spec.device or "auto"
    n_gpu_layers = spec.gpu_layers if options.n_gpu_layers is None else options.n_gpu_layers
    if n_gpu_layers is None and device == "gpu":
        n_gpu_layers = -1
    return Wish(
        n_ctx=n_ctx,
        n_ctx_min=n_ctx if options.n_ctx else min(n_ctx, MIN_CONTEXT),
        kv_types=(kv_type,) if kv_type else ("f16", "q8_0"),
        device=device,
        n_gpu_layers=0 if device == "cpu" else n_gpu_layers,
        n_threads=options.n_threads or spec.threads,
    )


def _files(
    specs: Sequence[SourceSpec], options: FitOptions, is_cancelled: IsCancelled, opened: ExitStack
) -> list[Path]:
    """A file with the header of each source, which may be gone when ``opened`` is left."""
    paths = [_file_with_header(spec, opened, offline=options.offline) for spec in specs]
    foreign = [
        path
        for spec, path in zip(specs, paths, strict=True)
        if not spec.file.startswith(BUILTIN_PREFIX)
    ]
    how = n_forks(len(specs)), options.n_conversations
    unknown = [path for path in foreign if not RememberedModel(path, *how).is_known]
    try_headers(unknown, is_cancelled)
    return paths


def _sizes(
    specs: Sequence[SourceSpec], paths: Sequence[Path], opened: ExitStack, n_conversations: int
) -> list[ModelSizes]:
    """What each source takes; layouts can be asked for until ``opened`` is left."""
    models = []
    for spec, path in zip(specs, paths, strict=True):
        model = RememberedModel(path, n_forks(len(specs)), n_conversations)
        opened.callback(model.close)
        models.append(model.sizes(spec.name))
    return models


def _fewer_conversations(
    sizes: Callable[[int], list[ModelSizes]], n_asked: int, wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    """Half as many, or half of those, if that would fit."""
    n_fewer = n_asked // 2
    while n_fewer:
        if best_plan(sizes(n_fewer), wishes, room).fits:
            text = f"{n_fewer} answers at once instead of {n_asked} (--parallel {n_fewer})"
            yield Advice("conversations", text)
            return
        n_fewer //= 2


def n_forks(n_sources: int) -> int:
    """Candidates that a source scores at once: every other source's, and the fused answer."""
    return n_sources + 1


def _file_with_header(spec: SourceSpec, opened: ExitStack, *, offline: bool) -> Path:
    """The model's file, or one with its header alone, which is gone when ``opened`` is left."""
    if spec.local_path is not None:
        return spec.local_path
    assert spec.repo is not None
    found = hub.look_up(spec.repo, spec.file, spec.revision, quant=spec.quant, offline=offline)
    if isinstance(found, Path):
        return found
    folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="cf-local-"))
    return fetch_headers(
        Path(folder),
        [(each.file, each.size_bytes, partial(hub.read_remote, each)) for each in found],
    )


ReadRemote = Callable[[int, int], bytes]
_BLOCK_BYTES = 4_000_000  # a vocabulary of 150,000 tokens makes a header of 6 MB
_MAX_HEADER_BYTES = 256_000_000


def fetch_headers(folder: Path, parts: Sequence[tuple[str, int, ReadRemote]]) -> Path:
    """Put the files of a model (name, bytes, and how to read it) there; the path of the first.

    Raises BrokenModelError, and what reading raises.
    """
    paths = []
    for name, n_bytes, read in parts:
        path = folder / PurePosixPath(name).name
        fetched = _Beginning(name, read)
        parse_header(fetched.read, n_bytes, name)
        with path.open("wb") as file:
            file.write(fetched.data)
            file.truncate(n_bytes)
        paths.append(path)
    return paths[0]


class _Beginning:
    """The beginning of a file, as far as it was asked for."""

    def __init__(self, name: str, read: ReadRemote) -> None:
        self._name, self._read = name, read
        self.data = bytearray()

    def read(self, start: int, n_bytes: int) -> bytes:
        """So many bytes from there on; blocks are fetched one after the other."""
        while len(self.data) < start + n_bytes:
            if start + n_bytes > _MAX_HEADER_BYTES:
                raise BrokenModelError(f"{self._name}: its header is too large to be true.")
            block = self._read(len(self.data), _BLOCK_BYTES)
            if not block:
                break
            self.data += block
        return bytes(self.data[start : start + n_bytes])
