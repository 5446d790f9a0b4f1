"""The final answer of a worked solution, taken out as lm-evaluation-harness does.

Written anew after the task files of that project (gsm8k, gsm8k_cot, mgsm_direct, mgsm_en_cot,
mgsm_native_cot of release 0.4.13), so that our figures can be put beside published ones;
``tests/data/lmeval_verdicts.json`` holds verdicts of the real package. What is odd there is odd
here: with ``MGSM`` a comparison drops all punctuation, so -5 and 5 are the same.
"""

import re
import string
from dataclasses import dataclass

INVALID = "[invalid]"
"""What stands for an answer that was not found."""

_FLEXIBLE = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Extraction:
    """A pattern that finds the answer in a text: its first match, or the last one.

    An empty pattern takes the whole text without spaces at its ends.
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
    """What is removed from an answer before it is compared; case never counts."""

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
"""The last number of the text, wherever it stands."""

WHOLE = Extraction("")
"""The text itself: what mgsm_direct calls remove_whitespace."""

HASHES = Extraction(r"#### (\-?[0-9\.\,]+)")
"""The answer as GSM8K's own solutions end: strict-match of the task gsm8k."""

ENGLISH = Extraction(r"The answer is (\-?[0-9\.\,]+).")
"""Strict-match of gsm8k_cot. It wants a character behind the number, as there."""

GSM8K = AnswerMatcher((",", r"\$", r"(?s).*#### ", r"\.$"))
MGSM = AnswerMatcher(ignores_punctuation=True)
