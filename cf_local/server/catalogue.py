"""The models that clients can name: fusions, sources and embedding models of the registry."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from typing_extensions import TypedDict

from cf_local import hub
from cf_local.errors import InputError, MissingModelError
from cf_local.loading.load import choose
from cf_local.registry.registry import Registry, SourceSpec
from cf_local.registry.toml import nearest
from cf_local.server.api_errors import ApiError, invalid, model_not_found
from cf_local.settings import Settings
from cf_local.types import MODES, Mode

Kind = Literal["fusion", "source", "embedding"]
_MODES: Mapping[Kind, tuple[str, ...]] = {
    "fusion": MODES,
    "source": ("single",),
    "embedding": (),
}
_MOST_NAMED = 10
LATEST = ":latest"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as clients name it; ``id`` may include a mode."""

    id: str
    name: str
    kind: Kind
    description: str | None
    sources: tuple[SourceSpec, ...]
    settings: Settings

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its sources."""
        return tuple(spec.name for spec in self.sources)

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that a request can choose."""
        return _MODES[self.kind]


class Catalogue:
    """The models of the registry when the server started; only these names can open a file."""

    def __init__(
        self,
        registry: Registry,
        named: Sequence[str] = (),
        *,
        aliases: Mapping[str, str] | None = None,
        answers_any: bool = False,
        lists_all: bool = False,
    ) -> None:
        """Serve the models ``named`` and the sources of fusions among them; if empty, all models.

        The first that can write is the default. ``aliases`` are more names of models; with
        ``answers_any``, an unknown name stands for the default. With ``lists_all``, models are
        listed wherever their files are. Raises ConfigError for an unknown name, InputError for an
        alias that names no model.
        """
        self._lists_all = lists_all
        self._registry = registry
        kinds = {name: kind_of(registry, name) for name in named}
        self._fusions = [name for name in kinds if kinds[name] == "fusion"]
        self._alone = [name for name in kinds if kinds[name] != "fusion"]
        writing = (name for name in kinds if kinds[name] != "embedding")
        self.default = next(writing, registry.default_fusion)
        self._aliases: dict[str, ServedModel] = {}
        for alias, id in (aliases or {}).items():
            try:
                self._aliases[alias] = replace(self.find(id), id=alias)
            except ApiError as error:
                raise InputError(f"--alias {alias}={id}: {error}") from None
        self._answers_any = answers_any

    def find(self, id: str) -> ServedModel:
        """The model for ``name`` or ``name:mode``, or for an alias in its place.

        ":latest" at the end is Ollama's way to say nothing more. Looks for the files of all models
        if there is no such model. Raises ApiError.
        """
        if id in self._aliases:
            return self._aliases[id]
        name, colon, mode = id.removesuffix(LATEST).partition(":")
        known = {model.name: model for model in self._all()} | self._aliases
        if name not in known:
            if self._answers_any and self.default in known:
                return replace(known[self.default], id=id)
            there = [model.id for model in self.listed()]
            raise model_not_found(id[:100], nearest(name, known), there)
        model = known[name]
        if not colon:
            return model
        if mode not in model.modes:
            known_modes = ", ".join(model.modes) or "none"
            raise invalid(
                f"{name} has no mode {mode[:60]!r}; its modes are {known_modes}.",
                "model",
                "model_not_found",
            )
        return replace(model, id=id, settings=replace(model.settings, mode=cast(Mode, mode)))

    def answering(self, id: str) -> ServedModel:
        """The model of that name, which must be able to write. Raises ApiError."""
        model = self.find(id)
        if model.kind == "embedding":
            raise invalid(
                f"{model.name} is an embedding model, which cannot write answers. It is for "
                "/v1/embeddings.",
                "model",
                "wrong_kind_of_model",
            )
        return model

    def embedding(self, id: str) -> ServedModel:
        """The embedding model of that name. Raises ApiError."""
        model = self.find(id)
        if model.kind != "embedding":
            others = [other.name for other in self._all() if other.kind == "embedding"]
            raise invalid(
                f"{model.name} is not an embedding model; models.toml has "
                f"{', '.join(others[:_MOST_NAMED]) or 'none'}.",
                "model",
                "wrong_kind_of_model",
            )
        return model

    def listed(self) -> Iterator[ServedModel]:
        """The models whose files are all on this machine, and their aliases."""
        found: dict[str, bool] = {}
        for model in (*self._all(), *self._aliases.values()):
            for spec in model.sources:
                if spec.name not in found:
                    found[spec.name] = self._lists_all or file_of(spec) is not None
            if all(found[name] for name in model.names):
                yield model

    def _all(self) -> Iterator[ServedModel]:
        """All models, the default first: clients take that. A fusion hides a source of its name."""
        registry = self._registry
        fusions, sources = list(registry.fusions), list(registry.sources)
        if self._fusions or self._alone:
            fusions = self._fusions
            inner = (name for fusion in fusions for name in registry.fusions[fusion].sources)
            sources = list(dict.fromkeys([*inner, *self._alone]))
        models = [self._fusion(name) for name in fusions]
        models += [self._source(name) for name in sources if name not in fusions]
        yield from sorted(models, key=lambda model: model.name != self.default)

    def _fusion(self, name: str) -> ServedModel:
        specs, settings = choose(self._registry, name, ())
        description = self._registry.fusions[name].description
        return ServedModel(name, name, "fusion", description, tuple(specs), settings)

    def _source(self, name: str) -> ServedModel:
        spec = self._registry.source(name)
        settings = Settings(mode="single")
        return ServedModel(name, name, _alone(spec), spec.description, (spec,), settings)


def kind_of(registry: Registry, name: str) -> Kind:
    """The kind of a model; a fusion hides a source of its name. Raises ConfigError."""
    spec = registry.sources.get(name)
    if spec is None or name in registry.fusions:
        registry.fusion(name)  # an error if it does not exist
        return "fusion"
    return _alone(spec)


def _alone(spec: SourceSpec) -> Kind:
    """The kind of a model that is one source."""
    return "embedding" if spec.kind == "embedding" else "source"


class ModelDetails(TypedDict):
    """What OpenAI's interface has no field for."""

    kind: Kind
    description: str | None
    modes: list[str]
    sources: list[str]
    default: bool
    loaded: bool
    loading: float | None


class ModelFields(TypedDict):
    """A model as ``/v1/models`` shows it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    cf_local: ModelDetails


def as_openai(
    model: ServedModel, created: int, *, is_default: bool, is_loaded: bool, loading: float | None
) -> ModelFields:
    """A model as ``/v1/models`` shows it."""
    return {
        "id": model.id,
        "object": "model",
        "created": created,
        "owned_by": "cf-local",
        "cf_local": {
            "kind": model.kind,
            "description": model.description,
            "modes": list(model.modes),
            "sources": list(model.names),
            "default": is_default,
            "loaded": is_loaded,
            "loading": loading,
        },
    }


def file_of(spec: SourceSpec) -> Path | None:
    """The file of a source if it is on this machine; the first part of a split one."""
    path = spec.local_path
    try:
        if path is None:
            path = hub.cached(str(spec.repo), spec.file, spec.revision, spec.quant)
        return path if path is not None and path.is_file() else None
    except (MissingModelError, OSError):
        return None
