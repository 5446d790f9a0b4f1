"""Answers as text, as coloured or marked text that shows who won, and as JSON lines."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from cf_local import hub
from cf_local.types import Answer, Mode, ScoredCandidate, Step

_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Winners:
    """Shows which source won which words: in colours on a terminal, else with letters."""

    def __init__(self, names: Sequence[str], *, in_colour: bool) -> None:
        self._names = tuple(names)
        self._in_colour = in_colour

    def legend(self) -> str:
        """What colours or letters mean."""
        marks = [
            self._mark((name,), name) if self._in_colour else f"{_LETTERS[i]} = {name}"
            for i, name in enumerate(self._names)
        ]
        return f"{', '.join(marks)}; unmarked: all agreed"

    def piece(self, text: str, winners: Sequence[str]) -> str:
        """A piece of the answer marked with its winners; what all sources proposed stays plain."""
        if not text or set(self._names) <= set(winners):
            return text
        return self._mark(winners, text)

    def text(self, steps: Sequence[Step]) -> str:
        """The text of steps; neighbouring pieces of the same winners are marked together."""
        runs = groupby(steps, key=lambda step: step.winners)
        return "".join(self.piece("".join(s.text for s in run), key) for key, run in runs)

    def _mark(self, winners: Sequence[str], text: str) -> str:
        indices = [self._names.index(name) for name in winners if name in self._names]
        if self._in_colour:
            return click.style(text, fg=_COLOURS[indices[0] % len(_COLOURS)])
        space = text[: len(text) - len(text.lstrip())]
        return f"{space}[{''.join(_LETTERS[i] for i in indices)}:{text.strip()}]"


def steps_shown(steps: Sequence[Step]) -> Sequence[Step]:
    """The steps whose texts make up the answer: those of its segments, or the choice of a whole."""
    *segments, last = steps
    if not last.whole:
        return steps
    return segments if "cool" in last.winners and segments else [last]


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
