"""Devices with their memory, and how much main memory this process may still take.

Available, not free: pages of the file cache count as available, since the system drops them on
demand.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RPC_VARIABLE = "CF_LOCAL_RPC"
"""Names the servers of llama.cpp's RPC backend: HOST:PORT, several with commas between them."""

DeviceKind = Literal["cpu", "gpu", "igpu", "accelerator"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of main memory: in all, and available now."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model can be placed; an "igpu" computes in main memory.

    ``name`` is llama.cpp's, such as "CUDA0"; ``backend`` is what drives it, such as "CUDA".
    """

    name: str
    description: str
    kind: DeviceKind
    backend: str
    total_bytes: int
    available_bytes: int

    @property
    def is_gpu(self) -> bool:
        """Whether layers of a model can be placed there."""
        return self.kind in ("gpu", "igpu")

    @property
    def shares_main_memory(self) -> bool:
        """Whether what it holds is in main memory (integrated GPUs, Apple's)."""
        return self.kind == "igpu" or self.backend in ("MTL", "Metal")


def bytes_of(text: str) -> int | None:
    """The bytes that a text stands for: 4GB and 4G are 4,000,000,000, 4GiB is 4,294,967,296.

    None if it is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].upper()])


def main_memory() -> Memory:
    """What this process can have, also where a container or ``ulimit -v`` allows less."""
    import psutil  # here: `import cf_local.llama` must stay fast, and few users need this

    machine = psutil.virtual_memory()
    limits = [*_container_limits(_OWN_CGROUPS, _CGROUPS), *_process_limits()]
    return Memory(
        min([machine.total, *(limit.total_bytes for limit in limits)]),
        max(0, min([machine.available, *(limit.available_bytes for limit in limits)])),
    )


def own_bytes() -> int:
    """Bytes of main memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _process_limits() -> Iterator[Memory]:
    """The limit of this process's addresses (``ulimit -v``), if it has one."""
    import psutil

    if not hasattr(psutil, "RLIMIT_AS"):  # Linux and FreeBSD have it
        return
    process = psutil.Process()
    limit, _ = process.rlimit(psutil.RLIMIT_AS)
    if limit != psutil.RLIM_INFINITY:
        yield Memory(limit, max(0, limit - process.memory_info().vms))


def _container_limits(own: Path, mount: Path) -> Iterator[Memory]:
    """The limits of all control groups of this process (cgroup v2 or v1); none except on Linux.

    A parent's limit applies, too. Inside a container the path may be the host's, and only its
    end, or nothing, is mounted; then the mount itself is the group.
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
    """The limit of one control group; None if it has none or cannot be read."""
    try:
        limit = int((group / limit_name).read_text())
        used = int((group / usage_name).read_text())
        rows = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        statistics = {name: int(value) for name, value in rows}
    except (OSError, ValueError):  # "max" is not a number: there is no limit
        return None
    total = {k.removeprefix("total_"): v for k, v in statistics.items() if k.startswith("total_")}
    of_files = statistics | total  # in v1 only these count the groups below, as the usage does
    cache = sum(of_files.get(name, 0) for name in ("active_file", "inactive_file"))
    return Memory(limit, max(0, limit - used + cache))


def megabytes(n_bytes: int) -> str:
    """A readable size in decimal MB or GB."""
    if n_bytes < 999_500_000:
        return f"{n_bytes / 1e6:.0f} MB"
    return f"{n_bytes / 1e9:.1f} GB"
