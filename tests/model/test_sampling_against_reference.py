"""With sampling and penalties, too, the engine writes what the reference writes.

Tiny random models of all architectures over vocabularies that cut text differently, with lookahead
and without.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")

import reference as ref
import tiny_models as tiny
from comparison import first_difference, show

from cf_local.llama.source import LlamaSource
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.structured import ResponseFormat
from cf_local.types import RawText

PROMPT = RawText("The quick brown")
NEAR_TIE = 0.03  # as in test_against_reference.py
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "top_k": {"top_k": 3},
    "cuts": {"top_k": 40, "top_p": 0.9, "min_p": 0.05},
    "repeat": {"repeat_penalty": 1.5},
    "occurrence": {"frequency_penalty": 0.7, "presence_penalty": 1.0},
    "praise": {"frequency_penalty": -0.5, "repeat_penalty": 0.9},
    "bias": {"logit_bias": {"fox": 4.0, "dog": -100.0, " the lazy": 3.0, "is": -2.0, "on.": 1.0}},
    "dry": {"dry_multiplier": 4.0, "dry_allowed_length": 1},
    "all": {
        "logit_bias": {"the": -3.0, "東京": 5.0},
        **{"repeat_penalty": 1.2, "frequency_penalty": 0.2, "presence_penalty": 0.1},
        **{"dry_multiplier": 1.0, "dry_base": 2.0, "dry_allowed_length": 1},
        **{"top_k": 50, "top_p": 0.95, "min_p": 0.01},
    },
}
CUTS = {"top_k", "cuts"}
WORDS = ResponseFormat.gbnf('root ::= ( " the" | " fox" | " dog" | " is"){9,30} "."')


@dataclass(frozen=True)
class Trio:
    fusion: Fusion
    references: list[ref.RefSource]
    prompts: list[list[int]]


@pytest.fixture(scope="module")
def trios(tiny_model: Callable[..., Path]) -> Iterator[list[Trio]]:
    with ExitStack() as stack:
        found = []
        for seed in range(200, 203):
            draw = random.Random(seed)
            sources, references, prompts = [], [], []
            for index, arch in enumerate(draw.sample(tiny.ARCHITECTURES, 3)):
                kind = draw.choice(["bpe", "glued", "split", "spm-glued"])
                path = tiny_model(arch, kind, seed=seed * 10 + index, sharpness=3.0, lean=9.0)
                sources.append(LlamaSource(f"s{index}", path, n_forks=4, n_threads=1))
                known = ref.RefSource(path, name=f"s{index}")
                stack.callback(known.close)
                references.append(known)
                text, is_spm = PROMPT.text.encode(), kind == "spm-glued"
                prompts.append([1, *known.encode(b" " + text)] if is_spm else known.encode(text))
            found.append(Trio(stack.enter_context(Fusion(sources)), references, prompts))
        yield found


def both(
    fields: Mapping[str, Any], temperature: float, *, looks_ahead: bool, **more: Any
) -> tuple[Settings, ref.RefSettings]:
    common: dict[str, Any] = {"max_tokens": 40, **more}
    form = common.pop("response_format", None)
    settings = Settings(
        **common,
        weights="equal",
        repetition_guard=False,
        speculation=looks_ahead,
        response_format=form,
        all_scores=temperature > 0,  # who is asked changes the draws
        sampling=Sampling(temperature, seed=5, **fields),
    )
    return settings, ref.RefSettings(
        **common,
        grammar=form and form.grammar,
        sampling=ref.RefSampling(temperature, seed=5, **fields),
        tie_tolerance=NEAR_TIE,
    )


def compare(trio: Trio, settings: Settings, ref_settings: ref.RefSettings) -> bool:
    """Whether the texts are the same; where they part, it must be a near tie."""
    expected = ref.fuse(trio.references, trio.prompts, ref_settings)
    *steps, answer = trio.fusion.stream(PROMPT, settings)
    if (answer.text, answer.finish_reason) == (show(expected.text), expected.finish_reason):
        return True
    different = first_difference(steps, expected.steps)
    assert different is not None
    assert different.near_tie, f"{answer.text!r} is not {show(expected.text)!r}"
    return False


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize(
    ("mode", "looks_ahead"), [("cool", False), ("cool", True), ("single", True)]
)
def test_the_engine_writes_what_the_reference_writes(
    trios: list[Trio],
    name: str,
    temperature: float,
    mode: str,
    looks_ahead: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if looks_ahead:  # these models are too quick for it to pay
        monkeypatch.setattr("cf_local.method.speculation._TINY_PASS_S", 0.0)
    settings, ref_settings = both(FIELDS[name], temperature, looks_ahead=looks_ahead, mode=mode)
    same = [compare(trio, settings, ref_settings) for trio in trios]
    assert any(same)  # else the test would show little
    neutral = replace(settings, sampling=Sampling(temperature, seed=5))
    texts = [[t.fusion.answer(PROMPT, s).text for s in (settings, neutral)] for t in trios]
    has_effect = name not in CUTS or temperature > 0
    assert any(changed != plain for changed, plain in texts) == has_effect


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in CUTS])
def test_penalties_choose_among_what_a_grammar_allows(trios: list[Trio], name: str) -> None:
    settings, ref_settings = both(FIELDS[name], 0.0, looks_ahead=True, response_format=WORDS)
    same = [compare(trio, settings, ref_settings) for trio in trios]
    assert any(same)
