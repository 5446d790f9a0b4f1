"""MGSM (Shi et al. 2022): 250 problems of GSM8K in eleven languages, with worked examples.

Three ways to ask, as in lm-evaluation-harness: ``mgsm`` (its mgsm_native_cot: reasoning in the
language of the question), ``mgsm-en-cot`` (in English) and ``mgsm-direct`` (the bare number).
The data are the files of juletxara/mgsm on the hub, or copies of them: ``mgsm_de.tsv`` (a question,
a tab, a number) and ``exemplars.py``, which is read, not run.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cf_local import hub
from cf_local.errors import InputError
from cf_local.evaluation.extraction import FLEXIBLE, MGSM, WHOLE, Extraction
from cf_local.evaluation.tasks.task import Example, Item, Task, prompt_with
from cf_local.evaluation.tasks.textfile import numbered_lines, read_text
from cf_local.registry.toml import nearest

_NUMBER = r"(\-?[0-9\.\,]+)"


@dataclass(frozen=True, slots=True)
class Language:
    """Labels of a question, of a solution step by step and of a bare answer; the closing words."""

    question: str
    solution: str
    answer: str
    closing: str


LANGUAGES: Mapping[str, Language] = {
    "bn": Language("প্রশ্ন:", "ধাপে ধাপে উত্তর:", "Answer:", f"The answer is {_NUMBER}"),
    "de": Language(
        "Frage:", "Schritt-für-Schritt-Antwort:", "Antwort:", f"Die Antwort lautet {_NUMBER}"
    ),
    "en": Language("Question:", "Step-by-Step Answer:", "Answer:", f"The answer is {_NUMBER}"),
    "es": Language(
        "Pregunta:", "Respuesta paso a paso:", "Respuesta:", f"La respuesta es {_NUMBER}"
    ),
    "fr": Language(
        "Question :", "Réponse étape par étape :", "Réponse :", f"La réponse est {_NUMBER}"
    ),
    "ja": Language("問題：", "ステップごとの答え:", "Answer:", f"答えは{_NUMBER}です。"),
    "ru": Language("Задача:", "Пошаговоерешение:", "Answer:", f"Ответ — {_NUMBER}"),
    "sw": Language("Swali:", "Jibu la Hatua kwa Hatua:", "Answer:", f"Jibu ni {_NUMBER}"),
    "te": Language("ప్రశ్న:", "దశలవారీగా సమాధానం:", "Answer:", f"సమాధానం {_NUMBER}"),
    "th": Language("โจทย์:", "คำตอบทีละขั้นตอน:", "Answer:", f"คำตอบคือ {_NUMBER}"),
    "zh": Language("问题：", "逐步解答:", "Answer:", f"答案是 {_NUMBER}。"),
}


REPO = "juletxara/mgsm"
EXAMPLES_FILE = "exemplars.py"
N_EXAMPLES = 8
KINDS = ("mgsm", "mgsm-en-cot", "mgsm-direct")


def fetch(language: str, *, offline: bool = False) -> Path:
    """Fetch a language's questions and the examples from the hub; the path of the questions.

    Raises InputError if they are not available, or there is no such language.
    """
    _check_language(language)
    hub.locate_data(REPO, EXAMPLES_FILE, offline=offline)
    return hub.locate_data(REPO, f"mgsm_{language}.tsv", offline=offline)


class Mgsm(Task):
    """The questions of a TSV file in a language, asked in one of the three ways (``kind``).

    ``n_examples`` of the eight in ``exemplars.py``, next to the file, come first. ``metric`` is
    "flexible" (the last number) or "strict": after the closing words of the language, or the whole
    text for ``mgsm-direct``.
    """

    max_tokens = 512

    def __init__(
        self,
        kind: str,
        language: str,
        path: Path,
        metric: str = "flexible",
        *,
        n_examples: int = N_EXAMPLES,
        raw: bool = False,
    ) -> None:
        _check_language(language)
        known = extractions(kind, language)
        if metric not in known:
            raise InputError(f"{kind} has no metric {metric!r}; choose one of {', '.join(known)}.")
        labels = LANGUAGES[language]
        self.name = f"{kind}:{language} ({metric}, {n_examples} examples{', raw' if raw else ''})"
        self.stop = (labels.question, "</s>", "<|im_end|>")
        self._extract = known[metric]
        examples = _examples(kind, language, path.with_name(EXAMPLES_FILE), n_examples)
        space = "" if kind == "mgsm-direct" else " "
        self._items = [
            Item(
                str(number),
                prompt_with(
                    examples,
                    f"{labels.question} {question}\n{_answer_label(kind, labels)}",
                    raw=raw,
                    space=space,
                ),
                answer,
            )
            for number, (question, answer) in enumerate(_questions(path), start=1)
        ]

    def items(self) -> Sequence[Item]:
        """The questions in the order of the file."""
        return self._items

    def is_right(self, item: Item, text: str) -> bool:
        """Whether the extracted number is the answer, as the harness compares them."""
        return MGSM(self._extract(text), item.accepted[0])


def extractions(kind: str, language: str) -> Mapping[str, Extraction]:
    """The metrics of a way to ask, by name."""
    if kind == "mgsm-direct":
        return {"flexible": FLEXIBLE, "strict": WHOLE}
    spoken = "en" if kind == "mgsm-en-cot" else language
    return {"flexible": FLEXIBLE, "strict": Extraction(LANGUAGES[spoken].closing)}


def _answer_label(kind: str, labels: Language) -> str:
    if kind == "mgsm-direct":
        return labels.answer
    return LANGUAGES["en"].solution if kind == "mgsm-en-cot" else labels.solution


def _check_language(language: str) -> None:
    if language not in LANGUAGES:
        raise InputError(
            f"MGSM has no language {language!r}{nearest(language, LANGUAGES)}; write for example "
            f"mgsm:de. The languages are {', '.join(LANGUAGES)}."
        )


def _questions(path: Path) -> list[tuple[str, str]]:
    """Questions and answers, without thousands separators, as in the data set's loader."""
    found = []
    for number, line in numbered_lines(path):
        question, tab, answer = line.rpartition("\t")
        plain = answer.strip().replace(",", "")
        if not tab or not plain.removeprefix("-").isdecimal():
            raise InputError(f"{path}, line {number}: a question, a tab and a number are expected.")
        found.append((question, plain))
    return found


def _examples(kind: str, language: str, path: Path, n: int) -> list[Example]:
    """The first ``n`` worked examples of a language."""
    if n == 0:
        return []
    table, numbers = _literal(path, "MGSM_EXEMPLARS"), _literal(path, "EXEMPLAR_NUMBER_ANSWERS")
    labels = LANGUAGES[language]
    try:
        shown = [table[language][str(i)] for i in range(1, n + 1)]
        return [
            Example(
                f"{one['q']}\n{_answer_label(kind, labels)}",
                # The label is cut off by its length: some examples write it a little differently.
                str(number) if kind == "mgsm-direct" else one["a"][len(labels.solution) + 1 :],
            )
            for one, number in zip(shown, numbers, strict=False)
        ]
    except (KeyError, TypeError):
        raise InputError(f"{path} does not hold {n} examples for {language!r}.") from None


def _literal(path: Path, name: str) -> Any:
    """The value that a Python file assigns to a name, without running the file."""
    if not path.exists():
        raise InputError(f"{path} is missing: it holds the worked examples. Or use --examples 0.")
    try:
        for node in ast.parse(read_text(path)).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                return ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    raise InputError(f"{path} defines no {name}.")
