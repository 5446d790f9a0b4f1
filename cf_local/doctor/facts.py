"""All that the checks look at, found on this machine."""

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from cf_local import hub
from cf_local.doctor import machine
from cf_local.doctor.machine import Folder, Gpu
from cf_local.doctor.probe import Native, probe
from cf_local.errors import CfLocalError
from cf_local.hub import Surroundings
from cf_local.planning.memory import Memory, main_memory
from cf_local.registry import registry as config

PACKAGES = ("cf-local", "llama-cpp-python", "numpy", "huggingface-hub")


@dataclass(frozen=True, slots=True)
class Processor:
    """``features`` are in Linux's names, None if unknown; ``quota`` is cores' worth of time."""

    name: str
    features: frozenset[str] | None
    n_physical: int | None
    n_logical: int
    n_usable: int
    quota: float | None


@dataclass(frozen=True, slots=True)
class Configuration:
    """The files that are read, and what is wrong with them.

    ``missing`` are the sources of the default fusion whose files are not there, with whether they
    can be downloaded.
    """

    files: tuple[str, ...]
    user_file: str
    error: str | None
    missing: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is there. ``pinned`` is the version of llama-cpp-python that cf-local wants."""

    versions: Mapping[str, str | None]
    pinned: str
    python: str
    system: str
    architecture: str
    processor: Processor
    memory: Memory
    gpus: tuple[Gpu, ...]
    native: Native
    cache: Folder
    hub: Surroundings
    configuration: Configuration


def collect() -> Facts:
    """Look around on this machine; nothing is sent, and nothing is left behind."""
    n_physical, n_logical, n_usable = machine.core_counts()
    around = hub.surroundings()
    return Facts(
        versions={name: _version(name) for name in PACKAGES},
        pinned=_pinned(),
        python=platform.python_version(),
        system=platform.system(),
        architecture=platform.machine(),
        processor=Processor(
            machine.processor_name(),
            machine.processor_features(),
            n_physical,
            n_logical,
            n_usable,
            machine.processor_quota(),
        ),
        memory=main_memory(),
        gpus=machine.gpus(),
        native=probe(),
        cache=machine.folder(around.cache_folder),
        hub=around,
        configuration=_configuration(),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _pinned() -> str:
    """The version of llama-cpp-python that the installed cf-local asks for."""
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
