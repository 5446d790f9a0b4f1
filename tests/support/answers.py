"""Steps of answers, made by hand for the tests of what shows them."""

from __future__ import annotations

from collections.abc import Sequence

from cf_local.trace import Heading, Trace, TracedSource, shown
from cf_local.types import FUSED, Answer, ScoredCandidate, SourceInfo, Step, chat

NAMES = ("ash", "birch", "cedar")


def agreed(text: str, *, ends: bool = False, names: Sequence[str] = NAMES) -> Step:
    """What all sources proposed; nothing was scored."""
    candidate = ScoredCandidate(text, ends, tuple(names), {}, None)
    return _step(text, ends, 0, (candidate,))


def disputed(*texts: str, winner: int = 0, ends: bool = False) -> Step:
    """One candidate each of the first sources, the last one's also of those that remain."""
    proposers = [(name,) for name in NAMES[: len(texts)]]
    proposers[-1] = NAMES[len(texts) - 1 :]
    return _step(texts[winner], ends, winner, _scored(texts, proposers, ends))


def whole(*texts: str, proposers: Sequence[Sequence[str]] = (), winner: int = 0) -> Step:
    """A choice among whole answers."""
    by = proposers or [(name,) for name in NAMES[: len(texts)]]
    return _step(texts[winner], True, winner, _scored(texts, by, True), is_whole=True)


def _scored(
    texts: Sequence[str], proposers: Sequence[Sequence[str]], ends: bool
) -> tuple[ScoredCandidate, ...]:
    return tuple(
        ScoredCandidate(
            text, ends, tuple(by), {name: 0.5 + row + i for i, name in enumerate(NAMES)}, 1.5 + row
        )
        for row, (text, by) in enumerate(zip(texts, proposers, strict=True))
    )


def _step(
    text: str, ends: bool, winner: int, candidates: tuple[ScoredCandidate, ...], *, is_whole=False
) -> Step:
    return Step(
        text=text,
        ends=ends,
        winner=winner,
        candidates=candidates,
        passes=dict.fromkeys(NAMES, 1),
        timings_s={"draft": 0.25, "score": 0.125, "rerank": 0.0, "commit": 0.0},
        whole=is_whole,
    )


def traced(steps: Sequence[Step], *, names: Sequence[str] = NAMES, question: str = "Why?") -> Trace:
    """The trace of an answer of these steps."""
    sources = [TracedSource(n, f"/home/tom/{n}.gguf", "ab" * 32, 10**9, 4096, 8) for n in names]
    is_whole = bool(steps) and steps[-1].whole
    settings = {"mode": "cool+r" if is_whole else "cool", "sampling": {"seed": 7}, "stop": ["X"]}
    answer = Answer(
        text="".join(step.text for step in shown(steps)),
        finish_reason="stop",
        mode="cool+r" if is_whole else "cool",
        chosen=FUSED,
        passes=dict.fromkeys(names, 3),
        prompt_s=0.5,
        prompt_tokens=dict.fromkeys(names, 10),
        elapsed_s=4.0,
        decode_s=1.5,
        sources=tuple(SourceInfo(s.name, s.file, 4096, 8) for s in sources),
    )
    heading = Heading("2026-11-22T12:00:00+00:00", {"cf_local": "0.1"}, chat(question), settings)
    return Trace(heading, tuple(sources), tuple(steps), answer)
