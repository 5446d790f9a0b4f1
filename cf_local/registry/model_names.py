"""The names that a user may give for a model: an alias, a repository on the hub, a path."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cf_local.errors import InputError
from cf_local.registry.registry import BUILTIN_PREFIX, Registry, SourceSpec

ORIGIN = "command line"
_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/(?:models/)?"
    r"(?P<repo>[\w-][\w.-]*/[\w.-]+?)"
    r"(?::(?P<quant>[\w./-]+)|/(?:blob|resolve|tree)/(?P<revision>[\w.-]+)(?:/(?P<file>[^?#]+))?)?"
    r"/?(?:[?#].*)?",
    re.ASCII,
)
_REPO = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(:(?P<quant>[\w./-]+))?", re.ASCII)


def spec_of(registry: Registry, model: str | Path) -> SourceSpec:
    """The source with that name: an alias, ``org/repo``, ``org/repo:QUANT``, or a path.

    A repository may be written as on the hub's pages, ``hf.co/org/repo:QUANT`` or the address of
    a page. What exists on the disk is that file, whatever its name looks like; an alias comes
    before a file of the same name, which ``./name`` names.

    Raises ConfigError if it is none of them, InputError for a path that cannot be one.
    """
    text = str(model)
    if isinstance(model, str) and text in registry.sources:
        return registry.source(text)
    path = _path(text)
    if isinstance(model, Path) or _exists(path):
        return SourceSpec(name=_text_of(path.stem), file=str(path), origin=ORIGIN)
    if page := _PAGE.fullmatch(text):
        return _of_page(page, text)
    match = _REPO.fullmatch(text)
    is_named_file = path.suffix.lower() == ".gguf" and ":" not in text
    if match and not is_named_file:
        return _of_repo(match["repo"], match["quant"])
    is_written_as_path = any(sep in text for sep in "/\\") or text.startswith((".", "~"))
    if path.suffix.lower() == ".gguf" or is_written_as_path:
        return SourceSpec(name=_text_of(path.stem), file=str(path), origin=ORIGIN)
    return registry.source(text)


def _text_of(name: str) -> str:
    """A file's name as text: "?" replaces bytes that are not UTF-8."""
    return name.encode(errors="replace").decode()


def specs_of(registry: Registry, name: str) -> list[SourceSpec]:
    """Like ``spec_of``, but for the name of a fusion the specs of all its sources."""
    if name in registry.fusions and name not in registry.sources:
        return [registry.source(source) for source in registry.fusions[name].sources]
    return [spec_of(registry, name)]


def hub_spec_of(registry: Registry, name: str) -> SourceSpec:
    """The source of that name. Raises InputError if it is not a file on the hub."""
    spec = spec_of(registry, name)
    if spec.repo is None:
        is_builtin = spec.file.startswith(BUILTIN_PREFIX)
        what = "comes with cf-local" if is_builtin else f"is the file {spec.file}"
        raise InputError(f"{name} {what}: it is not a download, so there is nothing to remove.")
    return spec


def distinct(specs: Sequence[SourceSpec]) -> list[SourceSpec]:
    """The specs under different names: the second "model" becomes "model-2"."""
    named: dict[str, SourceSpec] = {}
    for spec in specs:
        candidates = (spec.name, *(f"{spec.name}-{n}" for n in range(2, len(specs) + 1)))
        name = next(name for name in candidates if name not in named)
        named[name] = replace(spec, name=name)
    return list(named.values())


def _path(text: str) -> Path:
    """The path that a user means; "~" is the home folder, where there is one."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:  # no home, or no such user
        return path


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # of a folder above: opening it says so
        return True
    except (OSError, ValueError) as error:  # too long a name, a character NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{str(path)[:200]!r} cannot be a file: {reason}.") from None


def _of_page(page: re.Match[str], text: str) -> SourceSpec:
    """The model of an address on the hub: of a repository, with a quantization, or of a file."""
    file, revision = page["file"], page["revision"]
    if file is not None and not file.lower().endswith(".gguf"):
        raise InputError(f"{text} is not the address of a .gguf file. Name {page['repo']}.")
    spec = _of_repo(page["repo"], file or page["quant"])
    return replace(spec, revision=None if revision in (None, "main") else revision)


def _of_repo(repo: str, quant: str | None) -> SourceSpec:
    """A file on the hub that no models.toml names; ``quant`` may also be a file name."""
    name = re.sub(r"[-_.]gguf$", "", repo.partition("/")[2], flags=re.IGNORECASE)
    if quant is not None and quant.lower().endswith(".gguf"):
        return SourceSpec(name=name, file=quant, repo=repo, origin=ORIGIN)
    return SourceSpec(name=name, file="", repo=repo, quant=quant, origin=ORIGIN)
