"""How the llama.cpp at hand was compiled, in its own words."""

from cf_local.llama.library import lib


def system_info() -> str:
    """The backends and the processor features that were compiled in, on one line."""
    lib.llama_backend_init()
    return str(lib.llama_print_system_info().decode("utf-8", errors="replace").strip(" |"))


def library_version() -> str:
    """The version of libllama."""
    version = getattr(lib, "llama_version", None)
    return "unknown" if version is None else str(version().decode("utf-8", errors="replace"))
