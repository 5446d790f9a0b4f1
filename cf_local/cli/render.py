"""The figures of an answer on one line, and answers as JSON lines."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cf_local import hub
from cf_local.types import Answer, Mode, ScoredCandidate, Step


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


def step_json(step: Step, mode: Mode) -> str:
    """One line for a step; in mode "cool+r" the choice among whole answers is of type "rerank"."""
    return _line(
        {
            "type": "rerank" if step.whole and mode == "cool+r" else "step",
            "text": step.text,
            "ends": step.ends,
            "winners": step.winners,
            "candidates": [_candidate(candidate) for candidate in step.candidates],
            "passes": step.passes,
            "elapsed_s": step.elapsed_s,
        }
    )


def answer_json(answer: Answer) -> str:
    """The last line."""
    return _line(
        {
            "type": "answer",
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "mode": answer.mode,
            "chosen": answer.chosen,
            "passes": answer.passes,
            "elapsed_s": answer.elapsed_s,
            "sources": [
                {"name": s.name, "file": s.file, "sha256": hub.sha256(Path(s.file))}
                for s in answer.sources
            ],
        }
    )


def _candidate(candidate: ScoredCandidate) -> dict[str, Any]:
    return {
        "text": candidate.text,
        "ends": candidate.ends,
        "sources": candidate.sources,
        "scores": {name: _number(score) for name, score in candidate.scores.items()},
        "mean": None if candidate.mean is None else _number(candidate.mean),
    }


def _number(value: float) -> float | None:
    """JSON has no infinity: an impossible candidate's score is null."""
    return value if math.isfinite(value) else None


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)
