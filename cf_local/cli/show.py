"""``cf-local show``: what a model is, from the header of its file; no weights are loaded."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cf_local import hub
from cf_local.cli import columns
from cf_local.errors import BrokenModelError, MissingModelError
from cf_local.registry.model_names import ORIGIN, spec_of
from cf_local.registry.registry import Registry, SourceSpec, load_registry

if TYPE_CHECKING:
    from cf_local.llama.card import Card

_CHEAP_BYTES = 100_000_000  # read in a fraction of a second, to tell its SHA-256

_CACHES = {
    "attention": "attention; forks share a prefix, and any end of a text can be taken back",
    "sliding window": "attention over a sliding window of {window} tokens; forks share a prefix, "
    "and the last {window} tokens can be taken back",
    "recurrent": "recurrent; forks work, but a text can only be taken back as a whole: "
    "speculation gains less",
    "hybrid": "recurrent and attention; forks work, but a text can only be taken back as a whole: "
    "speculation gains less",
}


@click.command()
@click.argument("model", metavar="NAME|FILE|ORG/REPO")
@click.option("--template", "only_template", is_flag=True, help="Print the chat template, only.")
@click.option("--metadata", "all_metadata", is_flag=True, help="Print all metadata, too.")
@click.option("--sha256", "hashes", is_flag=True, help="Read a large file, too, for its SHA-256.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(model: str, only_template: bool, all_metadata: bool, hashes: bool, as_json: bool) -> None:
    """Show what a model is: a source of models.toml, a .gguf file, or org/repo[:QUANT] of the hub.

    Reads the header of the file, no weights; sends nothing. Exit code 3 for a model that is not on
    this machine, 4 for a file that is broken or cannot be fused.
    """
    registry = load_registry()
    spec = _spec_of(registry, model)
    path = _find(spec)
    if path is None:
        _tell_missing(spec, model, as_json=as_json)
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


def _spec_of(registry: Registry, model: str) -> SourceSpec:
    """The source; a fusion is shown by `config show`."""
    if model in registry.fusions and model not in registry.sources:
        sources = ", ".join(registry.fusions[model].sources)
        raise click.UsageError(
            f"{model} is a fusion of {sources}. Show one of these, or: cf-local config show {model}"
        )
    return spec_of(registry, model)


def _find(spec: SourceSpec) -> Path | None:
    """The file on this machine; a path that the user names is looked at in any case."""
    if spec.repo is not None:
        return hub.cached(spec.repo, spec.file, spec.revision, spec.quant, nearest=not spec.file)
    path = spec.local_path
    return path if path is not None and (spec.origin == ORIGIN or path.exists()) else None


def _tell_missing(spec: SourceSpec, model: str, *, as_json: bool) -> None:
    """What is known without the file; raises MissingModelError, which says how to get it."""
    if as_json:
        click.echo(json.dumps({**asdict(spec), "path": None}, ensure_ascii=False, indent=2))
    else:
        rows = [(key, str(value)) for key, value in _known(spec) if value not in (None, "")]
        click.echo("\n".join(columns.lines(rows)))
    if spec.repo is None:
        raise MissingModelError(
            f"{spec.file}, which {spec.origin} names, is not there. Correct the path, or remove "
            f"the entry: cf-local models remove {spec.name}."
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
    """What people want to know of a model, in their order; empty where it is not known."""
    meta = card.metadata
    yield "name", spec.name
    yield "calls itself", str(meta.get("general.name", ""))
    yield "description", spec.description or ""
    yield "architecture", card.architecture
    yield "parameters", _count(card.n_parameters)
    types = ", ".join(f"{n} tensors {kind}" for kind, n in card.tensor_types.items())
    yield "quantization", f"{card.file_type or 'not told'} ({types or 'no tensors'})"
    yield "layers", _layers(card)
    yield "context", f"{card.n_ctx_train} tokens trained" if card.n_ctx_train else ""
    yield "", f"{spec.context} tokens by models.toml" if spec.context else ""
    yield "vocabulary", _vocabulary(card)
    yield "special tokens", ", ".join(f"{k} {v[1]!r}" for k, v in card.special_tokens.items())
    yield "chat template", _template(spec, card)
    yield "cache", _CACHES[card.cache].format(window=card.window) if card.cache else ""
    yield "licence", str(spec.licence or meta.get("general.license", "") or "not told")
    parts = f" in {card.n_parts} files" if card.n_parts > 1 else ""
    yield "size", f"{columns.size(card.n_bytes)}{parts}"
    yield "file", str(path)
    yield "sha256", _sha256(path, hashes=hashes) or "not read (--sha256 reads the whole file)"
    yield "repository", f"{spec.repo} {spec.revision or ''}".strip() if spec.repo else ""
    yield "from", ", ".join(registry.layers("sources", spec.name)) or spec.origin


def _layers(card: "Card") -> str:
    def told(key: str) -> Any:
        return card.metadata.get(f"{card.architecture}.{key}")

    parts = [
        f"{told('block_count')}" if told("block_count") else "",
        f"width {told('embedding_length')}" if told("embedding_length") else "",
        f"{told('attention.head_count')} heads" if told("attention.head_count") else "",
        f"{told('attention.head_count_kv')} for keys and values"
        if told("attention.head_count_kv")
        else "",
        f"{told('expert_count')} experts" if told("expert_count") else "",
    ]
    return ", ".join(part for part in parts if part)


def _vocabulary(card: "Card") -> str:
    pre = card.metadata.get("tokenizer.ggml.pre")
    kind = f"{card.vocabulary or 'of a kind not told'}"
    return f"{card.n_tokens} tokens, {kind}" + (f", {pre}" if pre not in (None, "default") else "")


def _template(spec: SourceSpec, card: "Card") -> str:
    if spec.template is not None:
        return "of models.toml, in place of the file's"
    if card.template is None:
        return "none: 'User: / Assistant:' is used"
    if card.template_error is not None:
        return f"cannot be parsed: {card.template_error}"
    return f"{len(card.template)} characters, can be parsed (--template prints it)"


def _print_template(spec: SourceSpec, card: "Card", path: Path) -> None:
    template = spec.template or card.template
    if template is None:
        raise BrokenModelError(f"{path} has no chat template.")
    click.echo(_printable(template, kept="\n\t"))


def _printable(text: str, kept: str = "") -> str:
    """Text of a file of others, which might command the terminal: control characters replaced."""
    return "".join(c if c.isprintable() or c in kept else "\N{REPLACEMENT CHARACTER}" for c in text)


def _metadata(card: "Card") -> list[tuple[str, str]]:
    """All keys; long texts are cut."""
    rows = [(key, " ".join(str(value).split())[:100]) for key, value in card.metadata.items()]
    return rows + [(key, f"[{n} elements]") for key, n in card.lengths.items()]


def _count(number: int) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)


def _sha256(path: Path, *, hashes: bool) -> str | None:
    """The SHA-256 where it is cheap to tell: by the name in the hub's cache, or a small file."""
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
