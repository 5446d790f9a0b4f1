"""``cf-local show``: describes a model from the header of its file, without loading weights."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cf_local import hub
from cf_local.cli import columns, completing, registry_view
from cf_local.errors import BrokenModelError, MissingModelError
from cf_local.registry.model_names import ORIGIN, spec_of
from cf_local.registry.registry import Registry, SourceSpec, load_registry

if TYPE_CHECKING:
    from cf_local.llama.card import Card

_CHEAP_BYTES = 100_000_000  # a file of this size is hashed in a fraction of a second

_CACHES = {
    "attention": "attention; forks share a prefix, and any end of a text can be removed",
    "sliding window": "attention over a sliding window of {window} tokens; forks share a prefix, "
    "and the last {window} tokens can be removed",
    "recurrent": "recurrent; forks work, but a text can only be removed as a whole: "
    "speculation gains less",
    "hybrid": "recurrent and attention; forks work, but a text can only be removed as a whole: "
    "speculation gains less",
}


@click.command()
@click.argument("model", metavar="NAME|FILE|ORG/REPO", shell_complete=completing.names)
@click.option("--template", "only_template", is_flag=True, help="Print only the chat template.")
@click.option("--metadata", "all_metadata", is_flag=True, help="Also print all metadata.")
@click.option("--sha256", "hashes", is_flag=True, help="Compute the SHA-256 even of a large file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(model: str, only_template: bool, all_metadata: bool, hashes: bool, as_json: bool) -> None:
    """Describe a model or a fusion.

    NAME is a source or fusion of models.toml; org/repo[:QUANT] is on the hub. For a model, reads
    the header of the file, not the weights. Sends nothing. Exit code 3 means that the model is not
    on this machine, 4 that the file is broken or cannot be fused.
    """
    registry = load_registry()
    if model in registry.fusions and model not in registry.sources:
        _show_fusion(registry, model, as_json=as_json)
        return
    spec = spec_of(registry, model)
    path = _find(spec)
    if path is None:
        _show_missing(spec, model, as_json=as_json)
        return
    from cf_local.llama.inspection import inspect  # here: it loads the native library

    card = inspect(path)
    if only_template:
        _print_template(spec, card, path)
    elif as_json:
        record = _as_json(registry, spec, card, path, hashes=hashes)
        click.echo(json.dumps(record, ensure_ascii=False, indent=2))
    else:
        rows = [row for row in _rows(registry, spec, card, path, hashes=hashes) if row[1]]
        lines = columns.lines(rows)
        if all_metadata:
            lines += ["", *columns.lines(_metadata(card))]
        click.echo("\n".join(map(_printable, lines)))
    if card.problem:
        raise BrokenModelError(card.problem)


def _show_fusion(registry: Registry, name: str, *, as_json: bool) -> None:
    """Print the sources and settings of a fusion."""
    if not as_json:
        registry_view.show_fusion(registry, registry.fusions[name])
        click.echo(f"All settings and where they come from: cf-local config show {name}")
        return
    whole = registry_view.as_json(registry)
    (fusion,) = (each for each in whole["fusions"] if each["name"] == name)
    sources = [each for each in whole["sources"] if each["name"] in fusion["sources"]]
    record = fusion | {"is_default": name == registry.default_fusion, "sources": sources}
    click.echo(json.dumps(record, ensure_ascii=False, indent=2))


def _find(spec: SourceSpec) -> Path | None:
    """The file if it is on this machine; a path from the command line is returned in any case."""
    if spec.repo is not None:
        return hub.cached(spec.repo, spec.file, spec.revision, spec.quant, nearest=not spec.file)
    path = spec.local_path
    return path if path is not None and (spec.origin == ORIGIN or path.exists()) else None


def _show_missing(spec: SourceSpec, model: str, *, as_json: bool) -> None:
    """Print what is known without the file; raises MissingModelError, which says how to get it."""
    if as_json:
        click.echo(json.dumps({**asdict(spec), "path": None}, ensure_ascii=False, indent=2))
    else:
        rows = [(key, str(value)) for key, value in _known(spec) if value not in (None, "")]
        click.echo("\n".join(columns.lines(rows)))
    if spec.repo is None:
        raise MissingModelError(
            f"{spec.origin} names {spec.file}, which does not exist. Correct the path, or remove "
            f"the entry: cf-local rm {spec.name}."
        )
    raise MissingModelError(f"{model} is not on this machine. Get it: cf-local pull {model}")


def _known(spec: SourceSpec) -> Iterator[tuple[str, object]]:
    yield "name", spec.name
    yield "repository", spec.repo
    yield "file", spec.file
    yield "quantization", spec.quant
    yield "revision", spec.revision
    yield "licence", spec.licence
    yield "size", None if spec.size_bytes is None else columns.size(spec.size_bytes)
    yield "description", spec.description
    yield "from", spec.origin


def _rows(
    registry: Registry, spec: SourceSpec, card: "Card", path: Path, *, hashes: bool
) -> Iterator[tuple[str, str]]:
    """Titles and texts, the most wanted first; an empty text for what is not known."""
    meta = card.metadata
    yield "name", spec.name
    yield "calls itself", str(meta.get("general.name", ""))
    yield "description", spec.description or ""
    yield "architecture", card.architecture
    yield "parameters", columns.count(card.n_parameters)
    types = ", ".join(f"{n} tensors {kind}" for kind, n in card.tensor_types.items())
    yield "quantization", f"{card.file_type or 'not given'} ({types or 'no tensors'})"
    yield "layers", _layers(card)
    yield "embeddings", f"pooling {card.pooling}" if card.pooling else ""
    yield "context", f"{card.n_ctx_train} tokens trained" if card.n_ctx_train else ""
    yield "", f"{spec.context} tokens according to models.toml" if spec.context else ""
    yield "vocabulary", _vocabulary(card)
    yield "special tokens", ", ".join(f"{k} {v[1]!r}" for k, v in card.special_tokens.items())
    yield "chat template", _template(spec, card) if card.cache else ""
    yield "cache", _CACHES[card.cache].format(window=card.window) if card.cache else ""
    yield "licence", str(spec.licence or meta.get("general.license", "") or "not given")
    parts = f" in {card.n_parts} files" if card.n_parts > 1 else ""
    yield "size", f"{columns.size(card.n_bytes)}{parts}"
    yield "file", str(path)
    yield "sha256", _sha256(path, hashes=hashes) or "not read (--sha256 reads the whole file)"
    yield "repository", f"{spec.repo} {spec.revision or ''}".strip() if spec.repo else ""
    yield "from", ", ".join(registry.layers("sources", spec.name)) or spec.origin


def _layers(card: "Card") -> str:
    def meta(key: str) -> Any:
        return card.metadata.get(f"{card.architecture}.{key}")

    parts = [
        f"{meta('block_count')}" if meta("block_count") else "",
        f"width {meta('embedding_length')}" if meta("embedding_length") else "",
        f"{meta('attention.head_count')} heads" if meta("attention.head_count") else "",
        f"{meta('attention.head_count_kv')} for keys and values"
        if meta("attention.head_count_kv")
        else "",
        f"{meta('expert_count')} experts" if meta("expert_count") else "",
    ]
    return ", ".join(part for part in parts if part)


def _vocabulary(card: "Card") -> str:
    pre = card.metadata.get("tokenizer.ggml.pre")
    kind = f"{card.vocabulary or 'of unknown kind'}"
    return f"{card.n_tokens} tokens, {kind}" + (f", {pre}" if pre not in (None, "default") else "")


def _template(spec: SourceSpec, card: "Card") -> str:
    if spec.template is not None:
        return "from models.toml, instead of the file's"
    if card.template is None:
        return "none; 'User: / Assistant:' is used"
    if card.template_error is not None:
        return f"invalid: {card.template_error}"
    return f"{len(card.template)} characters, valid (--template prints it)"


def _print_template(spec: SourceSpec, card: "Card", path: Path) -> None:
    template = spec.template or card.template
    if template is None:
        raise BrokenModelError(f"{path} has no chat template.")
    click.echo(_printable(template, allowed="\n\t"))


def _printable(text: str, allowed: str = "") -> str:
    """Text with control characters replaced: text from a file may hold terminal commands."""
    return "".join(
        c if c.isprintable() or c in allowed else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _metadata(card: "Card") -> list[tuple[str, str]]:
    """All keys, with long texts cut."""
    rows = [(key, " ".join(str(value).split())[:100]) for key, value in card.metadata.items()]
    return rows + [(key, f"[{n} elements]") for key, n in card.lengths.items()]


def _sha256(path: Path, *, hashes: bool) -> str | None:
    """The SHA-256 if it is cheap: from the name in the hub's cache, or of a small file."""
    is_named = len(path.resolve().name) == 64
    if hashes or is_named or path.stat().st_size <= _CHEAP_BYTES:
        return hub.sha256(path)
    return None


def _as_json(
    registry: Registry, spec: SourceSpec, card: "Card", path: Path, *, hashes: bool
) -> dict[str, Any]:
    return {
        "name": spec.name,
        "path": str(path),
        "sha256": _sha256(path, hashes=hashes),
        "licence": spec.licence or card.metadata.get("general.license"),
        "source": asdict(spec),
        "defined_in": registry.layers("sources", spec.name),
        **asdict(card),
        "can_fork": card.cache is not None,
        "can_take_back_a_part": card.cache in ("attention", "sliding window"),
    }
