"""How a text is compared with the accepted answers. Each metric gives a number from 0 to 1.

Normalised text (``exact``, ``contains``) is in Unicode form NFKC, case-folded, with single spaces,
and without quotes, full stops, exclamation marks and question marks at its ends. Numbers are read
in English notation (1,234.5), without currency and percent signs.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

Metric = Callable[[str, Sequence[str]], float]
"""From a text and the accepted answers to a number from 0 (wrong) to 1 (right)."""

_EDGES = " \t\n.!?\"'“”‘’«»„`*。！？"
_NUMBER = re.compile(r"(?<![\w.])[-−]?[$€£]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<!\w)[-−]?\.\d+")
_CHOICE = r"(?<![\w'’])\(?([A-Z])\)?(?![\w'’])"
_STATED = re.compile(rf"(?i:answer|choice|option)\s*(?i:is|:|=)?\s*:?\s*\**{_CHOICE}")
_STANDING = re.compile(_CHOICE)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalised(text: str) -> str:
    """Text as ``exact`` and ``contains`` compare it (see the module)."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(plain.split()).strip(_EDGES)


def last_number(text: str) -> Decimal | None:
    """The number that ``text`` states last, None if it states none."""
    found = _NUMBER.findall(text)
    return _as_number(found[-1]) if found else None


def last_choice(text: str) -> str | None:
    """The letter that ``text`` chooses: after "answer", "choice" or "option", else the last alone.

    The words A and I count as letters only if the text holds nothing else.
    """
    if stated := _STATED.findall(text):
        return str(stated[-1])
    plain = text.strip(_EDGES + "():")
    if len(plain) == 1 and plain.isalpha():
        return plain.upper()
    standing = [letter for letter in _STANDING.findall(text) if letter not in ("A", "I")]
    in_brackets = re.findall(r"\(([A-Z])\)|^([A-Z])[).:]", text, re.MULTILINE)
    standing += [first or second for first, second in in_brackets]
    return str(standing[-1]) if standing else None


def exact(text: str, accepted: Sequence[str]) -> float:
    """Whether the whole text is an accepted answer, both normalised."""
    return float(normalised(text) in {normalised(answer) for answer in accepted})


def number(text: str, accepted: Sequence[str]) -> float:
    """Whether the last number of the text equals an accepted one (12 equals 12.0)."""
    stated = last_number(text)
    return float(stated is not None and stated in {last_number(answer) for answer in accepted})


def regex(text: str, accepted: Sequence[str]) -> float:
    """Whether an accepted pattern occurs in the text."""
    return float(any(re.search(pattern, text) for pattern in accepted))


def choice(text: str, accepted: Sequence[str]) -> float:
    """Whether the text chooses an accepted letter."""
    chosen = last_choice(text)
    return float(chosen is not None and chosen in {a.strip(" ().:").upper() for a in accepted})


def contains(text: str, accepted: Sequence[str]) -> float:
    """Whether an accepted answer occurs in the text as whole words, both normalised."""
    within = normalised(text)
    patterns = (rf"(?<!\w){re.escape(normalised(answer))}(?!\w)" for answer in accepted)
    return float(any(re.search(pattern, within) for pattern in patterns))


def f1(text: str, accepted: Sequence[str]) -> float:
    """Overlap of words with the best accepted answer, as SQuAD counts it.

    Case, punctuation and the articles a, an, the are ignored.
    """
    return max(_overlap(_words(text), _words(answer)) for answer in accepted)


METRICS: Mapping[str, Metric] = {
    "exact": exact,
    "number": number,
    "regex": regex,
    "choice": choice,
    "contains": contains,
    "f1": f1,
}


def problem_with(metric: str, accepted: Sequence[str]) -> str | None:
    """Why these answers cannot be used with this metric, None if they can."""
    for answer in accepted:
        if metric == "number" and last_number(answer) is None:
            return f"the answer {answer!r} contains no number."
        if metric == "choice" and not re.fullmatch(r"\s*\(?[A-Za-z]\)?[.:]?\s*", answer):
            return f"the answer {answer!r} is not a letter."
        if metric in ("exact", "contains") and not normalised(answer):
            return f"the answer {answer!r} is empty once it is normalised."
        if metric == "regex":
            try:
                re.compile(answer)
            except re.error as error:
                return f"{answer!r} is not a regular expression: {error}."
    return None


def _as_number(text: str) -> Decimal | None:
    try:
        return Decimal(re.sub(r"[,$€£]", "", text.replace("−", "-")))
    except InvalidOperation:  # digits of another script, which \d knows and Decimal may not
        return None


def _words(text: str) -> list[str]:
    lower = unicodedata.normalize("NFKC", text).lower()
    plain = "".join(c for c in lower if not unicodedata.category(c).startswith("P"))
    return _ARTICLES.sub(" ", plain).split()


def _overlap(one: Sequence[str], other: Sequence[str]) -> float:
    n_common = sum((Counter(one) & Counter(other)).values())
    if not one or not other:
        return float(one == other)
    return 2 * n_common / (len(one) + len(other))
