"""How disputed each piece of an answer was: the share of weight that wanted something else.

A step records what it needed to find its winner, no more: some sources were not asked, some scored
only their own word. So each source counts with what is known of it, and with its weight in the
answer. The figure is for looking; the winner was found as docs/method.md says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cf_local.trace.recording import Trace
from cf_local.trace.words import AnswerPiece, in_one_line
from cf_local.types import Step

LEVELS = (0.0, 0.25, 0.5, 0.75)
"""A piece is of level n (1 to 4) where more than ``LEVELS[n - 1]`` wanted something else."""
_MOST_LISTED = 5
_WIDTH, _HEIGHT, _MOST_COLUMNS = 720, 60, 90


@dataclass(frozen=True, slots=True)
class HotPiece:
    """One of the most disputed pieces: where, its text, how much wanted something else."""

    id: str
    text: str
    percent: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the chart along the answer, in the chart's units (720 wide, 60 high)."""

    x: float
    y: float
    width: float
    height: float


def disagreement(step: Step, trace: Trace) -> float:
    """The share (0 to 1) of the weight of the sources asked that wanted another candidate.

    A source wants candidates by their probabilities, as far as it scored them; one that scored
    nothing wants what it proposed.
    """
    if len(step.candidates) < 2:
        return 0.0
    kind = trace.heading.settings.get("score") if trace.heading else None
    wanted = {s.name: _wanted(step, s.name, kind) for s in trace.sources}
    weights = {
        s.name: 1.0 if s.weight is None else s.weight
        for s in trace.sources
        if wanted[s.name] is not None
    }
    whole = sum(weights.values())
    if not whole:
        return 0.0
    return 1 - sum(weight * (wanted[name] or 0.0) for name, weight in weights.items()) / whole


def _wanted(step: Step, name: str, kind: object) -> float | None:
    """How much (0 to 1) a source wanted the winner; None where nothing is known of it."""
    nats = {
        index: _nats(candidate.scores[name], kind)
        for index, candidate in enumerate(step.candidates)
        if name in candidate.scores
    }
    best = min(nats.values(), default=math.inf)
    if math.isfinite(best):
        odds = {index: math.exp(best - value) for index, value in nats.items()}
        return odds.get(step.winner, 0.0) / sum(odds.values())
    proposed = [i for i, candidate in enumerate(step.candidates) if name in candidate.sources]
    return float(step.winner in proposed) if proposed else None


def _nats(score: float, kind: object) -> float:
    """A score of any kind as minus the log of a probability."""
    if kind == "perplexity":
        return math.log(score) if score > 0 else 0.0
    return score * math.log(2) if kind == "bits_per_byte" else score


def level(share: float) -> int:
    """The level of a share: 0 where no source wanted anything else, up to 4."""
    return sum(share > above for above in LEVELS)


def percent(share: float) -> str:
    """A share as text."""
    return f"{100 * share:.0f}%"


def hottest(parts: Sequence[AnswerPiece], trace: Trace, prefix: str) -> tuple[HotPiece, ...]:
    """The most disputed pieces, the first of them the most; whole answers are not among them."""
    shares = [(disagreement(part.step, trace), part) for part in parts if not part.step.whole]
    ranked = sorted((pair for pair in shares if pair[0]), key=lambda pair: -pair[0])
    return tuple(
        HotPiece(f"{prefix}s{part.number}", _name(part.step), percent(share))
        for share, part in ranked[:_MOST_LISTED]
    )


def _name(step: Step) -> str:
    return in_one_line(step.text.strip() or step.text, 30) or "the end"


def columns(parts: Sequence[AnswerPiece], trace: Trace) -> tuple[Column, ...]:
    """Columns from left to right: the mean disagreement of the pieces under each."""
    n_columns = min(len(parts), _MOST_COLUMNS)
    if n_columns < 2:
        return ()
    shares = [disagreement(part.step, trace) for part in parts]
    width = _WIDTH / n_columns
    found = []
    for index in range(n_columns):
        start, end = (len(parts) * i // n_columns for i in (index, index + 1))
        share = sum(shares[start:end]) / (end - start)
        if not share:
            continue
        height = max(_HEIGHT * share, 1.0)
        shape = (index * width, _HEIGHT - height, max(width - 1, 0.8 * width), height)
        found.append(Column(*(round(value, 1) for value in shape)))
    return tuple(found)
