"""The folder of cached states: private to the user, limited in size, and safe to delete."""

import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path

from cf_local.files import UNFINISHED, cache_root

MAX_BYTES = 2_000_000_000
"""All cached states together take no more than this,"""
MAX_SHARE = 0.1
"""nor more than this share of the space that is free without them."""

_SUFFIX = ".kv"
_ABANDONED_S = 3600.0
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of cached states, whether or not it exists."""
    return cache_root() / "read"


class StateFolder:
    """The files ``OWNER-KEY.kv``, one for each source of a conversation.

    Several processes may use the folder at the same time: a file appears whole or not at all.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_folder()

    def file(self, owner: str, key: str) -> Path:
        """The path of a state."""
        return self.path / f"{owner}-{key}{_SUFFIX}"

    def of_key(self, key: str) -> list[Path]:
        """The states with a key, of all owners."""
        return [path for path in self._files() if path.stem.endswith(f"-{key}")]

    def forget(self, owner: str | None) -> int:
        """Delete the states of an owner, or all (None), as far as possible; returns how many."""
        n_deleted = 0
        for path in self._files():
            if owner is None or path.name.startswith(f"{owner}-"):
                n_deleted += _delete(path)
        return n_deleted

    def make_room(self, n_bytes: int, place: Path) -> bool:
        """Delete the least recently used states until ``n_bytes`` more fit in at ``place``.

        Returns False, and deletes nothing, if that is too large in any case. Raises OSError.
        """
        if not self.path.is_absolute():  # an unexpanded "~": the user has no home
            raise FileNotFoundError("There is no home folder.")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clean()
        used = {path: path.stat() for path in self._files()}
        n_used = sum(status.st_size for status in used.values())
        free = shutil.disk_usage(self.path).free + n_used
        limit = min(MAX_BYTES, int(MAX_SHARE * free))
        if n_bytes > limit:
            return False
        if place in used:  # the new state replaces it
            n_used -= used.pop(place).st_size
        for path in sorted(used, key=lambda path: used[path].st_mtime):
            if n_used + n_bytes <= limit:
                break
            n_used -= used[path].st_size if _delete(path) else 0
        return n_used + n_bytes <= limit

    def _files(self) -> list[Path]:
        with suppress(OSError):
            return [path for path in self.path.iterdir() if path.suffix == _SUFFIX]
        return []

    def _clean(self) -> None:
        """Delete the unfinished files of killed processes."""
        for path in self.path.glob(f"*{UNFINISHED}"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    _delete(path)


def _delete(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:  # on Windows while another process reads it
        _log.info("%s stays: %s", path, error)
        return False
    return True
