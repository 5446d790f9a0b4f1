"""Files that come whole: under their name lies the old one or the new one, never a half."""

from collections.abc import Sequence
from pathlib import Path

from cf_local.files import check_replaceable, write_result
from cf_local.trace.lines import lines
from cf_local.trace.model import Trace

_TRACE_STARTS = b'{"type":'


def write(path: Path, traces: Sequence[Trace]) -> None:
    """Write the traces into one file. Raises InputError where that cannot be."""
    write_result(path, "".join(f"{line}\n" for trace in traces for line in lines(trace)))


def check_place(path: Path) -> None:
    """Whether a trace may be written there: told before the work, not after it.

    Raises InputError where there is no folder, or a file that is no trace: who mistypes a name
    loses nothing by it.
    """
    check_replaceable(path, lambda head: head.startswith(_TRACE_STARTS), "a trace")
