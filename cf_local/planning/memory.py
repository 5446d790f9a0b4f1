"""Devices with their memory, and how much of the main one this process may still take.

Available, not free: pages of the file cache count as available, since they are given up on demand.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DeviceKind = Literal["cpu", "gpu", "igpu", "accelerator"]

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of main memory: all, and what can be had now."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model can be put; an "igpu" computes in the main memory.

    ``name`` is llama.cpp's, such as "CUDA0", ``backend`` what drives it, such as "CUDA".
    """

    name: str
    description: str
    kind: DeviceKind
    backend: str
    total_bytes: int
    available_bytes: int

    @property
    def is_gpu(self) -> bool:
        """Whether layers of a model can be put there."""
        return self.kind in ("gpu", "igpu")

    @property
    def shares_main_memory(self) -> bool:
        """Whether what it holds is taken from the main memory (integrated GPUs, Apple's)."""
        return self.kind == "igpu" or self.backend in ("MTL", "Metal")


def main_memory() -> Memory:
    """What this process can have, also where a container may have less than the machine."""
    import psutil  # here: `import cf_local.llama` is to stay quick, and most users of it do not ask

    machine = psutil.virtual_memory()
    limits = list(_container_limits(_OWN_CGROUPS, _CGROUPS))
    return Memory(
        min([machine.total, *(limit.total_bytes for limit in limits)]),
        max(0, min([machine.available, *(limit.available_bytes for limit in limits)])),
    )


def own_bytes() -> int:
    """Main memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _container_limits(own: Path, mount: Path) -> Iterator[Memory]:
    """The limits of all control groups this process is in (cgroup v2, or v1); none elsewhere.

    A limit of a parent holds, too. Inside a container the path may be that of the host, of which
    only the end, or nothing, is mounted: the mount itself is the group then.
    """
    if not own.exists():  # not Linux
        return
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots = [mount, mount / "unified"]
            names = ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            roots = [mount / "memory"]
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        for root in roots:
            group = root / path.lstrip("/")
            inside = [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
            yield from (found for folder in inside if (found := _limit(folder, *names)))


def _limit(group: Path, limit_name: str, usage_name: str) -> Memory | None:
    """The limit of one control group; None when it has none or cannot be read."""
    try:
        limit = int((group / limit_name).read_text())
        used = int((group / usage_name).read_text())
        rows = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        statistics = {name: int(value) for name, value in rows}
    except (OSError, ValueError):  # "max" is no number: there is no limit
        return None
    total = {k.removeprefix("total_"): v for k, v in statistics.items() if k.startswith("total_")}
    of_files = statistics | total  # in v1 only these count the groups below, as the usage does
    cache = sum(of_files.get(name, 0) for name in ("active_file", "inactive_file"))
    return Memory(limit, max(0, limit - used + cache))
