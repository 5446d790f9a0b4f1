"""Imports run one way, checked in the syntax tree; `import cf_local` loads nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cf_local"

# From low to high: a module imports its own layer and lower ones, never a higher one. A new module
# is put into the lowest layer that its imports allow. A folder counts as one module.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"_pyinstaller", "closing", "costs", "errors", "memory", "modelfile"}),
    frozenset({"structured"}),
    frozenset({"types"}),
    frozenset({"boundary", "decoding", "lookup", "repetition", "rerank", "source"})
    | {"planning", "thinking", "tokenization", "weighing"},
    frozenset({"advice", "contest", "crew", "seating", "speculation", "synchronizer", "worker"})
    | {"writer"},
    frozenset({"conversation", "stream", "writing"}),
    frozenset({"fusion"}),
    frozenset(
        {"bench", "builtin", "chats", "child", "config", "doctor", "evaluation", "fitting", "hub"}
    )
    | {"inspection", "kept", "layers", "llama", "loader", "measured", "modelname", "placement"}
    | {"hub", "remote_header", "removal", "tomlfile", "trace", "userfile"},
    frozenset({"__init__"}),
    frozenset({"server"}),
    frozenset({"__main__", "cli"}),
)

# Libraries that only these modules may import.
RESERVED: dict[str, frozenset[str]] = {
    "llama_cpp": frozenset({"llama"}),
    "huggingface_hub": frozenset({"hub"}),
    "lm_eval": frozenset({"evaluation"}),
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "prompt_toolkit": frozenset({"cli"}),
    "tomlkit": frozenset({"removal", "userfile"}),
    "PyInstaller": frozenset({"_pyinstaller"}),
    "sqlite3": frozenset({"chats"}),
    "starlette": frozenset({"server"}),
    "uvicorn": frozenset({"server"}),
}

# A public fake for tests: it may import what it likes below the CLI, nobody imports it.
FOR_TESTS_ONLY = "testing"


def modules(package: Path) -> Iterator[tuple[str, Path]]:
    """Each file with the module it counts as: its name, or that of the folder it lies in."""
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package).with_suffix("").parts[0], path


def imports(path: Path, package: Path) -> Iterator[str]:
    """Full names of all modules a file imports, also inside functions and for type checking."""
    inside = (package.name, *path.relative_to(package).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = inside[: len(inside) - node.level + 1] if node.level else ()
            base = ".".join((*start, *(node.module or "").split("."))).strip(".")
            # `from cf_local import rerank` imports a module, unless it is a name of __init__
            if base == package.name:
                yield from (f"{base}.{alias.name}" for alias in node.names)
            else:
                yield base


def target_module(name: str, package: Path) -> str | None:
    """The module of this package that an imported name counts as; None for a library."""
    first, _, rest = name.partition(".")
    if first != package.name:
        return None
    module = rest.partition(".")[0]
    exists = (package / f"{module}.py").exists() or (package / module / "").is_dir()
    return module if module and exists else "__init__"


def layer(module: str) -> int | None:
    return next((i for i, names in enumerate(LAYERS) if module in names), None)


def violations(package: Path) -> list[str]:
    found = []
    for module, path in modules(package):
        where = f"{package.name}/{path.relative_to(package).as_posix()}"
        if module != FOR_TESTS_ONLY and layer(module) is None:
            found.append(f"{where}: put {module!r} into LAYERS")
            continue
        for name in imports(path, package):
            found += [f"{where}: {problem}" for problem in problems(module, name, package)]
    return found


def problems(module: str, name: str, package: Path) -> Iterator[str]:
    target = target_module(name, package)
    library = name.partition(".")[0]
    if target is None:
        allowed = RESERVED.get(library)
        if allowed is not None and module not in allowed:
            yield f"only {', '.join(sorted(allowed))} may import {library}"
        return
    if target == module:
        return
    if target == FOR_TESTS_ONLY:
        yield f"only tests may import {target}"
        return
    own, other = layer(module), layer(target)
    highest = layer("cli") if module == FOR_TESTS_ONLY else own
    assert highest is not None
    is_entry = module == "__main__"  # `python -m cf_local` is the command
    if other is not None and (other > highest or (target == "cli" and not is_entry)):
        yield f"{module} may not import {target}, which stands above it"


def test_imports_run_one_way() -> None:
    assert violations(PACKAGE) == []


def test_only_the_adapter_imports_the_harness() -> None:
    naming = [p for _, p in modules(PACKAGE) if "lm_eval" in p.read_text(encoding="utf-8")]
    files = [p.name for p in naming if any("lm_eval" in i for i in imports(p, PACKAGE))]
    assert files == ["harness.py"]


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("fusion.py", "from cf_local.loader import load", "may not import loader"),
        ("fusion.py", "from cf_local import loader", "may not import loader"),
        ("fusion.py", "from .loader import load", "may not import loader"),
        ("fusion.py", "from . import loader", "may not import loader"),
        ("fusion.py", "import cf_local.loader", "may not import loader"),
        ("fusion.py", "def f():\n    import cf_local.loader", "may not import loader"),
        ("boundary.py", "from cf_local.fusion import Fusion", "may not import fusion"),
        ("boundary.py", "import cf_local", "may not import __init__"),
        ("boundary.py", "from cf_local import __version__", "may not import __init__"),
        ("loader.py", "from cf_local.cli.ask import ask", "may not import cli"),
        ("evaluation/tasks.py", "from ..cli import main", "may not import cli"),
        ("server/app.py", "from cf_local.cli import main", "may not import cli"),
        ("__main__.py", "import cf_local.testing", "only tests may import testing"),
        ("testing.py", "from cf_local.cli import main", "may not import cli"),
        ("fusion.py", "import llama_cpp", "only llama may import llama_cpp"),
        ("hub.py", "from llama_cpp.llama_chat_format import x", "only llama may import llama_cpp"),
        ("loader.py", "import huggingface_hub", "only hub may import huggingface_hub"),
        ("hub.py", "import rich.progress", "only cli may import rich"),
        ("bench.py", "from lm_eval.api.model import LM", "only evaluation may import lm_eval"),
        ("utils.py", "", "put 'utils' into LAYERS"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, file: str, source: str, problem: str) -> None:
    package = synthetic_package(tmp_path)
    path = package / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source, encoding="utf-8")
    found = violations(package)
    assert len(found) == 1
    assert found[0].startswith(f"cf_local/{file}: ")
    assert problem in found[0]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("fusion.py", "from cf_local import rerank\nfrom cf_local.types import Step"),
        (
            "rerank.py",
            "import numpy\nfrom cf_local.boundary import x\nfrom .errors import InputError",
        ),
        ("loader.py", "from . import boundary, hub\nfrom cf_local.llama import LlamaSource"),
        ("llama.py", "import llama_cpp.llama_cpp as lib"),
        ("cli/ask.py", "import click\nfrom cf_local import load\nfrom .main import main"),
        ("__init__.py", "def __getattr__(name):\n    from cf_local.loader import load"),
        ("testing.py", "from cf_local.fusion import Fusion"),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, file: str, source: str) -> None:
    package = synthetic_package(tmp_path)
    (package / file).write_text(source, encoding="utf-8")
    assert violations(package) == []


def synthetic_package(folder: Path) -> Path:
    package = folder / "cf_local"
    (package / "cli").mkdir(parents=True)
    for name in ("boundary", "errors", "fusion", "hub", "llama", "loader", "rerank"):
        (package / f"{name}.py").touch()
    for name in ("__init__", "testing", "types", "cli/__init__", "cli/main", "cli/ask"):
        (package / f"{name}.py").touch()
    return package


def test_import_loads_no_native_library() -> None:
    heavy = ("llama_cpp", "huggingface_hub", "numpy", "rich", "prompt_toolkit", "click", "psutil")
    heavy += ("lm_eval", "tomlkit", "starlette", "uvicorn")
    code = f"import sys, cf_local; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
