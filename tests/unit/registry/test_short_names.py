"""Names made of file names: short, valid, and nobody else's."""

import pytest

from cf_local.registry.registry import is_alias
from cf_local.registry.short_names import short_name, unique_name


@pytest.mark.parametrize(
    ("label", "calls_itself", "name"),
    [
        ("Qwen2.5-1.5B-Instruct-Q4_K_M.gguf", "Qwen2.5 1.5B Instruct", "qwen2.5-1.5b"),
        ("tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf", "", "tinyllama-1.1b-v1.0"),
        ("gemma-3-4b-it-UD-Q4_K_XL.gguf", "", "gemma-3-4b"),
        ("Mixtral-8x22B-Instruct-v0.1.Q8_0-00001-of-00005.gguf", "", "mixtral-8x22b-v0.1"),
        ("bartowski_Phi-3.5-mini-GGUF_Phi-3.5-mini-Q6_K.gguf", "", "phi-3.5-mini"),
        ("llama3.2:3b", "Llama 3.2 3B Instruct", "llama3.2-3b"),
        ("llama3.2:latest", "", "llama3.2"),
        ("Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "", "llama-3.2-1b"),
        ("sha256-" + "a1" * 32, "Gemma 3 270m", "gemma-3-270m"),
        ("ggml-model-q4_0.gguf", "TinyLlama Chat", "tinyllama"),
        ("model.gguf", ".", "model"),
        ("模型.gguf", "模型", "model"),
        ("It.gguf", "", "it"),
        ("a-very-long-name-of-a-model-which-nobody-types.gguf", "", "a-very-long-name-of-a-model"),
    ],
)
def test_short(label: str, calls_itself: str, name: str) -> None:
    found = short_name(label, calls_itself)
    assert found.startswith(name) if len(name) > 25 else found == name
    assert is_alias(found)
    assert len(found) <= 32


def test_unique() -> None:
    assert unique_name("a-Q8_0.gguf", "", set()) == "a"
    assert unique_name("a-Q8_0.gguf", "", {"a"}) == "a-q8_0"
    assert unique_name("a-Q8_0.gguf", "", {"a", "a-q8_0"}) == "a-q8_0-2"
    assert unique_name("a.gguf", "", {"a", "a-2"}) == "a-3"
