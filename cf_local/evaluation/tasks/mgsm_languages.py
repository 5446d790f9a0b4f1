"""The labels of MGSM's languages, and how its answers state their result.

As lm-evaluation-harness has them; ``solution`` also opens the worked examples of the data set.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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
