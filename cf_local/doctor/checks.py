"""What the facts mean: each check examines one thing, reports on it, and says how to fix it.

A problem keeps cf-local from working, or from working as fast as this machine allows; a note is
worth knowing. Only problems make the command fail.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from cf_local.doctor.facts import Facts, Gpu, Vendor

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check; any one of the ``remedies`` (commands or steps) fixes it."""

    level: Level
    topic: str
    text: str
    remedies: tuple[str, ...] = ()


Check = Callable[[Facts], Iterator[Finding]]

WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"
"""Where the llama-cpp-python project publishes wheels, which need no compiler."""
_CUDA_WHEELS = ("11.8", "12.1", "12.2", "12.3", "12.4", "12.5", "13.0", "13.2")
_PCS = frozenset({("Linux", "x86_64"), ("Windows", "AMD64")})
# Kinds of wheels and the systems that they are built for, by the workflows in the source archive
# of llama-cpp-python 0.3.36. A wheel fits every Python (its tag is py3-none).
_WHEELS = {
    "cpu": _PCS | {("Linux", "aarch64"), ("Linux", "riscv64"), ("Darwin", "arm64")},
    "metal": frozenset({("Darwin", "arm64")}),
    "vulkan": _PCS,
    "rocm72": frozenset({("Linux", "x86_64")}),
    "hip-radeon": frozenset({("Windows", "AMD64")}),
    **{f"cu{version.replace('.', '')}": _PCS for version in _CUDA_WHEELS},
    **dict.fromkeys(("cu121", "cu122", "cu123"), frozenset({("Linux", "x86_64")})),
}
_LITTLE_MEMORY = 1_500_000_000
_FULL_DISK, _LITTLE_DISK = 1_000_000_000, 10_000_000_000
# llama.cpp's name of a feature, and Linux's. Without those in _NEEDED, it is slow.
_AMX = "AMX_INT8"
_NEEDED = {
    "AVX": "avx",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "DOTPROD": "asimddp",
}
_OTHERS = {
    "SSE3": "pni",
    "SSSE3": "ssse3",
    "BMI2": "bmi2",
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512_vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    _AMX: "amx_int8",
    "NEON": "asimd",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
}
_ALIASES = {"avx512_vbmi": "avx512vbmi"}
_X86 = ("x86_64", "amd64", "i386", "i686")
_BACKENDS: dict[Vendor, tuple[str, ...]] = {
    "nvidia": ("CUDA", "Vulkan"),
    "amd": ("ROCm", "HIP", "Vulkan"),
    "intel": ("SYCL", "Vulkan"),
    "apple": ("MTL", "Metal"),
}
_NO_GPU = ("CPU", "BLAS", "RPC")


def examine(facts: Facts) -> list[Finding]:
    """The findings of all checks, in their order."""
    return [finding for check in CHECKS for finding in check(facts)]


def compiled_features(system_info: str) -> frozenset[str]:
    """The processor features in llama.cpp's description of itself."""
    _, _, features = system_info.rpartition("CPU :")
    pairs = (part.partition("=") for part in features.split("|"))
    return frozenset(name.strip() for name, _, value in pairs if value.strip() == "1")


def check_library(facts: Facts) -> Iterator[Finding]:
    """Whether llama-cpp-python is installed in the right version, and loads."""
    found, pinned = facts.versions.get("llama-cpp-python"), facts.pinned
    native = facts.native
    if found is None:
        text = "llama-cpp-python is not installed"
        yield Finding("problem", "llama.cpp", text, (install(pinned),))
    elif native.system_info is None:
        text = f"llama-cpp-python {found} cannot be used: {native.error}"
        ways = (
            compile_with("-DGGML_NATIVE=on", pinned, facts.system),
            *wheels("cpu", facts),
        )
        yield Finding("problem", "llama.cpp", text, ways)
    elif found != pinned:
        text = f"llama-cpp-python is {found}; this cf-local needs {pinned}"
        yield Finding("problem", "llama.cpp", text, (install(pinned),))
    else:
        yield Finding("ok", "llama.cpp", f"llama-cpp-python {found} loads")


def check_processor(facts: Facts) -> Iterator[Finding]:
    """Whether llama.cpp was compiled for this processor."""
    has, info = facts.processor.features, facts.native.system_info
    if has is None or info is None:
        return
    compiled = compiled_features(info)
    known = _NEEDED | _OTHERS
    can = {name for name, flag in known.items() if {flag, _ALIASES.get(flag, flag)} & has}
    native = (compile_with("-DGGML_NATIVE=on", facts.pinned, facts.system),)
    fatal = sorted((compiled & known.keys()) - can)
    unused = can - compiled
    if fatal:
        text = f"llama.cpp was compiled for {', '.join(fatal)}, which this processor does not have"
        yield Finding("problem", "processor", f"{text}: it may crash", native)
    elif missing := [name for name in _NEEDED if name in unused]:
        text = f"this processor has {', '.join(missing)}, but llama.cpp was compiled without"
        yield Finding("problem", "processor", f"{text}: answers take several times as long", native)
    else:
        yield Finding("ok", "processor", "llama.cpp was compiled for this processor")
        if others := sorted(name for name in _OTHERS if name in unused and name != _AMX):
            text = f"compiled without {', '.join(others)}, which this processor has"
            yield Finding("note", "processor", text, native)
    if facts.architecture.lower() in _X86 and "avx2" not in has:
        text = (
            "this processor has no AVX2: answers are slow, and published wheels may crash; "
            "llama-cpp-python must be compiled here"
        )
        yield Finding("note", "processor", text, native)


def check_cores(facts: Facts) -> Iterator[Finding]:
    """Whether this process may use all cores."""
    cores = facts.processor
    allowed = min(cores.n_usable, cores.quota or cores.n_usable)
    if allowed < cores.n_logical:
        text = f"only {allowed:g} of {cores.n_logical} cores may be used here"
        way = f"use as many threads: --threads {max(1, int(allowed))}"
        yield Finding("note", "cores", text, (way,))
    else:
        yield Finding("ok", "cores", f"all {cores.n_logical} cores may be used")


def check_memory(facts: Facts) -> Iterator[Finding]:
    """Whether there is enough memory for more than the built-in models."""
    available, total = facts.memory.available_bytes, facts.memory.total_bytes
    text = f"{_gigabytes(available)} of {_gigabytes(total)} available"
    if available < _LITTLE_MEMORY:
        ways = (
            "close other programs, or raise the limit of the container",
            "use smaller models and less context: --context 1024",
        )
        yield Finding("problem", "memory", f"{text}: too little for three models of 1B", ways)
    else:
        yield Finding("ok", "memory", text)


def check_gpus(facts: Facts) -> Iterator[Finding]:
    """Whether llama.cpp can use the GPUs of this machine."""
    if facts.native.system_info is None:
        return
    compiled = [name for name in facts.native.backends if name not in _NO_GPU]
    seen = [device for device in facts.native.devices if device[2] in ("gpu", "igpu")]
    for gpu in facts.gpus:
        fitting = [name for name in _BACKENDS[gpu.vendor] if name in compiled]
        if not fitting:
            yield _without_backend(gpu, facts)
    if compiled and not seen:
        text = f"llama.cpp has {', '.join(compiled)}, but sees no GPU"
        ways = (
            "install the driver of the GPU; in a container pass the GPU in (docker: --gpus all)",
        )
        yield Finding("problem" if facts.gpus else "note", "GPU", text, ways)
    elif seen:
        names = ", ".join(f"{name} ({description})" for name, description, *_ in seen)
        yield Finding("ok", "GPU", f"llama.cpp sees {names}")
    elif not facts.gpus:
        yield Finding("ok", "GPU", "none found; models run on the processor")


def _without_backend(gpu: Gpu, facts: Facts) -> Finding:
    """A GPU that this build cannot use; one of a vendor of mostly small GPUs is only a note."""
    text = f"there is a GPU ({gpu.vendor}, found by {gpu.evidence}), but llama.cpp cannot use it"
    pinned, system = facts.pinned, facts.system
    vulkan = (
        compile_with("-DGGML_VULKAN=on", pinned, system),
        *wheels("vulkan", facts),
    )
    if gpu.vendor == "nvidia":
        return Finding("problem", "GPU", text, cuda(gpu.cuda, facts))
    if gpu.vendor == "apple":
        metal = compile_with("-DGGML_METAL=on", pinned, system)
        return Finding("problem", "GPU", text, (metal, *wheels("metal", facts)))
    if gpu.vendor == "amd":
        hip = compile_with("-DGGML_HIP=on", pinned, system)
        own = (*wheels("rocm72", facts), *wheels("hip-radeon", facts))
        return Finding("note", "GPU", text, (*vulkan, hip, *own))
    return Finding("note", "GPU", text, vulkan)


def check_cache(facts: Facts) -> Iterator[Finding]:
    """Whether downloads can be saved."""
    cache = facts.cache
    elsewhere = "set HF_HOME to a folder on another disk"
    free = f"{_gigabytes(cache.n_free)} free"
    if cache.n_free < _FULL_DISK:
        ways = ("delete models that are no longer used: cf-local rm", elsewhere)
        yield Finding("problem", "cache", f"the disk of {cache.path} is full: {free}", ways)
    if cache.error is not None:
        text = f"nothing can be written to {cache.path}: {cache.error}"
        own = f"make it yours: chown -R $USER {cache.path}"
        windows = facts.system == "Windows"
        yield Finding("problem", "cache", text, (elsewhere,) if windows else (own, elsewhere))
        return
    if cache.n_free < _FULL_DISK:
        return
    if cache.n_free < _LITTLE_DISK:
        text = f"{free} in {cache.path}; the curated sets need 3 to 14 GB"
        yield Finding("note", "cache", text, (elsewhere,))
    else:
        yield Finding("ok", "cache", f"{free} in {cache.path}")
    if not cache.has_links:
        text = f"{cache.path} does not support symbolic links: models may be stored more than once"
        way = "on Windows turn on Developer Mode, or run once as administrator"
        yield Finding("note", "cache", text, (way,) if facts.system == "Windows" else (elsewhere,))


def check_hub(facts: Facts) -> Iterator[Finding]:
    """Whether and how models can be downloaded."""
    token = "a token" if facts.hub.has_token else "no token"
    if facts.hub.token_problem is not None:
        yield Finding("problem", "hub", facts.hub.token_problem.rstrip("."), ("hf auth login",))
        return
    if facts.hub.is_offline:
        text = "HF_HUB_OFFLINE is set: nothing is downloaded"
        yield Finding("note", "hub", text, ("unset HF_HUB_OFFLINE",))
    else:
        yield Finding(
            "ok", "hub", f"{facts.hub.endpoint}, with {token} (only some models need one)"
        )


def check_configuration(facts: Facts) -> Iterator[Finding]:
    """Whether models.toml can be read, and the models of the default fusion exist."""
    found = facts.configuration
    if found.error is not None:
        yield Finding(
            "problem", "models.toml", found.error, ("fix it, then: cf-local config check",)
        )
        return
    yield Finding("ok", "models.toml", f"read from {', '.join(found.files)}")
    for name, is_remote in found.missing.items():
        if is_remote:
            text = f"source {name} of the default fusion is not on this machine yet"
            yield Finding("note", "models", text, (f"cf-local pull {name}",))
        else:
            text = f"the file of source {name} of the default fusion does not exist"
            yield Finding("problem", "models", text, (f"cf-local show {name}",))


def check_answer(facts: Facts) -> Iterator[Finding]:
    """Whether the built-in models load and answer."""
    native = facts.native
    if native.system_info is None:
        return  # already reported
    if native.answer is None and _AMX in compiled_features(native.system_info):
        text = (
            f"llama.cpp was compiled with {_AMX} and does not answer: {native.error}. "
            "Compiled by GCC before 13, it crashes"
        )
        way = compile_without_amx(facts.pinned)
        yield Finding("problem", "answer", text, (way,))
        return
    if native.answer is None:
        text = f"the built-in models do not answer: {native.error}"
    elif not native.is_right:
        text = f"the built-in models answer {native.answer!r}, which is wrong"
    else:
        text = f"the built-in models load and answer correctly, in {native.seconds:.1f} s"
        yield Finding("ok", "answer", text)
        return
    ways = (
        "install cf-local again: pip install --force-reinstall --no-deps cf-local",
        compile_with("-DGGML_NATIVE=on", facts.pinned, facts.system),
    )
    yield Finding("problem", "answer", text, ways)


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"


def install(version: str) -> str:
    """Reinstall llama-cpp-python in the version that cf-local needs."""
    return f"pip install --force-reinstall --no-cache-dir llama-cpp-python=={version}"


def compile_with(option: str, version: str, system: str) -> str:
    """Compile it with a CMake option; takes minutes and needs a C/C++ compiler."""
    command = f"{install(version)} --no-binary llama-cpp-python"
    if system == "Windows":
        return f'$env:CMAKE_ARGS = "{option}"; {command}'
    return f'CMAKE_ARGS="{option}" {command}'


def compile_without_amx(version: str) -> str:
    """Compile it for this processor, without the instructions that GCC 12 miscompiles."""
    flags = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    command = f"{install(version)} --no-binary llama-cpp-python"
    return f'CFLAGS="{flags}" CXXFLAGS="{flags}" {command}'


def wheels(kind: str, facts: Facts) -> tuple[str, ...]:
    """Install a prebuilt wheel, "cpu", "cu124" or "metal"; empty where none is built for this."""
    if (facts.system, facts.architecture) not in _WHEELS[kind]:
        return ()
    return (f"{install(facts.pinned)} --extra-index-url {WHEELS}/{kind}",)


def cuda(supported: str | None, facts: Facts) -> tuple[str, ...]:
    """The ways to CUDA: the newest wheel that the driver supports, if any, and compiling.

    ``supported`` is the newest CUDA that the driver knows, None if that is unknown.
    """
    limit = _number(supported or "12.4")
    kinds = [f"cu{each.replace('.', '')}" for each in _CUDA_WHEELS if _number(each) <= limit]
    fitting = [command for kind in kinds for command in wheels(kind, facts)]
    return (*fitting[-1:], compile_with("-DGGML_CUDA=on", facts.pinned, facts.system))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


CHECKS: tuple[Check, ...] = (
    check_library,
    check_processor,
    check_cores,
    check_memory,
    check_gpus,
    check_cache,
    check_hub,
    check_configuration,
    check_answer,
)
