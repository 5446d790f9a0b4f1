"""Which of the files on this machine could be sources of a fusion, and what they are.

All from the headers: the family and kind of a model, its size, whether it knows how to chat.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cf_local import hub
from cf_local.errors import CfLocalError
from cf_local.llama.card import Card
from cf_local.registry.discovery import FoundFile
from cf_local.registry.registry import Registry, SourceSpec
from cf_local.registry.short_names import unique_name

ORIGIN = "setup"
EMBEDDING = "an embedding model"
_OTHER_TYPES = {
    "adapter": "an adapter (LoRA) of another model",
    "mmproj": "a projector for images, part of another model",
    "imatrix": "an importance matrix",
    "vocab": "a vocabulary without weights",
}
_OTHER_NAMES = (
    (re.compile(r"embed|(?<![a-z])(bge|e5|gte)(?![a-z])"), EMBEDDING),
    (re.compile(r"rerank"), "a reranker"),
    (re.compile(r"guard|moderation"), "a model that judges texts"),
    (re.compile(r"reward"), "a reward model"),
)
_CODE = re.compile(r"cod(er|e|estral)(?![a-z])|starcoder|devstral")
_BASES = {"mistral3": "mistral", "cohere2": "cohere"}
_VERSION = re.compile(r"[\d.]+(moe|next|vl)?$|moe$|-?bpe$")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can be fused, under its name in models.toml.

    ``family`` names what it was trained from, as far as the header says; ``identity`` is the same
    for other quantizations of the model. ``bits`` are those of a weight, over the whole file.
    ``spec`` is its entry in models.toml, or the one to write if ``is_new``.
    """

    spec: SourceSpec
    found: FoundFile
    n_parameters: int
    n_bytes: int
    family: str
    identity: tuple[str, int, str]
    quantization: str
    chats: bool
    codes: bool
    is_new: bool

    @property
    def name(self) -> str:
        """The name in models.toml."""
        return self.spec.name

    @property
    def bits(self) -> float:
        """Bits per weight."""
        return 8 * self.n_bytes / max(1, self.n_parameters)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be a source, and what it is instead."""

    found: FoundFile
    reason: str


def sort_out(
    found: Sequence[FoundFile], cards: Sequence[Card | CfLocalError], registry: Registry
) -> tuple[list[Candidate], list[Refused]]:
    """The files that can be sources, under distinct names, and the others with the reasons.

    A file that models.toml has already keeps its name. Two copies of a model count once.
    """
    names = {*registry.sources, *registry.fusions}
    known = _known(registry)
    candidates: list[Candidate] = []
    refused: list[Refused] = []
    seen: dict[tuple[object, ...], str] = {}
    for file, card in zip(found, cards, strict=True):
        if isinstance(card, CfLocalError):
            refused.append(Refused(file, f"broken: {_in_short(str(card), file)}"))
            continue
        calls_itself = str(card.metadata.get("general.name", ""))
        if reason := why_not(card, f"{file.repo or ''} {file.label} {calls_itself}"):
            refused.append(Refused(file, reason))
            continue
        content = (card.n_bytes, card.n_parameters, str(card.metadata), card.template)
        spec = next((one for path, one in known if path == file.path.resolve()), None)
        is_new = spec is None
        if spec is not None and spec.kind == "embedding":
            refused.append(Refused(file, EMBEDDING))
            continue
        if is_new and content in seen:
            refused.append(Refused(file, f"the same model as {seen[content]}"))
            continue
        if spec is None:
            spec = _spec(unique_name(file.label, calls_itself, names), file)
        names.add(spec.name)
        seen[content] = spec.name
        candidates.append(_candidate(spec, file, card, is_new=is_new))
    return candidates, refused


def why_not(card: Card, names: str = "") -> str | None:
    """What the file is instead of a language model that writes text; None if it is one."""
    meta, architecture = card.metadata, card.architecture
    if reason := _OTHER_TYPES.get(str(meta.get("general.type", ""))):
        return reason
    if architecture == "clip":
        return _OTHER_TYPES["mmproj"]
    if not card.n_parameters:
        return _OTHER_TYPES["vocab"]
    if card.pooling or meta.get(f"{architecture}.attention.causal") in (False, "false"):
        return EMBEDDING
    for pattern, what in _OTHER_NAMES:
        if pattern.search(names.lower()):
            return what
    return card.problem


def family_of(card: Card) -> str:
    """What the model was trained from: its architecture without the version, or its tokenizer.

    Many families share the architecture "llama"; the name of the tokenizer tells them apart.
    """
    architecture = card.architecture.lower()
    if architecture != "llama":
        return _BASES.get(architecture) or _VERSION.sub("", architecture) or architecture
    tokenizer = str(card.metadata.get("tokenizer.ggml.pre", "default"))
    if tokenizer not in ("default", "llama-spm", "gpt-2"):
        return _VERSION.sub("", tokenizer).strip("-") or tokenizer
    called = str(card.metadata.get("general.basename") or card.metadata.get("general.name") or "")
    words = re.findall(r"[a-z]{3,}", called.lower())
    return words[0] if words else architecture


def _candidate(spec: SourceSpec, file: FoundFile, card: Card, *, is_new: bool) -> Candidate:
    calls_itself = str(card.metadata.get("general.name", "")).lower()
    return Candidate(
        spec=spec,
        found=file,
        n_parameters=card.n_parameters,
        n_bytes=card.n_bytes,
        family=family_of(card),
        identity=(card.architecture, card.n_parameters, calls_itself or spec.name),
        quantization=(card.file_type or "?").replace(" - Medium", "_M").replace(" - Small", "_S"),
        chats=bool(spec.template or (card.template and not card.template_error)),
        codes=bool(_CODE.search(f"{spec.name} {file.label.lower()} {calls_itself}")),
        is_new=is_new,
    )


def _spec(name: str, file: FoundFile) -> SourceSpec:
    if file.repo and file.file:
        return SourceSpec(name, file.file, ORIGIN, repo=file.repo)
    return SourceSpec(name, str(file.path), ORIGIN)


def _known(registry: Registry) -> list[tuple[object, SourceSpec]]:
    """The sources of models.toml with their files on this machine."""
    found: list[tuple[object, SourceSpec]] = []
    for spec in registry.sources.values():
        path = spec.local_path
        if path is None:
            path = hub.cached(str(spec.repo), spec.file, spec.revision, spec.quant)
        if path is not None and path.is_file():
            found.append((path.resolve(), spec))
    return found


def _in_short(message: str, file: FoundFile) -> str:
    """An error without the path, which the reader sees next to it, and without the advice."""
    text = message.replace(str(file.path), "").strip()
    return text.partition(". ")[0].rstrip(".").removeprefix("cannot be loaded: ")
