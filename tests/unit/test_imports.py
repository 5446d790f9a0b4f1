"""Imports run one way, checked in the syntax tree; `import cf_local` loads nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cf_local"

# From the ground up: a room imports its own floor's libraries and rooms on lower floors, never one
# beside or above it. A folder counts as one room.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"_pyinstaller", "builtin", "errors", "progress"}),
    frozenset({"files", "structured"}),
    frozenset({"types"}),
    frozenset({"settings"}),
    frozenset({"method", "planning"}),
    frozenset({"llama", "hub", "runtime"}),
    frozenset({"chats", "registry", "statecache", "trace"}),
    frozenset({"cluster"}),
    frozenset({"doctor", "loading"}),
    frozenset({"__init__", "evaluation"}),
    frozenset({"server"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)

# Libraries that only these modules may import.
RESERVED: dict[str, frozenset[str]] = {
    "llama_cpp": frozenset({"llama"}),
    "huggingface_hub": frozenset({"hub"}),
    "lm_eval": frozenset({"evaluation"}),
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "prompt_toolkit": frozenset({"cli"}),
    "tomlkit": frozenset({"registry", "cli"}),
    "PyInstaller": frozenset({"_pyinstaller"}),
    "sqlite3": frozenset({"chats"}),
    "fastapi": frozenset({"server"}),
    "prometheus_client": frozenset({"server"}),
    "ray": frozenset({"cluster", "server"}),
    "pydantic": frozenset({"server"}),
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
    is_beside = other == highest and module != FOR_TESTS_ONLY
    if other is not None and (other > highest or is_beside or (target == "cli" and not is_entry)):
        yield f"{module} may not import {target}, which is not on a lower floor"


def test_imports_run_one_way() -> None:
    assert violations(PACKAGE) == []


def test_only_the_adapter_imports_the_harness() -> None:
    naming = [p for _, p in modules(PACKAGE) if "lm_eval" in p.read_text(encoding="utf-8")]
    files = [p.name for p in naming if any("lm_eval" in i for i in imports(p, PACKAGE))]
    assert files == ["harness.py"]


def test_one_module_loads_the_native_library() -> None:
    """Settings for its threads must be in place before it is loaded, whoever comes first."""
    files = [p for _, p in modules(PACKAGE) if any("llama_cpp" in i for i in imports(p, PACKAGE))]
    assert [path.name for path in files if path.name != "hook-llama_cpp.py"] == ["library.py"]


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions and for type checking count, too."""
    names = {
        ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p
        for _, p in modules(PACKAGE)
    }
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {name: imported_modules(path, names) - {name} for name, path in names.items()}
    assert cycles(graph) == []


def imported_modules(path: Path, names: dict[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            both = {(f"{node.module}.{alias.name}", node.module) for alias in node.names}
            found |= {inner if inner in names else outer for inner, outer in both}
    return found & names.keys()


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that are left when those which import nothing that is left are taken away."""
    left = dict(graph)
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_a_cycle_is_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("runtime/fusion.py", "from cf_local.loading.load import load", "may not import loading"),
        ("runtime/fusion.py", "from cf_local import loading", "may not import loading"),
        ("runtime/fusion.py", "from ..loading import load", "may not import loading"),
        ("runtime/fusion.py", "import cf_local.loading.load", "may not import loading"),
        ("runtime/fusion.py", "def f():\n    import cf_local.loading", "may not import loading"),
        ("runtime/fusion.py", "import cf_local.llama.model", "may not import llama"),
        ("llama/model.py", "from cf_local.runtime.fusion import Fusion", "may not import runtime"),
        ("method/writer.py", "import cf_local", "may not import __init__"),
        ("method/writer.py", "from cf_local import __version__", "may not import __init__"),
        ("loading/load.py", "from cf_local.cli.ask import ask", "may not import cli"),
        ("evaluation/tasks.py", "from ..cli import main", "may not import cli"),
        ("server/app.py", "from cf_local.cli import main", "may not import cli"),
        ("__main__.py", "import cf_local.testing", "only tests may import testing"),
        ("testing.py", "from cf_local.cli import main", "may not import cli"),
        ("runtime/fusion.py", "import llama_cpp", "only llama may import llama_cpp"),
        ("hub.py", "from llama_cpp.llama_chat_format import x", "only llama may import llama_cpp"),
        ("loading/load.py", "import huggingface_hub", "only hub may import huggingface_hub"),
        ("hub.py", "import rich.progress", "only cli may import rich"),
        ("server/x.py", "from lm_eval.api.model import LM", "only evaluation may import lm_eval"),
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
        ("runtime/fusion.py", "from cf_local import method\nfrom cf_local.types import Step"),
        ("method/writer.py", "import numpy\nfrom cf_local.errors import InputError"),
        ("method/writer.py", "from .session import Session"),
        ("loading/load.py", "from .. import hub\nfrom cf_local.llama import LlamaSource"),
        ("llama/model.py", "import llama_cpp.llama_cpp as lib"),
        ("cli/ask.py", "import click\nfrom cf_local import load\nfrom .main import main"),
        ("__init__.py", "def __getattr__(name):\n    from cf_local.loading.load import load"),
        ("testing.py", "from cf_local.runtime.fusion import Fusion"),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, file: str, source: str) -> None:
    package = synthetic_package(tmp_path)
    (package / file).write_text(source, encoding="utf-8")
    assert violations(package) == []


def synthetic_package(folder: Path) -> Path:
    package = folder / "cf_local"
    for name in ("__init__", "errors", "hub", "testing", "types", "cli/__init__", "cli/main"):
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in (
        "method/writer",
        "method/session",
        "runtime/fusion",
        "loading/load",
        "llama/model",
    ):
        path = package / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return package


def test_ray_is_imported_for_a_cluster_alone() -> None:
    rooms = "cf_local.server.running, cf_local.evaluation.cluster_run, cf_local.cli.serve"
    code = f"import sys, {rooms}; print('ray' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_import_loads_no_native_library() -> None:
    heavy = ("llama_cpp", "huggingface_hub", "numpy", "rich", "prompt_toolkit", "click", "psutil")
    heavy += ("lm_eval", "tomlkit", "fastapi", "pydantic", "starlette", "uvicorn", "ray")
    code = f"import sys, cf_local; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_help_loads_no_native_library() -> None:
    code = (
        "import sys\n"
        "from cf_local.cli.main import main\n"
        "sys.argv = ['cf-local', '--help']\n"
        "try:\n    main()\nfinally:\n    print('llama_cpp' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
