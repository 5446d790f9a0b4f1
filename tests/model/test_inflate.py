"""An inflated model is as heavy as it was asked to be, and says the same words."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("gguf")

import cf_local
from cf_local.builtin.problems import generate
from cf_local.loading.load import load
from cf_local.settings import Settings

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["ash", "cedar"])  # a llama and a qwen2
def test_an_inflated_model_says_the_same(name: str, tmp_path: Path) -> None:
    own, heavy = ROOT / "cf_local" / "builtin" / f"{name}.gguf", tmp_path / "heavy.gguf"
    runpy.run_path(str(ROOT / "scripts" / "inflate.py"))["inflate"](own, heavy, 20_000_000, 6)
    assert 19e6 < heavy.stat().st_size < 22e6
    prompts = [cf_local.chat(problem.question) for problem in generate(4, seed=3, split="test")]
    with load(models=[own]) as light, load(models=[heavy]) as loaded:
        for prompt in prompts:
            assert loaded.answer(prompt).text == light.answer(prompt).text


def test_an_endless_copy_never_ends(tmp_path: Path) -> None:
    own, endless = ROOT / "cf_local" / "builtin" / "birch.gguf", tmp_path / "endless.gguf"
    inflate = runpy.run_path(str(ROOT / "scripts" / "inflate.py"))["inflate"]
    inflate(own, endless, 2_000_000, 4, endless=True)
    (problem,) = generate(1, seed=3, split="test")
    settings = Settings(max_tokens=200, repetition_guard=False)
    with load(models=[own]) as light, load(models=[endless]) as loaded:
        ended = light.answer(cf_local.chat(problem.question), settings)
        answer = loaded.answer(cf_local.chat(problem.question), settings)
    assert ended.finish_reason == "stop"
    assert answer.finish_reason == "length"
    assert answer.text.startswith(ended.text)
