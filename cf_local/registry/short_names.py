"""Short names for model files: "Qwen2.5-1.5B-Instruct-Q4_K_M.gguf" becomes "qwen2.5-1.5b".

The name of a file comes first, since that is what its owner sees. Where it says nothing
("model.gguf", a checksum), what the model calls itself is used.
"""

import re
from collections.abc import Container

from cf_local.files import parts
from cf_local.hub import quantization
from cf_local.registry.registry import is_alias

_MOST_CHARACTERS = 32
_SPLIT = re.compile(r"-\d{5}-of-\d{5}$")
_CACHED = re.compile(r"^.+[-_.]gguf_(?=.)", re.IGNORECASE)  # llama.cpp's cache: org_repo-GGUF_file
_NO_NAME = re.compile(r"[^a-z0-9.]+")
_USUAL = frozenset({"instruct", "it", "chat", "gguf", "ggml", "hf", "imat", "i1", "awq", "latest"})
_CHECKSUM = re.compile(r"[0-9a-f]{32}")
_NOTHING = re.compile(r"(ggml-?)?(model|weights|default|main|file)?")


def short_name(label: str, calls_itself: str = "") -> str:
    """A valid name made of a file's name, or an Ollama name such as "llama3.2:3b"."""
    for text in (label, calls_itself):
        if _CHECKSUM.search(text.lower()):
            continue
        name = _shortened(text)
        if not _NOTHING.fullmatch(name) and is_alias(name):
            return name
    return "model"


def unique_name(label: str, calls_itself: str, taken: Container[str]) -> str:
    """Like ``short_name``, but not one of ``taken``: with its quantization, else with a number."""
    plain = short_name(label, calls_itself)
    quant = quantization(label)
    stem = f"{plain}-{quant.lower()}" if quant else plain
    if plain not in taken:
        return plain
    if stem not in taken:
        return stem
    number = 2
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def _shortened(text: str) -> str:
    """Lower case, without quantization and the words that most names have, at most 32 long."""
    stem = re.sub(r"\.gguf$", "", parts(text)[0], flags=re.IGNORECASE)
    stem = _CACHED.sub("", _SPLIT.sub("", stem))
    quant = quantization(f"{stem}.gguf")
    if quant:
        stem = re.sub(re.escape(quant), "", stem, flags=re.IGNORECASE)
    words = [word for word in _NO_NAME.split(stem.lower()) if word.strip(".")]
    kept = [word.strip(".") for word in words if word not in _USUAL] or words
    name = "-".join(kept)
    while len(name) > _MOST_CHARACTERS and len(kept) > 1:
        kept.pop()
        name = "-".join(kept)
    return name[:_MOST_CHARACTERS].strip("-.")
