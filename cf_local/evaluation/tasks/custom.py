"""Tasks that a user wrote in Python: ``package.module:Class`` or ``path/to/file.py:Class``."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from cf_local.errors import InputError
from cf_local.evaluation.tasks.task import Task
from cf_local.registry.toml import nearest

_NEEDED = ("name", "items", "is_right", "stop", "max_tokens")


def load_task(place: str) -> Task:
    """The task at MODULE:NAME or FILE.py:NAME: an instance, or a class that needs no arguments.

    This runs the code of the module. Raises InputError if there is no such object, or it is not a
    task.
    """
    where, _, name = place.rpartition(":")
    module = _from_file(Path(where)) if where.endswith(".py") else _from_name(where)
    if not hasattr(module, name):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise InputError(f"{where} has no {name}{nearest(name, known)}.")
    found: Any = getattr(module, name)
    task: Any = found() if callable(found) else found
    if missing := [key for key in _NEEDED if not hasattr(task, key)]:
        raise InputError(
            f"{place} is not a task: it lacks {', '.join(missing)}. "
            "Derive it from cf_local.evaluation.Task."
        )
    return task  # type: ignore[no-any-return]


def _from_name(name: str) -> ModuleType:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)  # `python -m` looks there, `cf-local` does not
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the user's module exists and lacks something that it imports
        raise InputError(
            f"The module {name} does not exist; it must be installed or in this folder."
        ) from None
    finally:
        sys.path.remove(folder)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    name = f"cf_local_task_{path.stem}"  # hides no other module, even if the file is called json.py
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
