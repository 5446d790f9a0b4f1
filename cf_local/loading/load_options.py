"""What the user asks of a load, and what follows from it for one source."""

from dataclasses import dataclass, replace

from cf_local.llama.threads import n_usable_cores
from cf_local.planning.plan import DEFAULT_CONTEXT, MIN_CONTEXT, Wish
from cf_local.registry.registry import SourceSpec
from cf_local.types import DeviceChoice, KvType


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load. Each value overrides models.toml; None leaves it to that, then to the plan.

    ``fit`` plans an arrangement that fits into memory (see docs/memory.md) and uses at most
    ``memory_bytes`` of main memory. Without it, everything is loaded as asked. ``overlap`` lets
    sources work at the same time; None lets a measurement decide. ``n_threads`` None uses all cores
    that other processes leave free. ``n_conversations`` is how many conversations take turns
    without losing their caches; each needs a cache of its own in memory. ``ray`` is the address of
    a Ray cluster that takes all sources; without it, those that models.toml puts there go to the
    cluster that this machine is part of.
    """

    n_ctx: int | None = None
    n_threads: int | None = None
    overlap: bool | None = None
    n_gpu_layers: int | None = None
    offline: bool = False
    device: DeviceChoice | None = None
    kv_type: KvType | None = None
    memory_bytes: int | None = None
    fit: bool = True
    n_conversations: int = 1
    ray: str | None = None

    def is_on_ray(self, spec: SourceSpec) -> bool:
        """Whether a source is loaded on a node of a cluster."""
        return spec.is_on_ray if self.ray is None else spec.where != "here"

    def within(self, n_cores: int) -> "LoadOptions":
        """The same for a process that may use ``n_cores`` of the machine it is on."""
        if self.n_threads is not None or n_cores >= n_usable_cores():
            return self
        return replace(self, n_threads=n_cores)

    def n_threads_of(self, spec: SourceSpec) -> int | None:
        """The number of threads that the user or models.toml sets, None if neither does."""
        return self.n_threads or spec.threads

    def wish_of(self, spec: SourceSpec) -> Wish:
        """What these options ask for a source, else what its spec does."""
        n_ctx = self.n_ctx or spec.context or DEFAULT_CONTEXT
        kv_type = self.kv_type or spec.kv_type
        device = self.device or spec.device or "auto"
        n_gpu_layers = spec.gpu_layers if self.n_gpu_layers is None else self.n_gpu_layers
        if n_gpu_layers is None and device == "gpu":
            n_gpu_layers = -1
        return Wish(
            n_ctx=n_ctx,
            n_ctx_min=n_ctx if self.n_ctx else min(n_ctx, MIN_CONTEXT),
            kv_types=(kv_type,) if kv_type else ("f16", "q8_0"),
            device=device,
            n_gpu_layers=0 if device == "cpu" else n_gpu_layers,
            n_threads=self.n_threads_of(spec),
        )
