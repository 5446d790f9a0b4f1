"""The models that clients can name: fusions and sources of the registry, and their modes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from typing_extensions import TypedDict

from cf_local import hub
from cf_local.errors import MissingModelError
from cf_local.loading.load import choose
from cf_local.registry.registry import Registry, SourceSpec
from cf_local.registry.toml import nearest
from cf_local.server.api_errors import invalid, model_not_found
from cf_local.settings import Settings
from cf_local.types import MODES, Mode

_SINGLE = ("single",)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A fusion or a source, as clients name it; ``id`` may include a mode."""

    id: str
    name: str
    kind: Literal["fusion", "source"]
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
        return MODES if self.kind == "fusion" else _SINGLE


class Catalogue:
    """The models of the registry when the server started; only these names can open a file."""

    def __init__(self, registry: Registry, fusions: Sequence[str] = ()) -> None:
        """Serve ``fusions`` and their sources, the first as the default; if empty, all models.

        Raises ConfigError for an unknown fusion.
        """
        self._registry = registry
        self.fusions = [registry.fusion(name).name for name in fusions]
        self.default = self.fusions[0] if self.fusions else registry.default_fusion

    def find(self, id: str) -> ServedModel:
        """The model for ``name`` or ``name:mode``. Raises ApiError."""
        name, colon, mode = id.partition(":")
        known = {model.name: model for model in self._all()}
        if name not in known:
            raise model_not_found(id[:100], nearest(name, known))
        model = known[name]
        if not colon:
            return model
        if mode not in model.modes:
            raise invalid(
                f"{name} has no mode {mode[:60]!r}; its modes are {', '.join(model.modes)}.",
                "model",
                "model_not_found",
            )
        return replace(model, id=id, settings=replace(model.settings, mode=cast(Mode, mode)))

    def listed(self) -> Iterator[ServedModel]:
        """The models whose files are all on this machine."""
        found: dict[str, bool] = {}
        for model in self._all():
            for spec in model.sources:
                if spec.name not in found:
                    found[spec.name] = _is_here(spec)
            if all(found[name] for name in model.names):
                yield model

    def _all(self) -> Iterator[ServedModel]:
        """All models, fusions first; a fusion hides a source of the same name."""
        registry = self._registry
        fusions = self.fusions or list(registry.fusions)
        sources = registry.sources
        if self.fusions:
            sources = {n: sources[n] for f in fusions for n in registry.fusions[f].sources}
        for name in fusions:
            specs, settings = choose(registry, name, ())
            description = registry.fusions[name].description
            yield ServedModel(name, name, "fusion", description, tuple(specs), settings)
        for name, spec in sources.items():
            if name not in fusions:
                yield ServedModel(
                    name, name, "source", spec.description, (spec,), Settings(mode="single")
                )


class ModelDetails(TypedDict):
    """What OpenAI's interface has no field for."""

    kind: Literal["fusion", "source"]
    description: str | None
    modes: list[str]
    sources: list[str]
    default: bool
    loaded: bool


class ModelFields(TypedDict):
    """A model as ``/v1/models`` shows it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    cf_local: ModelDetails


def as_openai(
    model: ServedModel, created: int, *, is_default: bool, is_loaded: bool
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
        },
    }


def _is_here(spec: SourceSpec) -> bool:
    path = spec.local_path
    try:
        if path is None:
            path = hub.cached(str(spec.repo), spec.file, spec.revision, spec.quant)
        return path is not None and path.is_file()
    except (MissingModelError, OSError):
        return False
