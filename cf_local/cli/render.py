"""The figures of an answer on one line."""

from collections import Counter
from collections.abc import Sequence

from cf_local.types import Answer, Step


def statistics(steps: Sequence[Step], answer: Answer, first_word_s: float) -> str:
    """Speed, agreement and wins of one answer, on one line."""
    n_bytes = len(answer.text.encode())
    segments = [step for step in steps if not step.whole] or steps
    n_agreed = sum(len(step.winners) >= len(answer.sources) for step in segments)
    wins = Counter(name for step in segments if len(step.candidates) > 1 for name in step.winners)
    parts = [
        f"{n_bytes / answer.elapsed_s:.0f} bytes/s" if answer.elapsed_s else "",
        f"first word after {first_word_s:.2f} s",
        f"all agreed on {n_agreed} of {len(segments)} segments",
        "wins: " + ", ".join(f"{name} {n}" for name, n in wins.most_common()) if wins else "",
        "passes: " + ", ".join(f"{name} {n}" for name, n in answer.passes.items()),
        f"chosen: {answer.chosen}",
        f"ended by: {answer.finish_reason}",
    ]
    return "; ".join(part for part in parts if part)
