"""Short arithmetic word problems with written-out answers: what the built-in models learn.

``generate`` draws problems; training, tests and the evaluation all use it. A problem needs one of
six skills, or two that belong to different experts (``EXPERTS``). The wording of an answer is a
function of the problem, so sources trained on different draws still agree on nearly every word.

Training and test problems share no number pair: a pair ``(operation, a, b)`` belongs to the test
split if and only if ``held_out`` says so. One-digit facts (7 * 6, 42 / 6) are knowledge rather than
calculation, so they are never part of a test. This is about the pairs of the problem, not about the
partial results of a written-out step.

Left out on purpose: decimals, negative numbers, results above 999, irrelevant facts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from dataclasses import dataclass

from cf_local.builtin.arithmetic import (
    OPERATION,
    Show,
    apply,
    fits,
    held_out,
    next_operand,
    operands,
    write_out,
)
from cf_local.builtin.wording import CLOSINGS, OPENINGS, SMALL_TALK, Frame, cast

SKILLS = ("add", "sub", "mul", "units", "div", "percent")
EXPERTS = {"ash": ("add", "sub"), "birch": ("mul", "units"), "cedar": ("div", "percent")}

_STRONG_SHARE = 0.65  # of the one-skill problems, when some skills are favoured
_SAME_EXPERT_SHARE = 0.15  # of the two-skill training problems, so that add-then-sub is no surprise
_MAX_REDRAWS = 60


@dataclass(frozen=True)
class Problem:
    """A question, its worked answer, the result, and the skills it needs, in order."""

    question: str
    answer: str
    result: int
    skills: tuple[str, ...]


def generate(n: int, seed: int, split: str, strong: Collection[str] | None = None) -> list[Problem]:
    """Draw ``n`` problems, a third of them with two skills.

    The two belong to different experts; in training, sometimes to one (add, then sub).

    Args:
        n: how many.
        seed: fixes the draw; the two splits differ even for the same seed.
        split: ``"train"`` or ``"test"``.
        strong: None writes every answer right. Otherwise these skills are drawn more often, and
            every number computed with another skill is replaced by a random one with as many
            digits; later mentions copy it.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    drawing = _Drawing(random.Random(f"{split}:{seed}"), split, strong)
    return [drawing.draw(drawing.pick_skills()) for _ in range(n)]


def generate_for(skills: tuple[str, ...], n: int, seed: int, split: str) -> list[Problem]:
    """Draw ``n`` problems that need these one or two ``skills``, in this order, answered right."""
    drawing = _Drawing(random.Random(f"{split}:{seed}:{skills}"), split, None)
    return [drawing.draw(skills) for _ in range(n)]


def small_talk() -> tuple[tuple[tuple[str, ...], str], ...]:
    """Things that people say to a chat program, as rows of (paraphrases, reply)."""
    return SMALL_TALK


def final_number(text: str) -> int | None:
    """The last number in ``text``, None if there is none."""
    numbers = re.findall(r"(?<!\d)-?\d+", text)
    return int(numbers[-1]) if numbers else None


def expert_of(skill: str) -> str:
    """The name of the built-in model that is good at ``skill``."""
    return next(name for name, skills in EXPERTS.items() if skill in skills)


def pairs_in(answer: str) -> list[tuple[str, int, int]]:
    """The ``(operation, a, b)`` of each step of a worked answer, one per sentence."""
    found = []
    for sentence in answer.split(". "):
        step = re.search(r"(\d+) ([-+*/]) (\d+) =", sentence)
        if step:
            found.append((step[2], int(step[1]), int(step[3])))
    return found


def _chained(first: str, second: str) -> bool:
    kinds = {frame.kind for frame in OPENINGS[first]}
    return first != second and any(kinds & set(closing.after) for closing in CLOSINGS[second])


_PAIRS = [(first, second) for first in SKILLS for second in SKILLS if _chained(first, second)]
_TWO_EXPERT_PAIRS = [pair for pair in _PAIRS if expert_of(pair[0]) != expert_of(pair[1])]
_SAME_EXPERT_PAIRS = [pair for pair in _PAIRS if expert_of(pair[0]) == expert_of(pair[1])]


class _Drawing:
    """Draws problems of one split; ``strong`` are the skills that are answered right."""

    def __init__(self, rng: random.Random, split: str, strong: Collection[str] | None) -> None:
        self.rng = rng
        self.split = split
        self.strong = strong

    def pick_skills(self) -> tuple[str, ...]:
        """The skills of the next problem."""
        rng, strong = self.rng, self.strong
        if rng.random() < 1 / 3:
            same_expert = self.split == "train" and rng.random() < _SAME_EXPERT_SHARE
            pairs = _SAME_EXPERT_PAIRS if same_expert else _TWO_EXPERT_PAIRS
            return rng.choice(pairs)
        if strong and rng.random() < _STRONG_SHARE:
            return (rng.choice(sorted(strong)),)
        return (rng.choice([s for s in SKILLS if not strong or s not in strong]),)

    def draw(self, skills: tuple[str, ...]) -> Problem:
        """Try until the random choices match."""
        while True:
            problem = self._one_step(*skills) if len(skills) == 1 else self._two_steps(*skills)
            if problem is not None:
                return problem

    def _one_step(self, skill: str) -> Problem | None:
        rng, frame = self.rng, self.rng.choice(OPENINGS[skill])
        words = cast(rng, frame)
        a, b = operands(rng, skill, int(words["factor"]))
        if not self._allowed(skill, a, b):
            return None
        words |= {"a": str(a), "b": str(b), "p": _percent(rng, b)}
        work, result = write_out(skill, a, b, self._show(skill))
        facts = frame.text.format_map(words)
        question = _join(rng, frame, facts, rng.choice(frame.asks).format_map(words))
        return _problem(question, _say(frame, words, work, a, b), result, (skill,))

    def _two_steps(self, first: str, second: str) -> Problem | None:
        rng, closing = self.rng, self.rng.choice(CLOSINGS[second])
        openings = [frame for frame in OPENINGS[first] if frame.kind in closing.after]
        if not openings:
            return None
        opening = rng.choice(openings)
        words = cast(rng, opening)
        factor = int(words["factor"])
        a, b = operands(rng, first, factor if first == "units" else 1)
        middle = apply(first, a, b)
        c = middle if closing.on_whole else next_operand(rng, second, middle, factor)
        if c is None or not self._allowed(first, a, b):
            return None
        step = self._first_step((first, second), (a, b, c), closing.on_whole)
        if step is None:
            return None
        work, middle = step
        words |= {"a": str(a), "b": str(b), "p": _percent(rng, b)}
        facts, says = opening.text.format_map(words), _say(opening, words, work, a, b)
        left, right = (a, middle) if closing.on_whole else (middle, c)
        words = _hand_over(opening, words) | {"n": str(middle), "b": str(c), "p": _percent(rng, c)}
        work, result = write_out(second, left, right, self._show(second))
        facts += f" {closing.text.format_map(words)}"
        question = f"{facts} {rng.choice(closing.asks).format_map(words)}"
        says += f" {_say(closing, words, work, left, right)}"
        return _problem(question, says, result, (first, second))

    def _first_step(
        self, skills: tuple[str, str], numbers: tuple[int, int, int], on_whole: bool
    ) -> tuple[str, int] | None:
        """Write the first step so that the second can use the number shown; None if that fails."""
        (first, second), (a, b, c) = skills, numbers
        if on_whole and not fits(second, a, c):
            return None
        for _ in range(_MAX_REDRAWS):
            work, middle = write_out(first, a, b, self._show(first))
            left, right = (a, middle) if on_whole else (middle, c)
            if fits(second, left, right) and self._allowed(second, left, right):
                return work, middle
            if self.strong is None or first in self.strong:
                return None
        return None

    def _allowed(self, skill: str, a: int, b: int) -> bool:
        return held_out(OPERATION[skill], a, b) == (self.split == "test")

    def _show(self, skill: str) -> Show:
        """What to write for a number computed with ``skill``: itself, or a random one as long."""
        if self.strong is None or skill in self.strong:
            return lambda number: number
        return lambda number: self.rng.randint(*_as_long(number))


def _as_long(number: int) -> tuple[int, int]:
    """The smallest and the largest number with the same number of digits."""
    n_digits = len(str(number))
    return 10 ** (n_digits - 1), 10**n_digits - 1


def _problem(question: str, says: str, result: int, skills: tuple[str, ...]) -> Problem:
    return Problem(_tidy(question), _tidy(f"{says} The answer is {result}."), result, skills)


def _hand_over(opening: Frame, words: dict[str, str]) -> dict[str, str]:
    """The words of the second step: who has the things now, and in which unit they count."""
    if opening.kind == "part":
        return (
            words
            | dict.fromkeys(("who", "he", "him"), words["friend"])
            | {"friend": words["other"]}
        )
    if opening.kind == "small":
        return words | {"things": words["smalls"]}
    return words


def _say(frame: Frame, words: dict[str, str], work: str, a: int, b: int) -> str:
    return frame.say.format_map(
        words | {"work": work, "whole": str(a), "pct": f"{100 // b}%" if b else ""}
    )


def _percent(rng: random.Random, divisor: int) -> str:
    return f"{100 // divisor}{'%' if rng.random() < 0.7 else ' percent'}"


def _join(rng: random.Random, frame: Frame, text: str, ask: str) -> str:
    """Facts, then the question; sometimes as ``If ..., how many ...?``."""
    one_sentence = text.count(".") == 1 and text.endswith(".")
    if one_sentence and ask.startswith(("How", "What")) and rng.random() < 0.12:
        text = text if frame.text.startswith("{") else text[0].lower() + text[1:]
        return f"If {text[:-1]}, {ask[0].lower()}{ask[1:]}"
    return f"{text} {ask}".strip()


def _tidy(text: str) -> str:
    """Single spaces, a capital letter at the start of each sentence, and ``An egg``."""
    text = re.sub(" +", " ", text).strip()
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return re.sub(r"(^|[.?!] )([a-z])", lambda found: found[1] + found[2].upper(), text)
