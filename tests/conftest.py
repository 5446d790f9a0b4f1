"""Fixtures shared by all tests: quiet native logs and tiny random models, each written once."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hub_server import HubServer

from cf_local.llama.library import lib  # first of all: it sets how OpenMP's threads wait

pytest.register_assert_rewrite("browser", "checked_run", "contract", "scripted")

# A busy machine fails no test: what takes how long is measured by benchmarks.
hypothesis.settings.register_profile("cf-local", deadline=None)
hypothesis.settings.load_profile("cf-local")

# Runs of punctuation, each mark a word of its own: vocabularies cut them in different places.
GLUED = """(The quick), "brown". (The fox): "it jumps!" The (lazy) "dog"... She "sells", (24) \
"shells"; (for) "68". The (fox), "is" (running). "It (is)!" "(The)," she: "(quick)." The "dog"...
"""


@pytest.fixture(scope="session", autouse=True)
def _quiet_llama_cpp() -> Iterator[None]:
    """llama.cpp prints its log until a cf_local model is opened; the reference opens its own."""
    callback = lib.llama_log_callback(lambda _level, _text, _data: None)
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    yield
    del callback  # llama.cpp called it until now


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept to save time is not the user's."""
    former = os.environ.get("CF_LOCAL_CACHE")
    os.environ["CF_LOCAL_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if former is None:
        del os.environ["CF_LOCAL_CACHE"]
    else:
        os.environ["CF_LOCAL_CACHE"] = former


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny_model(arch, vocab="bpe", seed=1, **make_model_arguments)`` -> path, written once."""
    tiny = pytest.importorskip("tiny_models", reason="tiny models need the gguf package")
    folder = tmp_path_factory.mktemp("tiny")
    vocabs = {
        "bpe": tiny.bpe_vocab(),
        "spm": tiny.spm_vocab(),
        "small": tiny.bpe_vocab(n_merges=40),
        "glued": tiny.bpe_vocab(GLUED, n_merges=300),
        "split": tiny.bpe_vocab(GLUED, n_merges=25),
        "code": tiny.bpe_vocab(more=tiny.GAP),
        "spm-glued": tiny.spm_vocab(GLUED, n_merges=100),
    }

    def make(arch: str, vocab: str = "bpe", *, seed: int = 1, **options: object) -> Path:
        values = {k: getattr(v, "__name__", v) for k, v in sorted(options.items())}
        named = "".join(f"-{key}={value}" for key, value in values.items())
        path = folder / f"{arch}-{vocab}-{seed}{named}.gguf"
        if not path.exists():
            tiny.make_model(path, arch, vocabs[vocab], seed=seed, **options)
        return path

    return make


@pytest.fixture(scope="session")
def ray_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Ray cluster of the nodes "a" and "b" on loopback; ``address`` is that of its head."""
    pytest.importorskip("ray")
    from ray_cluster import several_nodes

    from cf_local.cluster.connection import connect

    with several_nodes("a", "b") as nodes, connect(nodes.address):
        yield nodes


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub on this machine and an empty cache; huggingface_hub read the environment long ago."""
    from huggingface_hub import constants

    from cf_local.hub import connection, transfer

    with HubServer() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
        monkeypatch.setattr(connection, "FIRST_WAIT_S", 0.002)
        monkeypatch.setattr(transfer, "_POLL_S", 0.002)  # most downloads of tests are over at once
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield hub
