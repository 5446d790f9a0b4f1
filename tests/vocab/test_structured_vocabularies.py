"""Structured answers over real vocabularies: random weights, real tokens."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest

pytest.importorskip("gguf")


import runpy

import tiny_models as tiny

from cf_local.llama.sampler import Constraint
from cf_local.llama.source import LlamaSource
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.structured import ResponseFormat
from cf_local.types import RawText

from . import vocabularies

pytestmark = pytest.mark.vocab

FIGURES = runpy.run_path(str(vocabularies.ROOT / "scripts" / "schema_figures.py"))
FORM = ResponseFormat.json_schema(
    {
        "type": "object",
        "properties": {
            "naïve 東京": {"enum": ["👍🏽", 'a"b', -12, None]},
            "note": {"type": "string", "minLength": 2, "maxLength": 8},
            "n": {"type": "array", "items": {"type": "integer", "minimum": 10}, "maxItems": 2},
        },
        "required": ["naïve 東京", "note"],
    }
)
SETS = (("llama", "llama-spm", "qwen2"), ("gpt2", "gpt-2", "phi-3"))


@pytest.mark.parametrize("name", vocabularies.GENERATIVE)
def test_any_path_of_allowed_tokens_ends_in_valid_json(name: str) -> None:
    vocabulary = vocabularies.vocabulary(name)
    draw, tokens = np.random.default_rng(1), np.arange(vocabulary.n_tokens)
    constraint, path = Constraint(vocabulary, FORM.grammar), list[int]()
    while True:
        state = constraint._at(tuple(path))
        assert state is not None
        allowed = tokens[state.allowed(tokens)]
        assert len(allowed), vocabulary.decode(path)
        token = int(draw.choice(allowed))
        if token in vocabulary.end_token_set:
            break
        path.append(token)
    value = json.loads(vocabulary.decode(path))
    assert value["naïve 東京"] in ("👍🏽", 'a"b', -12, None)
    assert 2 <= len(value["note"]) <= 8


@pytest.mark.slow
@pytest.mark.parametrize("names", SETS, ids=lambda names: names[0])
def test_fused_answers_of_real_vocabularies_are_valid(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    arch, *vocabs = names
    sources = []
    for index, vocab in enumerate(vocabs):
        path = tmp_path / f"{vocab}.gguf"
        grafted = tiny.graft_vocab(vocabularies.path_of(vocab))
        tiny.make_model(path, arch, grafted, seed=index, n_embd=32, weight_type="Q8_0")  # type: ignore[arg-type]
        sources.append(LlamaSource(vocab, path, n_threads=1, n_ctx=512))
    with Fusion(sources) as fusion:
        for index in range(2):
            schema = FIGURES["random_schema"](Random(300 + index))
            settings = Settings(
                max_tokens=400,
                response_format=ResponseFormat.json_schema(schema),
                sampling=Sampling(temperature=float(index % 2), seed=index),
            )
            answer = fusion.answer(RawText("The quick brown fox"), settings)
            assert FIGURES["verdict"](answer, schema) == "valid"
