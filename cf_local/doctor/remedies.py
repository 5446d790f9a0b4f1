"""The commands that mend what was found: mostly, how to install llama-cpp-python in another way."""

WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"
"""Where the project of llama-cpp-python publishes wheels that need no compiler."""
_CUDA_WHEELS = ("11.8", "12.1", "12.2", "12.3", "12.4", "12.5", "13.0", "13.2")
_PYTHONS_OF_WHEELS = ("3.10", "3.11", "3.12")


def install(version: str) -> str:
    """Put the version that cf-local wants in place."""
    return f"pip install --force-reinstall --no-cache-dir llama-cpp-python=={version}"


def compile_with(option: str, version: str, system: str) -> str:
    """Compile it with an option of CMake; takes minutes and needs a C/C++ compiler."""
    command = f"{install(version)} --no-binary llama-cpp-python"
    if system == "Windows":
        return f'$env:CMAKE_ARGS = "{option}"; {command}'
    return f'CMAKE_ARGS="{option}" {command}'


def compile_without_amx(version: str) -> str:
    """Compile it for this processor, but without the instructions that GCC 12 gets wrong."""
    flags = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    command = f"{install(version)} --no-binary llama-cpp-python"
    return f'CFLAGS="{flags}" CXXFLAGS="{flags}" {command}'


def wheel(kind: str, version: str) -> str:
    """Install a wheel of the project, such as "cpu", "cu124" or "metal"."""
    return f"{install(version)} --extra-index-url {WHEELS}/{kind}"


def cuda(version: str, system: str, supported: str | None, python: str) -> tuple[str, ...]:
    """Both ways to CUDA: the newest wheel that the driver supports, and compiling."""
    ways = [compile_with("-DGGML_CUDA=on", version, system)]
    kind = cuda_wheel(supported)
    if kind and python.rpartition(".")[0] in _PYTHONS_OF_WHEELS:
        ways.insert(0, f"{wheel(kind, version)}   (where there is a wheel of this version)")
    return tuple(ways)


def cuda_wheel(supported: str | None) -> str | None:
    """The wheels for the newest CUDA that a driver supports ("12.4" -> "cu124")."""
    if supported is None:
        return "cu124"
    limit = _number(supported)
    fitting = [each for each in _CUDA_WHEELS if _number(each) <= limit]
    return f"cu{fitting[-1].replace('.', '')}" if fitting else None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
