"""The loop of an evaluation: answer every question in every way, judge, store the result.

The outer loop is over questions: the prompt stays in the caches, and an interrupted run holds whole
questions. Everything else (tables, tests, reports, a search for better weights) works on the
Results that this loop yields.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from cf_local.errors import Cancelled, ContextError
from cf_local.evaluation.tasks.task import Item, Task, judge
from cf_local.evaluation.variants import Variant
from cf_local.progress import IsCancelled, never
from cf_local.runtime.fusion import Fusion
from cf_local.types import Answer, Step

NO_ROOM = "context"
"""The finish_reason of an answer that could not start: its prompt does not fit the context."""


@dataclass(frozen=True, slots=True)
class Result:
    """One answer to one item; ``right`` is from 0 to 1, and not a number before the verdict.

    ``wins`` counts the fused segments that each source won against another proposal; in the modes
    that choose among whole answers, the whole answer ("(fused)" is the fused one). ``seconds`` is
    the time after the prompt, which took ``prompt_seconds``; ``n_bytes`` is the size of ``text``.
    ``finish_reason`` is an Answer's, or "context" for a prompt that does not fit.
    """

    item: str
    group: str
    variant: str
    right: float
    text: str
    finish_reason: str
    seconds: float
    prompt_seconds: float
    n_bytes: int
    chosen: str
    wins: Mapping[str, int]


class Store:
    """The results of a run, in memory."""

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], Result] = {}
        """The results so far, by the names of variant and item."""

    def append(self, result: Result) -> None:
        """Store a result."""
        self.results[result.variant, result.item] = result


def run(
    fusion: Fusion,
    task: Task,
    items: Sequence[Item],
    variants: Sequence[Variant],
    store: Store | None = None,
    *,
    is_cancelled: IsCancelled = never,
) -> Iterator[Result]:
    """Answer each item by each variant; yields the results in ``store`` and the computed ones.

    A result is in the store before it is yielded. A prompt that does not fit the context counts as
    answered wrong. Raises Cancelled once ``is_cancelled`` or the fusion's ``cancel`` stops the run,
    InputError for prompts or verdicts that cannot be used.
    """
    store = store or Store()
    parts = {v.name: fusion.of(v.sources, v.settings) for v in variants if v.sources is not None}
    for item in items:
        for variant in variants:
            known = store.results.get((variant.name, item.id))
            if known is None:
                if is_cancelled():
                    raise Cancelled("The evaluation was interrupted.")
                known = answer(parts.get(variant.name, fusion), task, item, variant)
                store.append(known)
            yield known


def answer(fusion: Fusion, task: Task, item: Item, variant: Variant) -> Result:
    """Answer one item with all of ``fusion`` and judge the answer. Raises Cancelled."""
    return judged(task, item, write(fusion, item, variant))


def write(fusion: Fusion, item: Item, variant: Variant) -> Result:
    """Answer one item, without a verdict. Raises Cancelled."""
    start = time.perf_counter()
    about = partial(Result, item.id, item.group, variant.name, math.nan)
    try:
        *events, last = fusion.stream(item.prompt, variant.settings)
    except ContextError:
        return about("", NO_ROOM, 0.0, time.perf_counter() - start, 0, "", {})
    assert isinstance(last, Answer)
    if last.finish_reason == "cancelled":
        raise Cancelled("The evaluation was interrupted.")
    return about(
        text=last.text,
        finish_reason=last.finish_reason,
        seconds=last.elapsed_s - last.prompt_s,
        prompt_seconds=last.prompt_s,
        n_bytes=len(last.text.encode()),
        chosen=last.chosen,
        wins=_wins([event for event in events if isinstance(event, Step)]),
    )


def judged(task: Task, item: Item, result: Result) -> Result:
    """``result`` with the verdict of its task. Raises InputError."""
    has_room = result.finish_reason != NO_ROOM
    return replace(result, right=judge(task, item, result.text) if has_room else 0.0)


def _wins(steps: Sequence[Step]) -> dict[str, int]:
    """The wins by source: in the choice among whole answers if there was one, else by segment."""
    decisions = [step for step in steps if step.whole] or steps
    disputed = [step for step in decisions if len(step.candidates) > 1]
    return dict(Counter(name for step in disputed for name in step.winners))
