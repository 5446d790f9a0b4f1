"""From source specs to a plan: what the sources need, what there is, how they are arranged."""

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
from cf_local.llama.threads import threads_for
from cf_local.loading.load_options import LoadOptions
from cf_local.loading.measured import RememberedModel
from cf_local.planning.advice import Advice, advise, refusal
from cf_local.planning.memory import Device, megabytes
from cf_local.planning.plan import ModelSizes, Plan, Room, Wish, best_plan
from cf_local.progress import IsCancelled, never
from cf_local.registry.registry import BUILTIN_PREFIX, SourceSpec
from cf_local.types import DeviceChoice

_NOTABLE_BYTES = 256_000_000  # how a smaller set was fitted is of no interest


@dataclass(frozen=True, slots=True)
class Fitted:
    """The plan for a set; if it does not fit, ``advices`` say what would."""

    plan: Plan
    devices: tuple[Device, ...]
    advices: tuple[Advice, ...] = ()

    def check(self) -> None:
        """Raise OutOfMemoryError if the set does not fit; it says what would."""
        if not self.plan.fits:
            raise OutOfMemoryError(refusal(self.plan, self.advices))

    @property
    def is_notable(self) -> bool:
        """Whether to show it to a user: something was reduced, a GPU is used, or it needs much."""
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
    specs: Sequence[SourceSpec],
    options: LoadOptions,
    is_cancelled: IsCancelled = never,
    *,
    n_sources: int | None = None,
) -> Fitted:
    """The best arrangement of the sources in the memory that is available now.

    They are all of their fusion, or some of ``n_sources``.
    Of a model that is not on this machine, only the header is fetched. Raises what finding and
    reading models raises, InputError when a GPU is asked for and there is none, and Cancelled.
    """
    present = devices()
    room = Room.of(present, options.memory_bytes)
    wishes = [options.wish_of(spec) for spec in specs]
    check_devices([wish.device for wish in wishes], present)
    with ExitStack() as opened:
        forks = n_forks(n_sources or len(specs))
        paths = _files(specs, options, forks, is_cancelled, opened)
        sizes = partial(_sizes, specs, paths, forks, opened)
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
    return Fitted(plan, present, advices)


def check_devices(choices: Sequence[DeviceChoice], present: Sequence[Device]) -> None:
    """Raise InputError if a GPU is asked for and llama.cpp has none."""
    if "gpu" in choices and not any(device.is_gpu for device in present):
        raise InputError(
            "device gpu: the installed llama-cpp-python has no GPU to compute on "
            f"(backends: {', '.join(sorted({device.backend for device in present}))}). Install a "
            'build for yours, such as CMAKE_ARGS="-DGGML_CUDA=on" (or -DGGML_VULKAN=on, '
            "-DGGML_METAL=on) pip install --force-reinstall --no-cache-dir --no-binary "
            "llama-cpp-python llama-cpp-python==0.3.36, or a ready-made wheel that the "
            "llama-cpp-python documentation names; or choose --device cpu."
        )


def _files(
    specs: Sequence[SourceSpec],
    options: LoadOptions,
    forks: int,
    is_cancelled: IsCancelled,
    opened: ExitStack,
) -> list[Path]:
    """A file with the header of each source; it may be deleted when ``opened`` is left."""
    paths = [_file_with_header(spec, opened, offline=options.offline) for spec in specs]
    foreign = [
        path
        for spec, path in zip(specs, paths, strict=True)
        if not spec.file.startswith(BUILTIN_PREFIX)
    ]
    counts = forks, options.n_conversations
    unknown = [path for path in foreign if not RememberedModel(path, *counts).is_known]
    try_headers(unknown, is_cancelled)
    return paths


def _sizes(
    specs: Sequence[SourceSpec],
    paths: Sequence[Path],
    forks: int,
    opened: ExitStack,
    n_conversations: int,
) -> list[ModelSizes]:
    """What each source needs; its layouts are available until ``opened`` is left."""
    models = []
    for spec, path in zip(specs, paths, strict=True):
        model = RememberedModel(path, forks, n_conversations)
        opened.callback(model.close)
        models.append(model.sizes(spec.name))
    return models


def _fewer_conversations(
    sizes: Callable[[int], list[ModelSizes]], n_asked: int, wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    """Half as many conversations, or half of those and so on, if that would fit."""
    n_fewer = n_asked // 2
    while n_fewer:
        if best_plan(sizes(n_fewer), wishes, room).fits:
            text = f"{n_fewer} answers at once instead of {n_asked} (--parallel {n_fewer})"
            yield Advice("conversations", text)
            return
        n_fewer //= 2


def n_forks(n_sources: int) -> int:
    """Candidates that a source scores at once: those of the other sources and the fused answer."""
    return n_sources + 1


def _file_with_header(spec: SourceSpec, opened: ExitStack, *, offline: bool) -> Path:
    """The model's file, or one with only its header, deleted when ``opened`` is left."""
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
    """Write the headers of a model's files into ``folder``; returns the path of the first file.

    ``parts`` are the name of each file, its size in bytes, and a function that reads it. Raises
    BrokenModelError, and what reading raises.
    """
    paths = []
    for name, n_bytes, read in parts:
        path = folder / PurePosixPath(name).name
        fetched = _FilePrefix(name, read)
        parse_header(fetched.read, n_bytes, name)
        with path.open("wb") as file:
            file.write(fetched.data)
            file.truncate(n_bytes)
        paths.append(path)
    return paths[0]


class _FilePrefix:
    """The first bytes of a file, as many as were needed so far."""

    def __init__(self, name: str, read: ReadRemote) -> None:
        self._name, self._read = name, read
        self.data = bytearray()

    def read(self, start: int, n_bytes: int) -> bytes:
        """``n_bytes`` from ``start`` on; blocks are fetched one after the other."""
        while len(self.data) < start + n_bytes:
            if start + n_bytes > _MAX_HEADER_BYTES:
                raise BrokenModelError(f"{self._name}: its header is implausibly large.")
            block = self._read(len(self.data), _BLOCK_BYTES)
            if not block:
                break
            self.data += block
        return bytes(self.data[start : start + n_bytes])
