"""Which models are proposed together, and what is said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cf_local.llama.card import Card
from cf_local.loading.candidates import Candidate, family_of, sort_out, why_not
from cf_local.loading.matching import choose_set, curated_set, download_bytes
from cf_local.registry.discovery import FoundFile
from cf_local.registry.registry import SourceSpec, load_registry

MODEL = Card(
    architecture="llama",
    metadata={},
    lengths={},
    n_parts=1,
    n_bytes=600,
    n_parameters=1000,
    file_type="Q4_K - Medium",
    tensor_types={},
    n_ctx_train=2048,
    vocabulary="",
    n_tokens=100,
    special_tokens={},
    template="{{ messages }}",
    template_error=None,
    cache="attention",
)


def model(
    name: str, billions: float, *, bits: float = 5.0, chats: bool = True, codes: bool = False
) -> Candidate:
    """A candidate whose family is the first word of its name."""
    n_parameters = int(billions * 1e9)
    path = Path(f"{name}.gguf")
    return Candidate(
        spec=SourceSpec(name, str(path), "test"),
        found=FoundFile(path, "test", path.name),
        n_parameters=n_parameters,
        n_bytes=int(n_parameters * bits / 8),
        family=name.partition("-")[0],
        identity=("llama", n_parameters, name.partition(":")[0]),
        quantization="Q4_K_M",
        chats=chats,
        codes=codes,
        is_new=True,
    )


def chosen(*candidates: Candidate, n_bytes: float = 1e12, on_gpu: bool = False) -> list[str]:
    def fits(members: Sequence[Candidate]) -> bool:
        return sum(one.n_bytes for one in members) <= n_bytes

    choice = choose_set(candidates, fits, on_gpu=on_gpu)
    return [one.name for one in choice.members] if choice else []


def test_three_of_different_families_and_similar_size() -> None:
    models = [model("qwen-3", 3), model("llama-3", 3.2), model("phi-3", 3.8), model("qwen-1", 1.5)]
    assert chosen(*models, model("tiny-1", 0.3)) == ["phi-3", "llama-3", "qwen-3"]


def test_what_does_not_fit_makes_room_for_what_does() -> None:
    models = [model("a-8", 8), model("b-7", 7), model("c-3", 3), model("d-3", 3.2)]
    assert chosen(*models, on_gpu=True) == ["a-8", "b-7", "d-3"]
    assert chosen(*models, n_bytes=5e9) == ["d-3", "c-3"]
    assert chosen(*models, n_bytes=2e9) == ["d-3"]
    assert chosen(*models, n_bytes=1e9) == []


def test_what_a_cpu_would_be_slow_with_is_for_a_gpu() -> None:
    models = [model(f"{name}-14", 14) for name in "abc"] + [model(f"{name}-3", 3) for name in "def"]
    assert chosen(*models) == ["d-3", "e-3", "f-3"]
    assert chosen(*models, on_gpu=True) == ["a-14", "b-14", "c-14"]


def test_sizes_too_far_apart_are_no_set() -> None:
    assert chosen(model("a-8", 8), model("b-1", 1)) == ["a-8"]
    assert chosen(model("a-8", 8), model("b-1", 1), model("c-1", 1.2)) == ["c-1", "b-1"]
    assert chosen(model("a-8", 8), model("b-7", 7), model("c-1", 1)) == ["a-8", "b-7"]


def test_another_family_rather_than_a_relative() -> None:
    models = [model("a-3", 3), model("a-4", 3.2), model("b-3", 2.8), model("c-3", 2.7)]
    assert chosen(*models) == ["a-4", "b-3", "c-3"]


def test_what_chats_rather_than_a_base_model_or_a_crushed_one() -> None:
    good = [model("a-3", 3), model("b-3", 3.1)]
    base, crushed = model("c-4", 4, chats=False), model("d-4", 4, bits=2.5)
    assert chosen(*good, base, model("e-3", 2.9)) == ["b-3", "a-3", "e-3"]
    assert chosen(*good, crushed, model("e-3", 2.9)) == ["b-3", "a-3", "e-3"]


def test_a_model_of_code_is_left_to_its_kind() -> None:
    models = [model("a-3", 3), model("b-3", 3.1), model("c-3", 3.2, codes=True)]
    assert chosen(*models, model("d-3", 2.5)) == ["b-3", "a-3", "d-3"]


def test_a_model_counts_once_in_its_usual_quantization() -> None:
    models = [model("a-3:8", 3, bits=8.5), model("a-3:4", 3, bits=4.9), model("a-3:16", 3, bits=16)]
    models = [replace(one, identity=("llama", 1, "a")) for one in models]
    assert chosen(*models, model("b-3", 3.1)) == ["b-3", "a-3:4"]


def test_a_line_about_each() -> None:
    models = [model("a-8", 8), model("b-8", 7.9), model("b-4", 4, chats=False), model("c-1", 1)]
    choice = choose_set(models, lambda _: True, on_gpu=True)
    assert choice is not None
    assert choice.reasons == ("the largest", "as large, another family")
    assert {one.name: why for one, why in choice.left_out} == {
        "b-4": "a base model without a chat template",
        "c-1": "much smaller than a-8",
    }


@pytest.mark.parametrize(
    ("card", "names", "why"),
    [
        (MODEL, "", None),
        (replace(MODEL, metadata={"general.type": "model"}), "qwen", None),
        (replace(MODEL, metadata={"general.type": "adapter"}), "", "an adapter"),
        (replace(MODEL, architecture="clip"), "", "a projector"),
        (replace(MODEL, metadata={"general.type": "imatrix"}), "", "an importance matrix"),
        (replace(MODEL, n_parameters=0), "", "a vocabulary"),
        (replace(MODEL, pooling="last"), "", "an embedding model"),
        (replace(MODEL, metadata={"llama.attention.causal": False}), "", "an embedding model"),
        (MODEL, "nomic-embed-text-v1.5.gguf", "an embedding model"),
        (MODEL, "bge-m3.gguf", "an embedding model"),
        (MODEL, "Qwen3-Reranker-0.6B.gguf", "a reranker"),
        (MODEL, "llama-guard3:8b", "a model that judges"),
        (replace(MODEL, problem="it is a diffusion model"), "", "it is a diffusion model"),
    ],
)
def test_what_is_no_language_model(card: Card, names: str, why: str | None) -> None:
    found = why_not(card, names)
    assert found == why if why is None else str(found).startswith(why)


@pytest.mark.parametrize(
    ("architecture", "metadata", "family"),
    [
        ("qwen2", {}, "qwen"),
        ("qwen3moe", {}, "qwen"),
        ("gemma3", {}, "gemma"),
        ("phi3", {}, "phi"),
        ("granite", {}, "granite"),
        ("mistral3", {}, "mistral"),
        ("llama", {"tokenizer.ggml.pre": "llama-bpe"}, "llama"),
        ("llama", {"tokenizer.ggml.pre": "smollm", "general.name": "x"}, "smollm"),
        ("llama", {"general.basename": "Mistral"}, "mistral"),
        ("llama", {"general.name": "TinyLlama 1.1B"}, "tinyllama"),
        ("llama", {}, "llama"),
    ],
)
def test_families(architecture: str, metadata: dict[str, str], family: str) -> None:
    card = replace(MODEL, architecture=architecture, metadata=dict(metadata))
    assert family_of(card) == family


def test_names_are_distinct_and_copies_count_once() -> None:
    registry = load_registry()
    files = [FoundFile(Path(f"/{n}/llama-3.2-1b-Q8_0.gguf"), "t", "llama-3.2-1b-Q8_0.gguf") for n in
             "abc"]  # fmt: skip
    cards = [MODEL, replace(MODEL, n_bytes=700), replace(MODEL, n_bytes=700)]
    candidates, refused = sort_out(files, cards, registry)
    names = [one.name for one in candidates]
    assert names == ["llama-3.2-1b-q8_0", "llama-3.2-1b-q8_0-2"]  # the short one is built in
    assert [each.reason for each in refused] == ["the same model as llama-3.2-1b-q8_0-2"]
    assert all(one.is_new for one in candidates)


def test_a_file_of_models_toml_keeps_its_name() -> None:
    registry = load_registry()
    path = registry.source("ash").local_path
    assert path is not None
    candidates, _ = sort_out([FoundFile(path, "t", path.name)], [MODEL], registry)
    assert [(one.name, one.is_new) for one in candidates] == [("ash", False)]


def test_a_set_to_download() -> None:
    registry = load_registry()
    assert curated_set(registry, 1_000_000_000) is None
    small, free = curated_set(registry, 6_000_000_000), curated_set(registry, 64_000_000_000)
    assert small is not None
    assert free is not None
    assert 0 < download_bytes(registry, small) < 6_000_000_000
    assert download_bytes(registry, small) <= download_bytes(registry, free)
    for name in free.sources:
        assert "non-commercial" not in str(registry.source(name).licence)
