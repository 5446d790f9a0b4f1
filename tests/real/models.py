"""The real models: where they lie, the sets that the tests load, and what they are asked."""

from __future__ import annotations

import os
from pathlib import Path

import cf_local

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("CF_LOCAL_REAL_MODELS", ROOT / ".cache" / "models"))
SMOLLM2, GEMMA, QWEN = "smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b"
SET_A = (SMOLLM2, GEMMA, QWEN)
PAIR = (SMOLLM2, QWEN)
GEMMA_WINDOW = 512  # tokens that most of its layers see

FRUITS = "Name three fruits."


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.gguf"


def missing() -> list[str]:
    return [name for name in SET_A if not path_of(name).is_file()]


def options_for(names: tuple[str, ...]) -> list[str]:
    """Options of the commands that name these models."""
    return [option for name in names for option in ("--model", str(path_of(name)))]


def entries_for(names: tuple[str, ...]) -> str:
    """The same as entries of models.toml."""
    entry = '[sources."{}"]\nfile = "{}"\ncontext = 1024\n'
    return "".join(entry.format(name, path_of(name).as_posix()) for name in names)


def lines_up_to(n: int) -> cf_local.RawText:
    """A text that all models go on with in the same way; about 11 tokens a line."""
    return cf_local.RawText("".join(map(line, range(1, n + 1))))


def line(n: int) -> str:
    return f"{n}. This is item {n}.\n"
