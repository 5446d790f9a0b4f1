"""Answers are taken out and compared as the real lm-evaluation-harness does.

`tests/data/lmeval_verdicts.json` was written by `scripts/lmeval_verdicts.py` with that package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cf_local.evaluation.extraction import ENGLISH, FLEXIBLE, GSM8K, HASHES, MGSM, Extraction
from cf_local.evaluation.tasks.gsm8k import Gsm8k
from cf_local.evaluation.tasks.mgsm import LANGUAGES, Mgsm, extractions
from cf_local.types import Chat, RawText, text_of

VERDICTS = json.loads(
    (Path(__file__).parents[2] / "data" / "lmeval_verdicts.json").read_text(encoding="utf-8")
)
KINDS = {"direct": "mgsm-direct", "en_cot": "mgsm-en-cot", "native_cot": "mgsm"}


def ours(case: dict[str, Any], filter_name: str) -> bool:
    task, answer = case["task"], case["answer"]
    if task.startswith("gsm8k"):
        strict = ENGLISH if task == "gsm8k_cot" else HASHES
        extract = FLEXIBLE if filter_name == "flexible-extract" else strict
        return GSM8K(extract(case["text"]), answer)
    _, kind, language = (
        task.replace("en_cot", "en-cot").replace("native_cot", "native-cot").split("_")
    )
    known = extractions(KINDS[kind.replace("-", "_")], language)
    extract = known["flexible" if filter_name == "flexible-extract" else "strict"]
    return MGSM(extract(case["text"]), answer)


@pytest.mark.parametrize("task", sorted({case["task"] for case in VERDICTS["cases"]}))
def test_verdicts_are_those_of_the_harness(task: str) -> None:
    cases = [case for case in VERDICTS["cases"] if case["task"] == task]
    different = [
        (case["text"], name, verdict)
        for case in cases
        for name, verdict in case["verdicts"].items()
        if ours(case, name) is not verdict
    ]
    assert different == []
    assert len(cases) >= 20


def test_the_sample_is_large_and_has_both_verdicts() -> None:
    found = [v for case in VERDICTS["cases"] for v in case["verdicts"].values()]
    assert len({case["text"] for case in VERDICTS["cases"]}) > 150
    assert min(found.count(True), found.count(False)) > 400


def test_the_prompt_of_gsm8k_is_that_of_the_harness(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    line = {"question": VERDICTS["question"], "answer": "6 * 7 = 42\n#### 42"}
    path.write_text(json.dumps(line) + "\n")
    expected = VERDICTS["prompts"]["gsm8k_cot"]
    task = Gsm8k(path, raw=True)
    (item,) = task.items()
    assert item.prompt == RawText(expected["prompt"])
    assert item.accepted == ("42",)
    assert list(task.stop) == expected["until"]


def test_the_examples_are_turns_of_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"question": "How many?", "answer": "#### 1,000"}\n')
    (item,) = Gsm8k(path, n_examples=2).items()
    assert isinstance(item.prompt, Chat)
    roles = [message.role for message in item.prompt.messages]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert item.prompt.messages[1].content.endswith("The answer is 6.")
    assert item.prompt.messages[-1].content == "Q: How many?\nA:"


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_prompts_of_mgsm_are_those_of_the_harness(tmp_path: Path, kind: str, language: str) -> None:
    path = tmp_path / f"mgsm_{language}.tsv"
    path.write_text(f"{VERDICTS['question']}\t42\n", encoding="utf-8")
    task = Mgsm(KINDS[kind], language, path, n_examples=0, raw=True)
    (item,) = task.items()
    expected = VERDICTS["prompts"][f"mgsm_{kind}_{language}"]
    assert text_of(item.prompt) == expected["prompt"]
    assert list(task.stop) == expected["until"]


def test_an_answer_that_is_not_found_is_invalid() -> None:
    assert ENGLISH("It is 42.") == "[invalid]"
    assert Extraction("(a)|(b)", last=True)("a b") == "b"
    assert Extraction("")(" a\n") == "a"
