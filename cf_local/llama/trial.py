"""Headers are tried in a process of their own first: a hostile one can end the process it is in.

llama.cpp checks much of a header with assertions, hundreds of them, which abort. So a file that
this process has not seen is planned in a child: if that one survives, this one will. Takes 0.4 s.
A bundled program (PyInstaller) has no Python to start; there it is left out.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cf_local.errors import BrokenModelError, CfLocalError

_TIMEOUT_S = 120
_tried: set[tuple[str, int, int]] = set()


def try_headers(paths: Sequence[Path]) -> None:
    """Raise BrokenModelError for a file whose header would end this process."""
    new = [path for path in paths if path.is_file() and _key(path) not in _tried]
    if not new or not sys.executable or getattr(sys, "frozen", False):
        return
    root = str(Path(__file__).parents[2])
    found = os.environ.get("PYTHONPATH")
    environment = os.environ | {
        "PYTHONPATH": root if not found else os.pathsep.join((root, found)),
        "GGML_NO_BACKTRACE": "1",  # it would start a debugger
    }
    command = [
        sys.executable,
        "-m",
        "cf_local.llama.trial",
        *(str(path.absolute()) for path in new),
    ]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # no children here, or a very slow disk
        return
    n_survived = done.stdout.count(b"survived")
    _tried.update(_key(path) for path in new[:n_survived])
    if done.returncode and 0 < n_survived + 1 <= len(new) and done.stdout.startswith(b"begun"):
        raise BrokenModelError(
            f"{new[n_survived]} cannot be loaded: what its header says ends llama.cpp. "
            "Download it again, or check where it comes from."
        )


def _key(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path.absolute()), found.st_size, found.st_mtime_ns


def main() -> None:
    """Plan each file that the command line names, and say of each that it was survived."""
    from cf_local.llama.sizes import SimulatedModel

    _say("begun")
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
        _say("survived")


def _say(word: str) -> None:
    """To the parent; what comes next may end this process."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
