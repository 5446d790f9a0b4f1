"""The facts about this machine that the checks examine, most from the operating system."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from cf_local import hub
from cf_local.doctor.probe import Native, probe
from cf_local.errors import CfLocalError
from cf_local.hub import HubSettings
from cf_local.planning.memory import Memory, main_memory
from cf_local.registry import registry as config

Vendor = Literal["nvidia", "amd", "intel", "apple"]
_PCI_VENDORS: dict[str, Vendor] = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_DISPLAY_CLASS = "0x03"  # of PCI devices
_WINDOWS_FEATURES = {"avx": 39, "avx2": 40, "avx512f": 41}  # PF_* of winnt.h
PACKAGES = ("cf-local", "llama-cpp-python", "numpy", "huggingface-hub")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, by some evidence of it; ``cuda`` is the version that its driver supports."""

    vendor: Vendor
    evidence: str
    cuda: str | None = None


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """The cache's folder: bytes free, why it is not writable (or None), symbolic links or not."""

    path: Path
    n_free: int
    error: str | None
    has_links: bool


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor; ``features`` have Linux's names, None if unknown.

    ``quota`` is the limit of a container in cores, None if there is no limit.
    """

    name: str
    features: frozenset[str] | None
    n_physical: int | None
    n_logical: int
    n_usable: int
    quota: float | None


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration files in use, and what is wrong with them.

    ``missing`` has the sources of the default fusion whose files do not exist, each with whether
    it can be downloaded.
    """

    files: tuple[str, ...]
    user_file: str
    error: str | None
    missing: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts. ``pinned`` is the version of llama-cpp-python that cf-local needs."""

    versions: Mapping[str, str | None]
    pinned: str
    python: str
    system: str
    architecture: str
    processor: Processor
    memory: Memory
    gpus: tuple[Gpu, ...]
    native: Native
    cache: CacheFolder
    hub: HubSettings
    configuration: Configuration


def collect() -> Facts:
    """Collect all facts. Nothing is sent, and no file stays."""
    n_physical, n_logical, n_usable = core_counts()
    around = hub.settings()
    return Facts(
        versions={name: _version(name) for name in PACKAGES},
        pinned=_pinned(),
        python=platform.python_version(),
        system=platform.system(),
        architecture=platform.machine(),
        processor=Processor(
            processor_name(),
            processor_features(),
            n_physical,
            n_logical,
            n_usable,
            processor_quota(),
        ),
        memory=main_memory(),
        gpus=gpus(),
        native=probe(),
        cache=check_folder(around.cache_folder),
        hub=around,
        configuration=_configuration(),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _pinned() -> str:
    """The version of llama-cpp-python that the installed cf-local requires."""
    try:
        wanted = metadata.requires("cf-local") or []
    except metadata.PackageNotFoundError:
        wanted = []
    matches = (re.match(r"llama[-_]cpp[-_]python\s*==\s*([\w.]+)", line) for line in wanted)
    return next((match[1] for match in matches if match), "0.3.36")


def _configuration() -> Configuration:
    own = str(config.user_file())
    try:
        registry = config.load_registry()
        missing: dict[str, bool] = {}
        for name in registry.fusion().sources:
            spec = registry.source(name)
            path = spec.local_path
            if spec.repo is not None:
                path = hub.cached(spec.repo, spec.file, spec.revision, spec.quant)
            if path is None or not path.is_file():
                missing[name] = spec.repo is not None
    except CfLocalError as error:
        return Configuration((), own, str(error), {})
    return Configuration(registry.files, own, None, missing)


def processor_features() -> frozenset[str] | None:
    """The instruction sets of this processor in Linux's names; None if unknown."""
    if sys.platform == "win32":
        import ctypes

        ask = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return frozenset(name for name, code in _WINDOWS_FEATURES.items() if ask(code))
    if sys.platform == "darwin":
        names = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
        words = (_output("sysctl", "-n", *names) or "").lower().split()
        renamed = {"avx1.0": "avx", "sse3": "pni"}
        return frozenset(renamed.get(word, word) for word in words) or None
    return _features_in(_text(Path("/proc/cpuinfo")) or "")


def _features_in(cpuinfo: str) -> frozenset[str] | None:
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return frozenset(match[1].split()) if match else None


def processor_name() -> str:
    """The processor's own name."""
    match = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")) or "", re.MULTILINE)
    if match:
        return match[1].strip()
    if sys.platform == "darwin":
        return (_output("sysctl", "-n", "machdep.cpu.brand_string") or "unknown").strip()
    return platform.processor() or platform.machine() or "unknown"


def core_counts() -> tuple[int | None, int, int]:
    """Numbers of physical cores, logical cores, and logical cores that this process may use."""
    import psutil

    logical = psutil.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else logical
    return psutil.cpu_count(logical=False), logical, usable


def processor_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The limit of a container in cores, None if there is no limit (cgroup v2, v1)."""
    words = (_text(root / "cpu.max") or "").split()
    if not words:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = [(_text(root / "cpu" / name) or "").strip() for name in names]
    try:
        quota, period = map(float, words)
    except ValueError:  # "max", or nothing
        return None
    return quota / period if quota > 0 and period > 0 else None


def gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine, one per vendor, with or without a driver."""
    found: dict[str, Gpu] = {}
    for gpu in (*_nvidia(), *_apple(), *_on_pci(Path("/sys/bus/pci/devices"))):
        found.setdefault(gpu.vendor, gpu)
    return tuple(found.values())


def _nvidia() -> Iterator[Gpu]:
    if (report := _output("nvidia-smi")) is not None:
        match = re.search(r"CUDA Version:\s*([\d.]+)", report)
        yield Gpu("nvidia", "nvidia-smi", match[1] if match else None)
    elif Path("/proc/driver/nvidia/version").exists():
        yield Gpu("nvidia", "/proc/driver/nvidia")


def _apple() -> Iterator[Gpu]:
    if (platform.system(), platform.machine()) == ("Darwin", "arm64"):
        yield Gpu("apple", "Apple silicon")


def _on_pci(devices: Path) -> Iterator[Gpu]:
    for device in sorted(devices.glob("*")):
        kind = (_text(device / "class") or "").strip()
        vendor = _PCI_VENDORS.get((_text(device / "vendor") or "").strip())
        if vendor and kind.startswith(_DISPLAY_CLASS):
            yield Gpu(vendor, f"PCI device {device.name}")


def check_folder(path: Path) -> CacheFolder:
    """Write a file and a link into ``path``, or its nearest existing parent, and delete both."""
    # Path.exists() raises where a folder on the way cannot be entered.
    parents = (path, *path.parents)
    there = next(each for each in parents if os.path.exists(each) or each == each.parent)  # noqa: PTH110
    n_free = shutil.disk_usage(there).free
    if not there.is_dir():
        return CacheFolder(path, n_free, f"{there} is not a folder", False)
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".cf-local-doctor-") as name:
            inside = Path(name)
            (inside / "file").write_bytes(b"x" * 4096)  # fails on a full disk
            return CacheFolder(path, n_free, None, _can_link(inside))
    except OSError as error:
        return CacheFolder(path, n_free, error.strerror or str(error), False)


def _can_link(inside: Path) -> bool:
    try:
        (inside / "link").symlink_to(inside / "file")
    except (OSError, NotImplementedError):
        return False
    return True


def _output(*command: str) -> str | None:
    """The output of a program; None if it does not exist or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
