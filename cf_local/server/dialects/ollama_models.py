"""The models and the embeddings of Ollama's interface, and what a request cannot do here."""

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from cf_local import __version__
from cf_local.errors import CfLocalError, MissingModelError
from cf_local.llama.card import Card
from cf_local.llama.inspection import inspect, inspect_all
from cf_local.llama.sizes import part_paths
from cf_local.loading.embedder import Embedder
from cf_local.method.thinking import OPENING
from cf_local.registry.registry import SourceSpec
from cf_local.server.api_errors import ApiError
from cf_local.server.catalogue import LATEST, Catalogue, ServedModel, file_of
from cf_local.server.dialects import fields
from cf_local.server.dialects.embeddings import MOST_TEXTS
from cf_local.server.dialects.ollama import OllamaBody, nanoseconds, timestamp
from cf_local.server.embedding import Embeddings
from cf_local.server.pool import Loaded, Pool

VERSION = "0.13.0"
"""The version of Ollama whose interface this is: some clients refuse an old one."""
_FOR_EVER_S = 100 * 365 * 86400.0
_CHANGES = {
    ("POST", "/api/pull"): "Download a model (refused).",
    ("POST", "/api/push"): "Upload a model (refused).",
    ("POST", "/api/create"): "Create a model (refused).",
    ("POST", "/api/copy"): "Copy a model (refused).",
    ("DELETE", "/api/delete"): "Delete a model (refused).",
}


class VersionResponse(TypedDict):
    """The version of Ollama that this interface is like, and our own."""

    version: str
    cf_local: str


class Details(TypedDict):
    """What a model is; sizes of a fusion are sums over its sources."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Listed(TypedDict):
    """A model in a list."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    modified_at: NotRequired[str]
    expires_at: NotRequired[str]
    context_length: NotRequired[int]


class ListResponse(TypedDict):
    """Models."""

    models: list[Listed]


class ShowBody(fields.Body):
    """The request for one model."""

    model: fields.SomeText | None = None
    name: fields.SomeText | None = None
    verbose: fields.Flag | None = None


class ShowResponse(TypedDict):
    """One model."""

    license: str
    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class EmbedBody(OllamaBody):
    """The request for vectors for texts."""

    input: fields.SomeText | Annotated[list[fields.SomeText], Field(max_length=MOST_TEXTS)]
    truncate: fields.Flag | None = None
    dimensions: Annotated[fields.Whole, Field(ge=1)] | None = None


class EmbedResponse(TypedDict):
    """The vectors, in the order of the texts."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaEmbeddingBody(OllamaBody):
    """The older request, for the vector of one text."""

    prompt: fields.SomeText


class OllamaEmbeddingResponse(TypedDict):
    """The vector."""

    embedding: list[float]


class Route(NamedTuple):
    """An endpoint. ``body`` is the model of its requests, if it has a body."""

    method: str
    path: str
    summary: str
    work: Callable[..., Any]
    response: Any
    body: type[fields.Body] | None = None


@dataclass(frozen=True, slots=True)
class _File:
    """The file of a source, as it is now, and its card if it can be read."""

    spec: SourceSpec
    path: Path
    n_bytes: int
    changed_s: float
    card: Card | None = None

    @property
    def key(self) -> str:
        """Distinguishes it from other files; the bytes of a model are too many to hash."""
        return f"{self.path.resolve()} {self.n_bytes} {self.changed_s}"

    @property
    def n_ctx(self) -> int:
        """Its context as far as known without loading it."""
        return self.spec.context or (self.card.n_ctx_train if self.card else 0)

    @property
    def licence(self) -> str:
        """Its licence."""
        of_file = self.card.metadata.get("general.license", "") if self.card else ""
        return str(self.spec.licence or of_file)


class OllamaModels:
    """The models of a catalogue as Ollama shows them. Each file is read once."""

    def __init__(self, catalogue: Catalogue, pool: Pool, embeddings: Embeddings) -> None:
        self._catalogue, self._pool, self._embeddings = catalogue, pool, embeddings
        self._cards: dict[str, Card | None] = {}
        self._close_cards: dict[str, Card | None] = {}

    def routes(self) -> list[Route]:
        """The endpoints."""
        changes = [
            Route(method, path, summary, _refuse, dict[str, Any])
            for (method, path), summary in _CHANGES.items()
        ]
        return [
            Route("GET", "/api/version", "The version.", self.version, VersionResponse),
            Route("GET", "/api/tags", "List the models.", self.tags, ListResponse),
            Route("GET", "/api/ps", "List the loaded models.", self.loaded, ListResponse),
            Route("POST", "/api/show", "Show one model.", self.show, ShowResponse, ShowBody),
            Route("POST", "/api/embed", "Embed texts.", self.embed, EmbedResponse, EmbedBody),
            Route(
                "POST",
                "/api/embeddings",
                "Embed a text.",
                self.embedding,
                OllamaEmbeddingResponse,
                OllamaEmbeddingBody,
            ),
            *changes,
        ]

    async def version(self) -> VersionResponse:
        """The version."""
        return {"version": VERSION, "cf_local": __version__}

    async def tags(self) -> ListResponse:
        """All models on this machine."""
        return {"models": await asyncio.to_thread(self._listed, lambda _model: True)}

    async def loaded(self) -> ListResponse:
        """The models that are loaded, until when, and their context."""
        found = await asyncio.to_thread(self._listed, self._pool.is_loaded)
        for each in found:
            del each["modified_at"]
            usage = self._pool.usage(self._catalogue.find(each["model"]))
            if usage is not None:
                loaded, left_s = usage
                until = time.time() + (_FOR_EVER_S if left_s is None else left_s)
                each["expires_at"] = timestamp(until)
                each["context_length"] = _n_ctx(loaded)
        return {"models": found}

    async def show(self, body: ShowBody) -> ShowResponse:
        """One model."""
        name = body.model or body.name
        if name is None:
            raise ApiError(400, "Missing required parameter: 'model'.", param="model")
        return await asyncio.to_thread(self._shown, name)

    async def embed(self, body: EmbedBody) -> EmbedResponse:
        """Vectors of texts."""
        start = time.perf_counter()
        texts = [body.input] if isinstance(body.input, str) else body.input
        vectors, n_tokens = await self._embeddings.embed(body.model, texts, body.dimensions)
        return {
            "model": body.model,
            "embeddings": vectors.tolist(),
            "total_duration": nanoseconds(time.perf_counter() - start),
            "load_duration": 0,
            "prompt_eval_count": n_tokens,
        }

    async def embedding(self, body: OllamaEmbeddingBody) -> OllamaEmbeddingResponse:
        """The vector of a text."""
        vectors, _ = await self._embeddings.embed(body.model, [body.prompt])
        return {"embedding": vectors[0].tolist()}

    def _listed(self, wants: Callable[[ServedModel], bool]) -> list[Listed]:
        models = [model for model in self._catalogue.listed() if wants(model)]
        return [
            self._row(model, files)
            for model, files in zip(models, self._files(models), strict=True)
        ]

    def _row(self, model: ServedModel, files: Sequence[_File]) -> Listed:
        name = model.id if ":" in model.id else model.id + LATEST
        identity = "\n".join([model.id, *(file.key for file in files)])
        return {
            "name": name,
            "model": name,
            "modified_at": _changed(files),
            "size": sum(file.n_bytes for file in files),
            "digest": hashlib.sha256(identity.encode()).hexdigest(),
            "details": _details(files),
        }

    def _shown(self, name: str) -> ShowResponse:
        model = self._catalogue.find(name)
        (files,) = self._files([model], closely=True)
        usage = self._pool.usage(model)
        n_ctx = _n_ctx(usage[0]) if usage else min((file.n_ctx for file in files), default=0)
        details, capabilities = _details(files), _capabilities(model, files)
        cards = [file.card for file in files if file.card is not None]
        family = details["family"]
        info = _metadata(cards[0]) if len(cards) == 1 else {}
        info |= {
            "general.architecture": family,
            "general.basename": model.name,
            "general.parameter_count": sum(card.n_parameters for card in cards),
            f"{family}.context_length": n_ctx,
        }
        return {
            "license": "\n".join(sorted({file.licence for file in files} - {""})),
            "modelfile": f"# {' + '.join(model.names)}\nFROM {model.name}\n",
            "parameters": f"num_ctx {n_ctx}",
            "template": _template(capabilities),
            "details": details,
            "model_info": info,
            "capabilities": capabilities,
            "modified_at": _changed(files),
        }

    def _files(self, models: Sequence[ServedModel], *, closely: bool = False) -> list[list[_File]]:
        """The files of each model, read if they are new or have changed.

        ``closely``: with what takes longer to find out.
        """
        found = [[file for spec in model.sources for file in _file(spec)] for model in models]
        cards = self._close_cards if closely else self._cards
        paths = {file.key: file.path for files in found for file in files}
        new = {key: path for key, path in paths.items() if key not in cards}
        read = map(_inspected, new.values()) if closely else inspect_all([*new.values()])
        for key, card in zip(new, read, strict=True):
            cards[key] = None if isinstance(card, CfLocalError) else card
        return [[replace(file, card=cards[file.key]) for file in files] for files in found]


def _inspected(path: Path) -> Card | CfLocalError:
    try:
        return inspect(path)
    except CfLocalError as error:
        return error


def _file(spec: SourceSpec) -> Iterator[_File]:
    path = file_of(spec)
    if path is None:
        return
    with suppress(MissingModelError, OSError):  # a part of it
        parts = [part.stat() for part in part_paths(path)]
        n_bytes = sum(part.st_size for part in parts)
        yield _File(spec, path, n_bytes, max(part.st_mtime for part in parts))


def _changed(files: Sequence[_File]) -> str:
    return timestamp(max((file.changed_s for file in files), default=0.0))


def _n_ctx(loaded: Loaded) -> int:
    if isinstance(loaded, Embedder):
        return loaded.n_ctx
    return min(source.info.n_ctx for source in loaded.sources)


def _details(files: Sequence[_File]) -> Details:
    cards = [file.card for file in files if file.card is not None]
    families = list(dict.fromkeys(card.architecture for card in cards))
    levels = {_level(card) for card in cards}
    return {
        "parent_model": "",
        "format": "gguf",
        "family": families[0] if len(families) == 1 else "fusion",
        "families": families,
        "parameter_size": _short(sum(card.n_parameters for card in cards)),
        "quantization_level": levels.pop() if len(levels) == 1 else "mixed",
    }


def _level(card: Card) -> str:
    """llama.cpp's "Q4_K - Medium" as files and clients have it: Q4_K_M."""
    name, _, size = (card.file_type or "unknown").partition(" - ")
    return f"{name}_{size[0]}" if size else name


def _short(count: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return str(count)


def _metadata(card: Card) -> dict[str, Any]:
    """What a file says of its model; how it was quantized may name files of that machine."""
    return {
        key: value
        for key, value in card.metadata.items()
        if not key.startswith("quantize.")
        if not isinstance(value, float) or math.isfinite(value)  # JSON has no other numbers
    }


def _capabilities(model: ServedModel, files: Sequence[_File]) -> list[str]:
    """What a model can be asked for; in a fusion, those think that can."""
    if model.kind == "embedding":
        return ["embedding"]
    cards = [file.card for file in files if file.card is not None]
    templates = [file.spec.template or (file.card and file.card.template) or "" for file in files]
    found = ["completion", "tools"]
    if any(tag in template for template in templates for tag in OPENING):
        found.append("thinking")
    if cards and all(card.fills_gaps for card in cards):
        found.append("insert")
    return found


def _template(capabilities: Sequence[str]) -> str:
    """What clients look for in a template of Ollama's: which fields a prompt may have."""
    if "embedding" in capabilities:
        return "{{ .Prompt }}"
    return "{{ .System }}{{ .Tools }}{{ .Prompt }}" + "{{ .Suffix }}" * ("insert" in capabilities)


async def _refuse() -> Mapping[str, Any]:
    raise ApiError(
        403,
        "A request cannot change the models of this server. On its machine, use cf-local pull, "
        "cf-local models add or cf-local rm.",
        code="not_allowed",
    )
