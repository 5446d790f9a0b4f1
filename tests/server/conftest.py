"""Servers, models and pages that several tests of the server use."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser import Page
    from serving import Served

if not (find_spec("fastapi") and find_spec("uvicorn")):  # the extra cf-local[server]
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    from serving import serving

    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page in a browser of its own."""
    from browser import browser

    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="session")
def tiny_models_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models.toml with a source that thinks, one that fills gaps, and a file that is broken."""
    tiny = pytest.importorskip("tiny_models", reason="tiny models need the gguf package")
    folder = tmp_path_factory.mktemp("tiny")
    template = "{% for m in messages %}{{ m.content }}{% endfor %}<think>"
    tiny.make_model(
        folder / "thinker.gguf", "llama", tiny.bpe_vocab(), seed=1, chat_template=template
    )
    tiny.make_model(folder / "coder.gguf", "qwen2", tiny.bpe_vocab(more=tiny.GAP), seed=2)
    tiny.make_not_gguf(folder / "broken.gguf")
    names = ("thinker", "coder", "broken")
    text = "".join(f'[sources.{name}]\nfile = "{name}.gguf"\n' for name in names)
    (folder / "models.toml").write_text(text, encoding="utf-8")
    return folder / "models.toml"


@pytest.fixture(scope="session")
def bert_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models.toml with an embedding model: a tiny BERT of 32 numbers, 64 tokens of context."""
    tiny = pytest.importorskip("tiny_models", reason="tiny models need the gguf package")
    folder = tmp_path_factory.mktemp("bert")
    tiny.make_embedding_model(folder / "bert.gguf")
    text = '[sources.bert]\nkind = "embedding"\nfile = "bert.gguf"\ndescription = "Tiny"\n'
    (folder / "models.toml").write_text(text, encoding="utf-8")
    return folder / "models.toml"
