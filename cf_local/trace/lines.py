"""An answer and its steps as JSON lines: what ``ask --json`` prints and what a trace file holds."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from cf_local.trace.model import Heading, Trace, TracedSource
from cf_local.types import Answer, Chat, Prompt, ScoredCandidate, Step

FORMAT = 1
"""Goes up when an older reader would misunderstand a file; new fields alone do not raise it."""


def lines(trace: Trace) -> Iterator[str]:
    """The lines of a trace, without their ends."""
    mode = trace.answer.mode if trace.answer is not None else None
    if trace.heading is not None:
        mode = trace.heading.settings.get("mode", mode)
        yield _line(_heading(trace.heading, trace.sources))
    for step in trace.steps:
        yield step_line(step, mode)
    if trace.answer is not None:
        yield answer_line(trace.answer, trace.sources)


def step_line(step: Step, mode: str | None) -> str:
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
            "timings_s": step.timings_s,
            "winner": step.winner,
            "whole": step.whole,
        }
    )


def answer_line(answer: Answer, sources: Sequence[TracedSource]) -> str:
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
                {"name": s.name, "file": s.file, "sha256": s.sha256}
                for s in sources
                if s.name in answer.passes  # those that took part
            ],
            "prompt_s": answer.prompt_s,
            "prompt_tokens": answer.prompt_tokens,
            "decode_s": answer.decode_s,
        }
    )


def _heading(heading: Heading, sources: Sequence[TracedSource]) -> dict[str, Any]:
    return {
        "type": "trace",
        "format": FORMAT,
        "date": heading.date,
        "versions": heading.versions,
        "prompt": _prompt(heading.prompt),
        "settings": heading.settings,
        "sources": [asdict(source) for source in sources],
    }


def _prompt(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, Chat):
        return {"messages": [asdict(message) for message in prompt.messages]}
    return {"text": prompt.text}


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
