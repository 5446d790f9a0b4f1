"""Headers are tried in a process of their own first: a hostile one can end the process it is in.

llama.cpp checks much of a header with assertions, hundreds of them, which abort. So a file that
this process has not seen is planned in a child: if that one survives, this one will. Takes 0.4 s.
A bundled program (PyInstaller) has no Python to start; there it is left out.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from cf_local.errors import BrokenModelError, CfLocalError
from cf_local.llama import child
from cf_local.progress import IsCancelled, never

_tried: set[tuple[str, int, int]] = set()


def try_headers(paths: Sequence[Path], is_cancelled: IsCancelled = never) -> None:
    """Raise BrokenModelError for a file whose header would end this process, or Cancelled."""
    new = [path for path in paths if path.is_file() and _key(path) not in _tried]
    if not new or not child.can_run():
        return
    files = [str(path.absolute()) for path in new]
    records, ended = child.run(__name__, files, is_cancelled=is_cancelled)
    n_survived = sum("survived" in record for record in records)
    _tried.update(_key(path) for path in new[:n_survived])
    has_begun = any("begun" in record for record in records)  # else no child could be started
    if ended and has_begun and n_survived < len(new):
        raise BrokenModelError(
            f"{new[n_survived]} cannot be loaded: what its header says makes llama.cpp fail "
            f"({ended}). Download it again, or check where it comes from."
        )


def _key(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path.absolute()), found.st_size, found.st_mtime_ns


def main() -> None:
    """Plan each file that the command line names, and say of each that it was survived."""
    from cf_local.llama.sizes import SimulatedModel

    child.emit({"begun": True})
    for name in sys.argv[1:]:
        try:
            model = SimulatedModel(Path(name), n_forks=4)
            try:
                model.sizes(name)
                model.layout(512, "f16")
                model.layout(512, "q8_0")
            finally:
                model.close()
        except CfLocalError:  # the parent meets and tells it
            pass
        child.emit({"survived": name})


if __name__ == "__main__":
    main()
