"""The GGUF files on this machine, in the folders where people's tools keep them.

Hugging Face hub, LM Studio, Ollama, llama.cpp, ``~/models`` and the current folder. Nothing is sent
and no model is opened. Left out: what the files contain (``llama.inspection``).
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from cf_local import files, hub

_DEEP = 8  # folders below one that is named, or one of a tool
_NEAR = 2  # below the current folder, which may be a home
_MODEL_LAYER = "application/vnd.ollama.image.model"
_SUFFIX = ".gguf"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A GGUF file; of a split model, the first part.

    ``owner`` is the tool that keeps it. ``label`` is what its owner calls it: the name of the file,
    or one such as "llama3.2:3b". ``repo`` and ``file`` name it on the hub, if it is from there.
    """

    path: Path
    owner: str
    label: str
    repo: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A folder to look into, up to ``depth`` folders deep."""

    owner: str
    folder: Path
    depth: int = _DEEP


def discover(named: Sequence[Path] = ()) -> list[FoundFile]:
    """All GGUF files in the usual places and in the ``named`` folders, each once.

    A file that several tools share counts as the hub's, then as Ollama's, which have names for it.
    """
    once: dict[str, FoundFile] = {}
    for found in _all(named):
        once.setdefault(os.path.realpath(found.path), found)
    return list(once.values())


def places(named: Sequence[Path] = ()) -> list[Place]:
    """The folders that exist, the named ones first; without the hub's and Ollama's."""
    found = [Place("named folder", folder) for folder in named]
    with suppress(FileNotFoundError):  # the current folder was deleted
        found.append(Place("current folder", Path.cwd(), _NEAR))
    found += [Place("LM Studio", folder) for folder in _lm_studio()]
    found.append(Place("llama.cpp", _llama_cpp()))
    found.append(Place("~/models", _home() / "models"))
    return [place for place in found if place.folder.is_dir()]


def _all(named: Sequence[Path]) -> Iterator[FoundFile]:
    yield from _hub()
    for folder in _ollama():
        yield from _ollama_models(folder)
    for place in places(named):
        for path in _files(place.folder, place.depth):
            yield FoundFile(path.absolute(), place.owner, path.name)


def _hub() -> Iterator[FoundFile]:
    """Each file of the hub's cache once: in the revision that a load would use."""
    seen = set()
    for model in hub.inventory().models:
        key = (model.repo, model.file)
        if key in seen:
            continue
        seen.add(key)
        path = hub.cached(model.repo, model.file)
        if path is not None:
            name = model.file.rpartition("/")[2]
            yield FoundFile(path, "Hugging Face hub", name, model.repo, model.file)


def _home() -> Path:
    """The home folder; a path that does not exist if there is none."""
    return Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises without a home


def _lm_studio() -> Iterator[Path]:
    """LM Studio's folders of models: a pointer names its home, its settings another folder."""
    homes = [_home() / ".lmstudio", _home() / ".cache" / "lm-studio"]
    with suppress(OSError, ValueError):
        named = (_home() / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip()
        if named:
            homes.insert(0, Path(named))
    for home in homes:
        yield home / "models"
        with suppress(OSError, ValueError, TypeError, KeyError):
            settings = json.loads((home / "settings.json").read_text(encoding="utf-8"))
            yield Path(settings["downloadsFolder"])


def _llama_cpp() -> Path:
    """The folder in which ``llama-server -hf`` and the like keep their downloads."""
    if named := os.environ.get("LLAMA_CACHE"):
        return Path(named)
    return platformdirs.user_cache_path("llama.cpp", appauthor=False, opinion=False)


def _ollama() -> Iterator[Path]:
    """The folders of Ollama's models: of this user, and of the service on Linux."""
    if named := os.environ.get("OLLAMA_MODELS"):
        yield Path(named)
    yield _home() / ".ollama" / "models"
    if sys.platform == "linux":
        yield Path("/usr/share/ollama/.ollama/models")
        yield Path("/var/lib/ollama/.ollama/models")


def _ollama_models(folder: Path) -> Iterator[FoundFile]:
    """The models of Ollama's manifests. A blob is a GGUF file named by its checksum."""
    root = folder / "manifests"
    for manifest in sorted(_files(root, _DEEP, suffix="")):
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            layers = json.loads(manifest.read_text(encoding="utf-8"))["layers"]
            digest = next(one["digest"] for one in layers if one["mediaType"] == _MODEL_LAYER)
            blob = folder / "blobs" / digest.replace(":", "-")
            if blob.is_file():
                yield FoundFile(blob, "Ollama", f"{manifest.parent.name}:{manifest.name}")


def _files(folder: Path, depth: int, suffix: str = _SUFFIX) -> Iterator[Path]:
    """The files below a folder with that suffix, first parts only; hidden folders are left out."""
    top = len(folder.parts)
    for where, folders, names in os.walk(folder):
        here = Path(where)
        is_deep = len(here.parts) - top >= depth
        folders[:] = [] if is_deep else sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(suffix) and files.parts(name)[0] == name:
                path = here / name
                if path.is_file():  # not a link to nothing
                    yield path
