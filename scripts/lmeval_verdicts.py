"""Verdicts of lm-evaluation-harness: on sample answers, and of local-completions on choices.

    python -m venv .lmeval && .lmeval/bin/pip install "lm-eval[api]==0.4.13"
    .lmeval/bin/python scripts/lmeval_verdicts.py

writes tests/data/lmeval_verdicts.json. Prompts, filters and the metric are the package's own, taken
from its task files; only the sample answers below are ours. The unit tests of cf_local.evaluation
compare its verdicts with them.

    .lmeval/bin/pip install -e ".[harness,server]"
    .lmeval/bin/python scripts/lmeval_verdicts.py --compare a.gguf [b.gguf] [--score nll]

serves the models as one fusion, and lets the harness choose among answers to short questions twice:
over HTTP with its own local-completions, and with our adapter. It reports equal verdicts.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval.tasks
import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_metric
from lm_eval.filters import build_filter_ensemble
from lm_eval.utils import apply_template

TARGET = Path(__file__).resolve().parent.parent / "tests" / "data" / "lmeval_verdicts.json"
TASKS = Path(lm_eval.tasks.__file__).parent
LANGUAGES = ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")
QUESTION = "Anna has 6 bags with 7 shells each. How many shells has she?"

# Right number, and what a model might write.
ENGLISH: list[tuple[str, list[str]]] = [
    (
        "42",
        [
            "6 * 7 = 42. The answer is 42.",
            "The answer is 42",
            "The answer is 42\n",
            "The answer is 42 shells.",
            "The answer is $42.",
            "The answer is \\boxed{42}.",
            "The answer is **42**.",
            "the answer is 42.",
            "THE ANSWER IS 42.",
            "The answer is: 42.",
            "The answer is  42.",
            "The answer is 42.0.",
            "The answer is 42.00.",
            "The answer is 042.",
            "The answer is -42.",
            "The answer is --42.",
            "The answer is +42.",
            "The answer is 42,",
            "The answer is 42...",
            "The answer is 41. Wait, that is wrong. The answer is 42.",
            "The answer is 42. Wait, no. The answer is 41.",
            "The answer is 42. She had 6 bags.",
            "#### 42",
            "6 * 7 = <<6*7=42>>42\n#### 42",
            "#### 42.",
            "####42",
            "#### $42",
            "#### 42\n#### 43",
            "#### forty-two #### 42",
            "She has 42 shells",
            "She has 42 shells in 6 bags.",
            "42",
            "  42  ",
            "42.",
            "$42",
            "42$",
            "42%",
            "(42)",
            "42 43",
            "43 42",
            "forty-two",
            "",
            " ",
            "\n\n",
            ".",
            "..",
            "$$",
            "She has 42 shells..",
            "She has 42 shells, she says...",
            "She has 42, and that is all.",
            "The answer is 42!",
            "Answer: 42",
            "= 42",
            "4 2",
            "4,2",
            "4.2e1",
            "４２",
            "٤٢",
            "The answer is 42.\nQ: How many apples?",
            "6 x 7 = 42, so the answer is 42",
            "-42",
            "- 42",
            "−42",
            "6-7=-1, 42",
            "She has 6 bags. 1. 6 * 7 = 42",
            "42\n\n1. Check: 42 / 6 = 7",
            "<think>42</think> The answer is 41.",
            "[invalid]",
        ],
    ),
    (
        "1,234",
        [
            "The answer is 1,234.",
            "The answer is 1234.",
            "The answer is 1 234.",
            "The answer is 1.234.",
            "The answer is $1,234.",
            "#### 1,234",
            "#### 1234",
            "#### 1,234.00",
            "He pays $1,234",
            "He pays $1,234.",
            "He pays $1,234.00 in all",
            "He pays 1234 dollars",
            "12,34",
        ],
    ),
    (
        "-5",
        ["The answer is -5.", "The answer is 5.", "#### -5", "It is -5", "It is - 5", "It is 10-5"],
    ),
    (
        "0.5",
        ["The answer is 0.5.", "The answer is .5.", "#### 0.50", "It is 0.5", "It is .5", "1/2"],
    ),
    ("7", ["The answer is 7.", "#### 7", "7", "17", "It is 7 or 8", "It is 7."]),
]

# What closes an answer in each language, around the number.
CLOSINGS = {
    "bn": ("উত্তর হল {}।", "The answer is {}."),
    "de": ("Die Antwort lautet {}.", "Die Antwort ist {}."),
    "en": ("The answer is {}.", "So it is {}."),
    "es": ("La respuesta es {}.", "La respuesta: {}."),
    "fr": ("La réponse est {}.", "La reponse est {}."),
    "ja": ("答えは{}です。", "答えは {} です。"),
    "ru": ("Ответ — {}.", "Ответ: {}."),
    "sw": ("Jibu ni {}.", "Jibu ni: {}."),
    "te": ("సమాధానం {}.", "సమాధానం: {}."),
    "th": ("คำตอบคือ {}", "คำตอบ {}"),
    "zh": ("答案是 {}。", "答案是{}。"),
}
NUMBERS = ("42", "42.0", "-42", "4,2", "41")
BARE = (" 42", "42\n", "42.", "42 Muscheln", "$42", "The answer is 42.", "4 2", "", "-42", "1 + 41")


QUESTIONS = TARGET.with_name("short_answers.jsonl")
COMPARED = "compared"


def main() -> None:
    """Write the file, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--compare", nargs="+", metavar="GGUF", help="models of one fusion")
    parser.add_argument("--score", default="mixture", help="the score of the fusion")
    parser.add_argument("-n", type=int, default=50, help="questions")
    parser.add_argument("--choices", type=int, default=4, help="answers to choose from")
    options = parser.parse_args()
    if not options.compare:
        write_verdicts()
        return
    models = [Path(path).resolve() for path in options.compare]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # models.toml and the task lie there
        compare(models, options)


def compare(models: Sequence[Path], options: argparse.Namespace) -> None:
    """Ask the harness twice, and print how many verdicts are equal."""
    import lm_eval

    from cf_local.evaluation.harness import FusionLM

    names = [path.stem for path in models]
    sources = "".join(
        f'[sources."{name}"]\nfile = "{path}"\ncontext = 1024\n'
        for name, path in zip(names, models, strict=True)
    )
    mode = f'score = "{options.score}"' if len(names) > 1 else 'mode = "single"'
    fusion = f"[fusions.{COMPARED}]\nsources = {json.dumps(names)}\n{mode}\n"
    Path("models.toml").write_text(fusion + sources, encoding="utf-8")
    write_choices(Path("choices.jsonl"), options.n, options.choices)
    manager = lm_eval.tasks.TaskManager(include_path=".", include_defaults=False)

    def ask(model: Any, arguments: str | None = None) -> list[Any]:
        found = lm_eval.simple_evaluate(
            model=model, model_args=arguments, tasks=["choices"], task_manager=manager,
            bootstrap_iters=0,
        )  # fmt: skip
        samples: list[Any] = sorted(found["samples"]["choices"], key=lambda s: s["doc_id"])
        return samples

    with served() as url:
        http = ask(
            "local-completions",
            f"model={COMPARED},base_url={url}v1/completions,max_length=1000000,max_retries=1",
        )
    own = FusionLM(COMPARED, threads=1)
    with own.fusion:
        ours = ask(own)
    report(http, ours)


def write_choices(file: Path, n: int, n_choices: int) -> None:
    """A task of questions with one right answer; every other one is a sentence."""
    questions = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines()]
    by_group = defaultdict(list)
    for each in questions:
        by_group[each["group"]].append(each["answer"][0])
    draw = random.Random(17)
    lines = []
    for index, each in enumerate(questions[:n]):
        right = each["answer"][0]
        others = sorted({text for text in by_group[each["group"]] if text not in each["answer"]})
        choices = [right, *draw.sample(others, n_choices - 1)]
        draw.shuffle(choices)
        frame = "The answer is {}." if index % 2 else "{}"
        doc = {
            "question": "Q: {}\nA:".format(each["messages"][-1]["content"]),
            "choices": [frame.format(text) for text in choices],
            "label": choices.index(right),
        }
        lines.append(json.dumps(doc, ensure_ascii=False))
    file.write_text("\n".join(lines), encoding="utf-8")
    task = {
        "task": "choices", "dataset_path": "json", "output_type": "multiple_choice",
        "dataset_kwargs": {"data_files": {"test": str(file)}}, "test_split": "test",
        "doc_to_text": "{{question}}", "doc_to_choice": "choices", "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    Path("choices.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


@contextmanager
def served() -> Iterator[str]:
    """A server of the fusion, while entered."""
    command = [sys.executable, "-m", "cf_local", "serve", COMPARED, "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"Listening on (http://\S+/)", line):
                yield found[1]
                break
    finally:
        process.terminate()
        process.wait()


def report(http: Sequence[Any], ours: Sequence[Any]) -> None:
    """Print how often both choose the same, and call the same text what the model writes."""
    for kind, rows in (("words", slice(0, None, 2)), ("sentences", slice(1, None, 2))):
        pairs = list(zip(http[rows], ours[rows], strict=True))
        answers = [
            ([a[0] for a in one["filtered_resps"]], [b[0] for b in two["filtered_resps"]])
            for one, two in pairs
        ]
        n_equal = sum(a.index(max(a)) == b.index(max(b)) for a, b in answers)
        greedy = [
            a[1] == b[1]
            for one, two in pairs
            for a, b in zip(one["filtered_resps"], two["filtered_resps"], strict=True)
        ]
        apart = max(abs(x - y) for a, b in answers for x, y in zip(a, b, strict=True))
        right = [sum(sample["acc"] for sample in column) for column in zip(*pairs, strict=True)]
        print(
            f"{kind}: {n_equal}/{len(pairs)} verdicts equal, "
            f"{right[0]:g} and {right[1]:g} right, is_greedy {sum(greedy)}/{len(greedy)} equal, "
            f"log-likelihoods at most {apart:.3f} nats apart"
        )


def write_verdicts() -> None:
    """Judge all samples and write the file."""
    cases: list[dict[str, Any]] = []
    prompts: dict[str, dict[str, Any]] = {}
    for task in ("gsm8k", "gsm8k_cot"):
        config = load(TASKS / "gsm8k" / f"{task.replace('_', '-')}.yaml")
        for answer, texts in ENGLISH:
            doc = {"question": QUESTION, "answer": f"Some steps.\n#### {answer}"}
            cases += [judged(task, config, doc, answer, text) for text in texts]
    prompts["gsm8k_cot"] = asked(config, {"question": QUESTION, "answer": "#### 42"})
    for kind in ("direct", "en_cot", "native_cot"):
        for language in LANGUAGES:
            task = f"mgsm_{kind}_{language}"
            config = load(TASKS / "mgsm" / kind / f"{task}.yaml")
            doc = {"question": QUESTION, "answer": None, "answer_number": 42}
            prompts[task] = asked(config, doc)
            texts = [c.format(n) for c in CLOSINGS[language] for n in NUMBERS] + list(BARE)
            cases += [judged(task, config, doc, "42", text) for text in texts]
    data = {"lm_eval": version("lm_eval"), "question": QUESTION, "prompts": prompts, "cases": cases}
    TARGET.write_text(compact(data), encoding="utf-8")
    print(f"{len(cases)} verdicts in {TARGET}")


def load(path: Path) -> dict[str, Any]:
    """A task file, merged with the file that it includes."""
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    included = config.pop("include", None)
    return (load(path.parent / included) if included else {}) | config


def asked(config: dict[str, Any], doc: dict[str, Any]) -> dict[str, Any]:
    """The prompt with the examples of the task file, and the stop strings."""
    shown = []
    for example in config.get("fewshot_config", {}).get("samples", []):
        question = apply_template(config["doc_to_text"], example)
        shown.append(question + " " + apply_template(config["doc_to_target"], example))
    prompt = "\n\n".join([*shown, apply_template(config["doc_to_text"], doc)])
    return {"prompt": prompt, "until": config["generation_kwargs"]["until"]}


def judged(
    task: str, config: dict[str, Any], doc: dict[str, Any], answer: str, text: str
) -> dict[str, Any]:
    """A sample answer with the verdict of each filter of the task."""
    gold = apply_template(config["doc_to_target"], doc)
    (metric,) = config["metric_list"]
    how = {k: v for k, v in metric.items() if k.startswith(("ignore", "regexes"))}
    verdicts = {}
    for each in config["filter_list"]:
        steps = [(step.pop("function"), step) for step in (dict(s) for s in each["filter"])]
        instance = Instance("generate_until", doc, (), 0, resps=[text])
        build_filter_ensemble(each["name"], steps).apply([instance])
        found = instance.filtered_resps[each["name"]]
        score = get_metric("exact_match")(references=[gold], predictions=[found], **how)
        verdicts[each["name"]] = bool(score["exact_match"])
    return {"task": task, "answer": answer, "text": text, "verdicts": verdicts}


def compact(data: dict[str, Any]) -> str:
    """JSON with one line per case."""
    cases = data.pop("cases")
    head = json.dumps(data, ensure_ascii=False, indent=1).removesuffix("\n}")
    lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases)
    return f'{head},\n "cases": [\n{lines}\n ]\n}}\n'


if __name__ == "__main__":
    main()
