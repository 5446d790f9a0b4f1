"""Under a grammar, too, the engine writes what the reference writes: in step, whoever wins.

Tiny random models of all architectures over vocabularies that cut text differently, so that the
text of one straddles the tokens of the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")

import reference as ref
import tiny_models as tiny
from comparison import first_difference, show

from cf_local.llama.source import LlamaSource
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.structured import ResponseFormat
from cf_local.types import MODES, SCORES, RawText

PROMPT = RawText("The quick brown")
NEAR_TIE = 0.03  # as in test_against_reference.py
FORMATS = {
    "schema": ResponseFormat.json_schema(
        {
            "type": "object",
            "properties": {
                "the fox": {"enum": ["(is)", "running", 24, "東京"]},
                "n": {"type": "array", "items": {"type": "integer", "maximum": 68}, "maxItems": 3},
                "dog": {"type": "string", "maxLength": 6},
            },
            "required": ["the fox", "dog"],
        }
    ),
    "words": ResponseFormat.gbnf('root ::= ( " the" | " fox" | " dog"){2,9} "." | [^a-z]{3,9}'),
    "characters": ResponseFormat.gbnf("root ::= [^ -~]{1,6}"),
}


@dataclass(frozen=True)
class Trio:
    fusion: Fusion
    references: list[ref.RefSource]
    prompts: list[list[int]]


def no_bias(_piece: bytes) -> float:
    return 0.0


@pytest.fixture(params=range(6))
def trio(request: pytest.FixtureRequest, tiny_model: Callable[..., Path]) -> Iterator[Trio]:
    seed = 100 + int(request.param)
    draw = random.Random(seed)
    with ExitStack() as stack:
        sources, references, prompts = [], [], []
        for index, arch in enumerate(draw.sample(tiny.ARCHITECTURES, 3)):
            kind = draw.choice(["bpe", "glued", "split", "spm-glued"])
            options: dict[str, Any] = {"lean": 9.0}
            if draw.random() < 0.4:
                options["bias"] = no_bias
            path = tiny_model(arch, kind, seed=seed * 10 + index, **options)
            sources.append(LlamaSource(f"s{index}", path, n_forks=4, n_threads=1))
            known = ref.RefSource(path, name=f"s{index}")
            stack.callback(known.close)
            references.append(known)
            text = PROMPT.text.encode()
            is_spm = kind == "spm-glued"
            prompts.append([1, *known.encode(b" " + text)] if is_spm else known.encode(text))
        yield Trio(stack.enter_context(Fusion(sources)), references, prompts)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("looks_ahead", [False, True])
def test_the_engine_writes_what_the_reference_writes(
    trio: Trio,
    mode: str,
    form: str,
    looks_ahead: bool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if looks_ahead:  # these models are too quick for it to pay
        monkeypatch.setattr("cf_local.method.speculation._TINY_PASS_S", 0.0)
    draw = random.Random(f"{request.node.callspec.params['trio']} {mode} {form}")
    common: dict[str, Any] = {
        "mode": mode,
        "score": draw.choice(SCORES),
        "segments": draw.choice(["aligned", "shortest"]),
        "max_tokens": 60,
        "segment_limit": draw.choice([32, 4]),
    }
    form_asked = FORMATS[form]
    ref_settings = ref.RefSettings(**common, grammar=form_asked.grammar, tie_tolerance=NEAR_TIE)
    settings = Settings(
        **common,
        weights="equal",
        repetition_guard=False,
        response_format=form_asked,
        speculation=looks_ahead,
    )
    expected = ref.fuse(trio.references, trio.prompts, ref_settings)
    *steps, answer = trio.fusion.stream(PROMPT, settings)
    if (answer.text, answer.finish_reason) == (show(expected.text), expected.finish_reason):
        return
    if mode in ("cool", "single"):
        different = first_difference(steps, expected.steps)
        assert different is not None
        assert different.near_tie, f"{answer.text!r} is not {show(expected.text)!r}"
    else:
        assert expected.near_tie, f"{answer.text!r} is not {show(expected.text)!r}"
