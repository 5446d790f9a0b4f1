"""Facts that need a running llama.cpp, collected in a child process.

A library that was compiled for another processor does not raise an error: it kills the process. So
a child prints each fact as a JSON line, and the parent reports how the child ended.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cf_local.llama import child

_QUESTION = "Tom has 23 apples and buys 45 more. How many apples does he have now?"
_ANSWER = "68"
_BUILTIN = ("ash", "birch", "cedar")


@dataclass(frozen=True, slots=True)
class Native:
    """What llama.cpp reports; ``error`` is why the report ends early, or None.

    ``devices`` are (name, description, kind, total bytes, available bytes). ``answer`` is the
    built-in models' answer to a question, ``is_right`` whether it has the right number.
    """

    system_info: str | None = None
    library_version: str | None = None
    backends: tuple[str, ...] = ()
    devices: tuple[tuple[str, str, str, int, int], ...] = ()
    answer: str | None = None
    is_right: bool = False
    seconds: float = 0.0
    error: str | None = None


def probe() -> Native:
    """Collect the facts; without a child in a bundle, whose program cannot run Python modules."""
    if not child.can_run():
        return _gathered(stages())
    records, ended = child.run("cf_local.doctor.probe")
    return _gathered([*records, {"error": ended}] if ended else records)


def stages() -> Iterator[dict[str, Any]]:
    """The facts, one group at a time; the last may be an error."""
    try:
        from cf_local.llama.devices import backends, devices
        from cf_local.llama.library import library_version, system_info

        yield {"system_info": system_info(), "library_version": library_version()}
        yield {"backends": backends()}
        yield {
            "devices": [
                (d.name, d.description, d.kind, d.total_bytes, d.available_bytes) for d in devices()
            ]
        }
        yield _answered()
    except Exception as error:  # noqa: BLE001 - any error is a result
        text = str(error).strip() or type(error).__name__
        yield {"error": text.splitlines()[0]}


def _answered() -> dict[str, Any]:
    """The answer of the built-in models, independent of models.toml."""
    from cf_local.llama.source import LlamaSource
    from cf_local.runtime.fusion import Fusion
    from cf_local.types import chat

    start = time.perf_counter()
    folder = Path(__file__).parents[1] / "builtin"
    sources = [LlamaSource(name, folder / f"{name}.gguf", n_ctx=256) for name in _BUILTIN]
    with Fusion(sources) as fusion:
        answer = fusion.answer(chat(_QUESTION)).text
    seconds = time.perf_counter() - start
    return {"answer": answer, "is_right": _ANSWER in answer, "seconds": seconds}


def _gathered(records: Any) -> Native:
    found: dict[str, Any] = {}
    for record in records:
        found |= record
    known = {field.name for field in fields(Native)}
    values = {key: value for key, value in found.items() if key in known}
    values["backends"] = tuple(values.get("backends", ()))
    values["devices"] = tuple(tuple(device) for device in values.get("devices", ()))
    return Native(**values)


if __name__ == "__main__":
    for stage in stages():
        child.emit(stage)
