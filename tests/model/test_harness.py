"""lm-evaluation-harness runs a fusion; its numbers are those that the sources give.

Needs the extra `harness` (docs/harness.md); nothing is fetched.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="needs the extra harness")

import datasets
import lm_eval
import numpy as np
import reference as ref
from lm_eval.api.model import CachingLM
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from cf_local.builtin.problems import final_number, generate
from cf_local.errors import InputError
from cf_local.evaluation.harness import CHAT, FusionLM
from cf_local.loading.load import load
from cf_local.loading.load_options import LoadOptions
from cf_local.runtime.fusion import Fusion
from cf_local.types import Prompt, RawText, chat

pytestmark = [pytest.mark.model, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "tests" / "harness"


@dataclass(frozen=True)
class Request:
    args: tuple[Any, ...]


@pytest.fixture(scope="module")
def fusion() -> Iterator[Fusion]:
    with load(options=LoadOptions(n_threads=1)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def references(fusion: Fusion) -> Iterator[list[ref.RefSource]]:
    sources = [ref.RefSource(Path(s.info.file), name=s.info.name) for s in fusion.sources]
    yield sources
    for source in sources:
        source.close()


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)  # the tasks name their data from there
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # of the command, which is another process
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def problems() -> list[dict[str, Any]]:
    lines = (TASKS / "problems.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def evaluate(lm: FusionLM, task: str, **options: Any) -> tuple[dict[str, Any], list[Any]]:
    """Metrics of a task, and its samples in the order of the file."""
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    results = lm_eval.simple_evaluate(
        model=lm, tasks=[task], task_manager=manager, bootstrap_iters=0, **options
    )
    return results["results"][task], sorted(results["samples"][task], key=lambda s: s["doc_id"])


def log_likelihood(
    fusion: Fusion, references: list[ref.RefSource], prompt: Prompt, text: str
) -> float:
    """Minus the mean of the sources' sums, by the reference."""
    nlls_nats = []
    for source, reference in zip(fusion.sources, references, strict=True):
        tokens = source.encode(prompt)  # type: ignore[attr-defined]
        nlls_nats.append(sum(reference.nlls(tokens, reference.encode(text.encode()), ends=False)))
    return -float(np.mean(nlls_nats))


def test_the_problems_are_those_of_the_package() -> None:
    drawn = generate(12, seed=21, split="test")
    assert [(p["question"], p["answer"]) for p in problems()] == [
        (p.question, p.answer) for p in drawn
    ]


def test_answers_are_those_of_the_fusion(fusion: Fusion) -> None:
    metrics, samples = evaluate(FusionLM(fusion), "cf_local_problems", apply_chat_template=True)
    settings = replace(fusion.settings, max_tokens=200, stop=("\nUser:",))
    own = [fusion.answer(chat(p["question"]), settings).text for p in problems()]
    assert [sample["resps"] for sample in samples] == [[[text]] for text in own]
    n_right = sum(
        str(final_number(text)) == p["result"] for text, p in zip(own, problems(), strict=True)
    )
    assert metrics["exact_match,last-number"] == n_right / len(own) > 0.5


@pytest.mark.parametrize("with_template", [True, False])
def test_choices_have_the_mean_likelihood_of_the_sources(
    fusion: Fusion, references: list[ref.RefSource], with_template: bool
) -> None:
    metrics, samples = evaluate(
        FusionLM(fusion), "cf_local_choices", apply_chat_template=with_template
    )
    n_right = 0
    for problem, sample in zip(problems(), samples, strict=True):
        prompt = chat(problem["question"]) if with_template else RawText(problem["question"])
        space = "" if with_template else " "
        expected = [
            log_likelihood(fusion, references, prompt, space + choice)
            for choice in problem["choices"]
        ]
        found = [resp[0][0] for resp in sample["resps"]]
        assert found == pytest.approx(expected, abs=0.5)  # weights are quantized
        n_right += int(np.argmax(found)) == problem["label"]
    assert metrics["acc,none"] == pytest.approx(n_right / len(samples))


def test_running_text_has_the_mean_likelihood_of_the_sources(
    fusion: Fusion, references: list[ref.RefSource]
) -> None:
    metrics, samples = evaluate(FusionLM(fusion), "cf_local_rolling")
    expected = [log_likelihood(fusion, references, RawText("\n"), p["answer"]) for p in problems()]
    found = [sample["resps"][0][0] for sample in samples]
    assert found == pytest.approx(expected, rel=0.01)
    n_bytes = sum(len(p["answer"].encode()) for p in problems())
    bits = -sum(expected) / n_bytes / math.log(2)
    assert metrics["bits_per_byte,none"] == pytest.approx(bits, rel=0.01)


def test_what_the_fusion_writes_is_greedy(fusion: Fusion) -> None:
    lm = FusionLM(fusion)
    prompt = lm.apply_chat_template([{"role": "user", "content": problems()[0]["question"]}])
    text = fusion.answer(chat(problems()[0]["question"])).text
    pairs = [(prompt, text), (prompt, text[: text.index(" ")]), (prompt, "Nobody knows")]
    found = lm.loglikelihood([Request(pair) for pair in pairs], disable_tqdm=True)
    assert [is_greedy for _, is_greedy in found] == [True, True, False]
    assert found[0][0] < found[1][0] < 0


def test_spaces_between_context_and_continuation_belong_to_the_continuation(
    fusion: Fusion,
) -> None:
    lm = FusionLM(fusion)
    pairs = [("12 + 30 = ", "42"), ("12 + 30 =", " 42"), (" ", "42"), ("", " 42"), ("12", "")]
    found = [n for n, _ in lm.loglikelihood([Request(p) for p in pairs], disable_tqdm=True)]
    assert found[0] == found[1] != found[2]
    assert found[2] == found[3] < 0
    assert found[4] == 0


def test_every_turn_and_the_begin_of_the_answer_reach_the_sources(fusion: Fusion) -> None:
    lm, question = FusionLM(fusion), problems()[1]["question"]
    own = fusion.answer(chat(question)).text
    prefix = own[: own.index(" = ")]
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": prefix}]
    prompt = lm.apply_chat_template(turns, add_generation_prompt=False)
    (rest,) = lm.generate_until([Request((prompt, {"max_gen_toks": 200}))], disable_tqdm=True)
    assert prefix + rest == own
    with pytest.raises(InputError, match="must end with"):
        lm.apply_chat_template(turns)
    with pytest.raises(InputError, match="reads only text"):
        lm.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}])
    with pytest.raises(InputError, match="changes prompts"):
        lm.generate_until([Request((prompt + " more", {}))], disable_tqdm=True)


def test_generation_arguments_become_settings(fusion: Fusion) -> None:
    lm = FusionLM(fusion)
    prompt = lm.apply_chat_template([{"role": "user", "content": problems()[0]["question"]}])

    def generate_with(*arguments: dict[str, Any]) -> list[str]:
        requests = [Request((prompt, given)) for given in arguments]
        return lm.generate_until(requests, disable_tqdm=True)

    whole, stopped, short = generate_with(
        {"num_beams": 1, "temperature": 0.7, "do_sample": False},
        {"until": ["=", ""]},
        {"max_new_tokens": 5},
    )
    assert stopped == whole[: whole.index("=")]
    assert whole.startswith(short)
    assert len(short) < len(stopped)
    sampled = {"do_sample": True, "temperature": 3.0, "max_gen_toks": 12}
    drawn = generate_with(*[sampled] * 4)
    assert len(set(drawn)) > 1
    assert generate_with(*[sampled] * 4) == drawn
    assert generate_with({**sampled, "top_k": 1, "max_gen_toks": 5}) == [short]
    with pytest.raises(InputError, match="does not know: typical_p"):
        generate_with({"top_k": 40, "typical_p": 0.5})


def test_a_prompt_that_is_too_long_loses_its_begin(caplog: pytest.LogCaptureFixture) -> None:
    with load(options=LoadOptions(n_ctx=128, n_threads=1)) as small:
        text = "".join(f"{p['question']} {p['answer']}\n\n" for p in problems())
        answers = FusionLM(small).generate_until(
            [Request((text, {"max_gen_toks": 16}))], disable_tqdm=True
        )
    assert len(answers) == 1
    assert "too long for the contexts" in caplog.text


def test_answers_come_from_the_cache_of_the_harness(fusion: Fusion, tmp_path: Path) -> None:
    lm = FusionLM(fusion)
    cached = CachingLM(lm, str(tmp_path / "answers.db"))
    requests = [Request(("12 + 30 =", " 42"))]
    first = cached.loglikelihood(requests)
    lm.loglikelihood = None  # type: ignore[assignment]
    assert cached.loglikelihood(requests) == first


def test_model_arguments() -> None:
    model = get_model("cf-local").create_from_arg_obj(
        {"models": ["ash", "birch"], "context": 512, "mode": "single", "only": "birch"},
        {"batch_size": 1, "device": "cuda:0"},
    )
    with model.fusion:
        assert [s.info.n_ctx for s in model.fusion.sources] == [512, 512]
        assert model.get_model_info()["settings"]["only"] == "birch"
    with pytest.raises(InputError, match="temprature"):
        FusionLM(temprature=1)
    with pytest.raises(InputError, match="uses its own template"):
        model.chat_template("tool_use")


def command(arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cf_local.evaluation.harness", *arguments.split()],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path: Path) -> None:
    done = command(
        "--model cf-local --model_args fusion=builtin,weight.cedar=2,threads=1 "
        f"--include_path {TASKS} --tasks cf_local_problems,cf_local_choices,cf_local_rolling "
        f"--limit 2 --apply_chat_template --log_samples --output_path {tmp_path}/results.json"
    )
    assert done.returncode == 0, done.stderr
    assert "|cf_local_problems|" in done.stdout
    (written,) = tmp_path.glob("results*.json")
    config = json.loads(written.read_text(encoding="utf-8"))["config"]
    assert sorted(config["sources"]) == ["ash", "birch", "cedar"]
    assert config["settings"]["weights"] == {"cedar": 2}
    (samples,) = tmp_path.glob("samples_cf_local_problems*.jsonl")
    first = json.loads(samples.read_text(encoding="utf-8").splitlines()[0])
    assert first["arguments"]["gen_args_0"]["arg_0"].startswith(CHAT)


def test_an_error_of_ours_is_one_line() -> None:
    done = command(
        "--model cf-local --model_args fusion=nowhere "
        f"--tasks cf_local_problems --include_path {TASKS}"
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr
