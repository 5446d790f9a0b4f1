"""What was measured about models on this machine, saved so that it is measured once.

Records of plain data in the cache folder, one file each: the memory that a model needs according to
its header, whether sources gain from working at the same time, what passes cost. This is only a
cache: a missing or damaged record is made again, and failures are only logged.
"""

import hashlib
import json
import logging
import os
import platform
from dataclasses import fields
from pathlib import Path
from typing import Any

from cf_local.files import cache_root, write_text
from cf_local.llama.header import check_file
from cf_local.llama.library import system_info
from cf_local.llama.sizes import SimulatedModel, part_paths
from cf_local.llama.state_key import identity_of
from cf_local.planning.plan import Layout, ModelSizes
from cf_local.types import KvType

_FORMAT = 1  # of the records; after a change all of them are made again
_SIZES = tuple(key.name for key in fields(ModelSizes) if key.name not in ("name", "layout"))
_log = logging.getLogger(__name__)


def key_of(*files: Path, of: str) -> str:
    """The name of a record about model files; ``of`` says what the record holds.

    The name changes with the content of the files (identified by path, size and time, or by the
    checksum in their name in the hub's cache: nothing is read), with the version or build of
    llama.cpp, and with the machine. Raises OSError when a file cannot be accessed.
    """
    machine = f"{platform.node()}\n{os.cpu_count()}\n{_build()}"
    parts = (str(_FORMAT), of, machine, *map(identity_of, files))
    return hashlib.sha256(os.fsencode("\n\n".join(parts))).hexdigest()[:32]


def get(key: str) -> dict[str, Any]:
    """The record of that name, empty if there is none."""
    try:
        record = json.loads(_file(key).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.info("%s cannot be used: %s", _file(key), error)
        return {}
    return record if isinstance(record, dict) else {}


def put(key: str, record: dict[str, Any]) -> None:
    """Save a record under that name; it replaces an earlier one."""
    file = _file(key)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(file, json.dumps(record) + "\n", private=True)
    except OSError as error:
        _log.info("%s cannot be written: %s", file, error)


class RememberedModel:
    """What a model needs in memory, as a simulated load found it, now or before."""

    def __init__(self, path: Path, n_forks: int, n_sessions: int) -> None:
        """Take the arguments of SimulatedModel. A known model's file is not opened.

        Raises MissingModelError for a missing file.
        """
        self._path, self._n_forks, self._n_sessions = path, n_forks, n_sessions
        try:
            self._key = key_of(path, of=f"memory {n_forks} {n_sessions}")
        except OSError:
            check_file(path)
            part_paths(path)  # raises for the part that is missing
            raise
        self._record = get(self._key)
        self._simulated: SimulatedModel | None = None

    @property
    def is_known(self) -> bool:
        """Whether a load was simulated before; if so, the header did not crash llama.cpp."""
        return "sizes" in self._record

    def sizes(self, name: str) -> ModelSizes:
        """What it needs; the layouts are available until ``close``."""
        if not self.is_known:
            found = self._simulation().sizes(name)
            self._record["sizes"] = {key: getattr(found, key) for key in _SIZES}
        values = self._record["sizes"] | {"blocks": tuple(self._record["sizes"]["blocks"])}
        return ModelSizes(name=name, layout=self.layout, **values)

    def layout(self, n_ctx: int, kv_type: KvType) -> Layout | None:
        """What a context of ``n_ctx`` tokens needs, None if llama.cpp refuses it."""
        layouts = self._record.setdefault("layouts", {})
        key = f"{n_ctx} {kv_type}"
        if key not in layouts:
            layouts[key] = self._simulation().layout(n_ctx, kv_type)
        return None if layouts[key] is None else Layout(*layouts[key])

    def close(self) -> None:
        """Save what was found. May be called twice."""
        if self._simulated is not None:
            self._simulated.close()
            self._simulated = None
            put(self._key, self._record)

    def _simulation(self) -> SimulatedModel:
        if self._simulated is None:
            self._simulated = SimulatedModel(
                self._path, n_forks=self._n_forks, n_sessions=self._n_sessions
            )
        return self._simulated


def _file(key: str) -> Path:
    return cache_root() / "measured" / f"{key}.json"


def _build() -> str:
    from importlib.metadata import version

    return f"{version('llama-cpp-python')}\n{system_info()}"
