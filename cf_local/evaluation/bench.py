"""The speed of the fusion compared with each of its sources alone.

The cases take turns, prompt by prompt, so that a busy machine slows all of them alike; what counts
is the ratio within one run. A rate is bytes of text per second after the prompt; the time to the
first piece of text is reported separately. Rendering is left to the caller.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import quantiles

from cf_local.method.session import prefill
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import Answer, Chat, RawText

EVERYDAY: tuple[str, ...] = (
    # Short answers, code, explanations, translations, stories: four of each, in turn.
    "What is the capital of Portugal, and which river does it lie on?",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Explain why the sky is blue to a ten-year-old.",
    "Translate into French: The cat sleeps on the warm stone by the door.",
    "Tell a short story about a lighthouse keeper and a seal.",
    "How many minutes are there in a week?",
    "Write an SQL query that finds the three customers who spent most last year.",
    "What is the difference between weather and climate?",
    "Translate into German: I would like a room with a view of the lake for two nights.",
    "Write the opening of a story in which a clock runs backwards.",
    "Name three animals that sleep through the winter.",
    "Write a JavaScript function that checks whether a word is a palindrome.",
    "Explain what inflation is and who gains from it.",
    "Translate into Spanish: Please send me the invoice before Friday.",
    "Tell a fable about a fox who learns to wait.",
    "Which planet of our solar system has the most moons?",
    "Write a bash one-liner that counts the lines of all Python files in a folder.",
    "Explain step by step how a bill becomes a law in the United States.",
    "Translate into Italian: The train to Milan leaves from platform nine.",
    "Write a letter from a sailor to his sister about his first storm.",
)
"""Prompts of everyday kinds, for models that were made for them."""
_DRAWS = 1000  # of the bootstrap
_OTHER_PROMPT = RawText(".")  # to make a source forget the last one


@dataclass(frozen=True, slots=True)
class Timing:
    """One answer: its size, the seconds to its first piece of text, and those after the prompt."""

    n_bytes: int
    first_s: float
    rest_s: float


@dataclass(slots=True)
class Case:
    """One way to answer, and its measurements, one per prompt."""

    name: str
    answer: Callable[[Chat], Timing]
    timings: list[Timing] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    n_segments: int = 0
    n_agreed: int = 0

    @property
    def rate(self) -> float:
        """Bytes of text per second after the prompt."""
        return _rate(self.timings)

    @property
    def first_s(self) -> float:
        """Mean seconds to the first piece of text."""
        return sum(t.first_s for t in self.timings) / len(self.timings)

    @property
    def share_outside(self) -> float | None:
        """Share of the time spent outside forward passes; None if that was not counted."""
        if not self.answers:
            return None
        elapsed_s = sum(a.elapsed_s for a in self.answers)
        return 1 - sum(a.decode_s for a in self.answers) / elapsed_s

    @property
    def passes_per_segment(self) -> dict[str, float]:
        """Mean number of forward passes of each source per segment."""
        names = self.answers[0].passes if self.answers else {}
        return {n: sum(a.passes[n] for a in self.answers) / self.n_segments for n in names}

    @property
    def agreement(self) -> float:
        """Mean number of segments from one disagreement to the next."""
        return self.n_segments / max(1, self.n_segments - self.n_agreed)


def fused_case(name: str, fusion: Fusion, settings: Settings) -> Case:
    """A case that answers with ``fusion``; no prompt is cached from the answer before."""

    def forget() -> None:
        for source in fusion.sources:
            prefill(source.sessions[0], _OTHER_PROMPT, sampling=settings.sampling)

    def answer(prompt: Chat) -> Timing:
        fusion.alone(forget)
        start, first_s = time.perf_counter(), 0.0
        for event in fusion.stream(prompt, settings):
            first_s = first_s or (time.perf_counter() - start if event.text else 0.0)
            if isinstance(event, Answer):
                case.answers.append(event)
            elif not event.whole:
                case.n_segments += 1
                case.n_agreed += len(event.candidates) == 1
        assert isinstance(event, Answer)
        n_bytes = len(event.text.encode())
        return Timing(n_bytes, first_s, event.elapsed_s - event.prompt_s)

    case = Case(name, answer)
    return case


def fused_cases(fusion: Fusion, max_tokens: int) -> list[Case]:
    """The fusion without and with speculation, and reranked."""
    # Plain llama-cpp-python does not notice when it repeats itself, so neither do these.
    settings = replace(fusion.settings, max_tokens=max_tokens, mode="cool", repetition_guard=False)
    return [
        fused_case("cool, no speculation", fusion, replace(settings, speculation=False)),
        fused_case("cool", fusion, settings),
        fused_case("cool+r", fusion, replace(settings, mode="cool+r")),
    ]


def run(cases: Sequence[Case], prompts: Sequence[Chat]) -> Iterator[int]:
    """Answer every prompt in every case, in turn; yields the number of prompts done.

    First, every case answers the first prompt once without being measured, to page the weights in.
    """
    for case in cases:
        case.answer(prompts[0])
        case.answers, case.n_segments, case.n_agreed = [], 0, 0
    for index, prompt in enumerate(prompts):
        order = list(cases)
        random.Random(index).shuffle(order)
        for case in order:
            case.timings.append(case.answer(prompt))
        yield index + 1


def differences(case: Case, other: Case) -> list[tuple[str, str]]:
    """The pairs of texts in which two fused cases differ; near ties may go either way."""
    pairs = zip(case.answers, other.answers, strict=True)
    return [(one.text, two.text) for one, two in pairs if one.text != two.text]


def ratio(case: Case, baseline: Case) -> tuple[float, float, float]:
    """Rate of ``case`` divided by that of ``baseline`` on the same prompts, with a 95% interval.

    The interval is a bootstrap over prompts.
    """
    rng = random.Random(0)
    n = len(case.timings)
    draws = []
    for _ in range(_DRAWS):
        chosen = rng.choices(range(n), k=n)
        draws.append(
            _rate([case.timings[i] for i in chosen]) / _rate([baseline.timings[i] for i in chosen])
        )
    known = [draw for draw in draws if math.isfinite(draw)]
    if len(known) < 2:
        return math.nan, math.nan, math.nan
    cuts = quantiles(known, n=40)
    return case.rate / baseline.rate, cuts[0], cuts[-1]


def slowest(cases: Sequence[Case]) -> Case:
    """The case with the lowest rate, leaving out those that wrote nothing unless all did."""
    return min(cases, key=lambda case: math.inf if math.isnan(case.rate) else case.rate)


def _rate(timings: Sequence[Timing]) -> float:
    """Bytes of text per second; NaN if nothing was written (by a base model)."""
    n_bytes = sum(t.n_bytes for t in timings)
    return n_bytes / sum(t.rest_s for t in timings) if n_bytes else math.nan
