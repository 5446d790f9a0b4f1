"""What can be counted in a trace: agreement, wins, passes, time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cf_local.trace.model import Trace


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of one answer; None where the trace does not tell.

    ``n_segments`` are the fused ones (whole answers, if nothing else was written), of which all
    sources proposed ``n_agreed`` and several candidates were reranked in ``n_disputed``. ``wins``
    counts the disputed ones, ``timings_s`` sums the phases of all steps.
    """

    mode: str | None
    chosen: str | None
    finish_reason: str | None
    n_bytes: int
    n_segments: int
    n_agreed: int
    n_disputed: int
    wins: Mapping[str, int]
    passes: Mapping[str, int]
    prompt_s: float | None
    timings_s: Mapping[str, float]
    elapsed_s: float | None
    bytes_per_s: float | None


def summarize(trace: Trace) -> Summary:
    """Count what happened in an answer."""
    answer = trace.answer
    segments = [step for step in trace.steps if not step.whole] or trace.steps
    disputed = [step for step in segments if len(step.candidates) > 1]
    wins = Counter(name for step in disputed for name in step.winners)
    passes: Counter[str] = Counter()
    timings_s: dict[str, float] = {}
    for step in trace.steps:
        passes.update(step.passes)
        for phase, taken_s in step.timings_s.items():
            timings_s[phase] = timings_s.get(phase, 0.0) + taken_s
    elapsed_s = answer.elapsed_s if answer is not None else None
    n_bytes = len(trace.text.encode())
    proposers = {*trace.names, *wins}
    return Summary(
        mode=answer.mode if answer is not None else None,
        chosen=answer.chosen if answer is not None else None,
        finish_reason=answer.finish_reason if answer is not None else None,
        n_bytes=n_bytes,
        n_segments=len(segments),
        n_agreed=sum(set(trace.names) <= set(step.winners) for step in segments),
        n_disputed=len(disputed),
        wins={name: wins[name] for name in [*trace.names, *sorted(proposers - set(trace.names))]},
        passes=dict(answer.passes if answer is not None else passes),
        prompt_s=answer.prompt_s or None if answer is not None else None,
        timings_s=timings_s,
        elapsed_s=elapsed_s,
        bytes_per_s=n_bytes / elapsed_s if elapsed_s else None,
    )
