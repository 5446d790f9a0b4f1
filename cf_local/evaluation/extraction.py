"""The final answer of a worked solution, extracted as lm-evaluation-harness does.

Rewritten from the task files of that project (gsm8k, gsm8k_cot, mgsm_direct, mgsm_en_cot,
mgsm_native_cot of release 0.4.13), so that our figures can be compared with published ones;
``tests/data/lmeval_verdicts.json`` holds verdicts of the real package. Its oddities are reproduced:
``MGSM`` ignores all punctuation, so -5 and 5 are the same.
"""

import re
import string
from dataclasses import dataclass

INVALID = "[invalid]"
"""The answer where none was found."""

_FLEXIBLE = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Extraction:
    """A pattern that finds the answer in a text: its first match, or the last one.

    With an empty pattern, the answer is the whole text without spaces at its ends.
    """

    pattern: str
    last: bool = False

    def __call__(self, text: str) -> str:
        """The answer in ``text``, or "[invalid]"."""
        if not self.pattern:
            return text.strip()
        found = re.findall(self.pattern, text)
        if not found:
            return INVALID
        match = found[-1 if self.last else 0]
        groups = [match] if isinstance(match, str) else [group for group in match if group]
        return str(groups[0]).strip() if groups else INVALID


@dataclass(frozen=True, slots=True)
class AnswerMatcher:
    """Compares answers after removing what is ignored; case never counts."""

    ignored: tuple[str, ...] = ()
    ignores_punctuation: bool = False

    def __call__(self, answer: str, expected: str) -> bool:
        """Whether both are the same."""
        return self._plain(answer) == self._plain(expected)

    def _plain(self, text: str) -> str:
        for pattern in self.ignored:
            text = re.sub(pattern, "", text)
        text = text.lower()
        return text.translate(_NO_PUNCTUATION) if self.ignores_punctuation else text


FLEXIBLE = Extraction(_FLEXIBLE, last=True)
"""The last number in the text, wherever it is."""

WHOLE = Extraction("")
"""The text itself: what mgsm_direct calls remove_whitespace."""

HASHES = Extraction(r"#### (\-?[0-9\.\,]+)")
"""The answer as GSM8K's own solutions end: strict-match of the task gsm8k."""

ENGLISH = Extraction(r"The answer is (\-?[0-9\.\,]+).")
"""Strict-match of gsm8k_cot. As there, it requires a character after the number."""

GSM8K = AnswerMatcher((",", r"\$", r"(?s).*#### ", r"\.$"))
MGSM = AnswerMatcher(ignores_punctuation=True)
