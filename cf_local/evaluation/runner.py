"""The loop of an evaluation: every question, answered in every way, judged, remembered.

Questions come first, ways to answer second: the prompt stays in the caches, and an interrupted run
holds whole questions. Everything else (tables, tests, reports, a search for better weights) works
on the Results that come out here.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cf_local.errors import Cancelled, ContextError
from cf_local.evaluation.tasks.task import Item, Task, judge
from cf_local.evaluation.variants import Variant
from cf_local.progress import IsCancelled, never
from cf_local.runtime.fusion import Fusion
from cf_local.types import Answer, Step

NO_ROOM = "context"
"""The finish_reason of an answer that could not begin: its prompt does not fit the context."""


@dataclass(frozen=True, slots=True)
class Result:
    """One answer to one item, judged: ``right`` is from 0 to 1.

    ``wins`` counts for each source the fused segments it won against another proposal, or, where
    whole answers are chosen among, the whole answer ("(fused)" is the fused one). ``seconds`` are
    those after the prompt, which took ``prompt_seconds``; ``n_bytes`` is the size of ``text``.
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
    """Where results are kept while a run goes on; this one forgets them with the process."""

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], Result] = {}
        """What is known, by names of variant and item."""

    def append(self, result: Result) -> None:
        """Keep a result."""
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
    """Answer each item by each variant; yields what ``store`` knows, and what is computed for it.

    A result is in the store before it is yielded. A prompt that does not fit the context counts as
    answered wrong. Raises Cancelled once ``is_cancelled`` or the fusion's ``cancel`` stopped it,
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
    """One item answered by all of ``fusion`` and judged. Raises Cancelled when the answer was."""
    start = time.perf_counter()
    try:
        *events, last = fusion.stream(item.prompt, variant.settings)
    except ContextError:
        seconds = time.perf_counter() - start
        return Result(item.id, item.group, variant.name, 0.0, "", NO_ROOM, 0.0, seconds, 0, "", {})
    assert isinstance(last, Answer)
    if last.finish_reason == "cancelled":
        raise Cancelled("The evaluation was interrupted.")
    return Result(
        item=item.id,
        group=item.group,
        variant=variant.name,
        right=judge(task, item, last.text),
        text=last.text,
        finish_reason=last.finish_reason,
        seconds=last.elapsed_s - last.prompt_s,
        prompt_seconds=last.prompt_s,
        n_bytes=len(last.text.encode()),
        chosen=last.chosen,
        wins=_wins([event for event in events if isinstance(event, Step)]),
    )


def _wins(steps: Sequence[Step]) -> dict[str, int]:
    """Who won what was disputed: the choice among whole answers if there was one, else segments."""
    decisions = [step for step in steps if step.whole] or steps
    disputed = [step for step in decisions if len(step.candidates) > 1]
    return dict(Counter(name for step in disputed for name in step.winners))
