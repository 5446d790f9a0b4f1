"""How an answer came about: the field ``cf_local`` of responses, and log-probabilities."""

import math
from collections.abc import Sequence

from typing_extensions import TypedDict

from cf_local.server.vocabulary import Echo, name_of, shown
from cf_local.settings import Settings
from cf_local.trace import Trace, TracedSource, summarize
from cf_local.types import Answer, FinishReason, Mode, ScoreKind, Step


class CandidateTrace(TypedDict):
    """A candidate of a step, in the units of the score."""

    text: str
    ends: bool
    sources: list[str]
    scores: dict[str, float | None]
    mean: float | None
    won: bool


class SegmentTrace(TypedDict):
    """One step."""

    text: str
    whole: bool
    ends: bool
    agreed: bool
    winners: list[str]
    asked: list[str]
    candidates: list[CandidateTrace]


class AnswerTrace(TypedDict):
    """The figures of an answer."""

    finish_reason: FinishReason
    agreement: float | None
    wins: dict[str, int]
    segments: int
    seconds: float
    text: str
    chosen: str
    mode: Mode


class TokenLogprob(TypedDict):
    """The log-probability of a segment."""

    token: str
    logprob: float
    bytes: list[int]


class SegmentLogprobs(TokenLogprob):
    """A segment and the other candidates of its step."""

    top_logprobs: list[TokenLogprob]


class CompletionLogprobs(TypedDict):
    """The log-probabilities of an answer, segment by segment, and of an echo before it."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


_IMPOSSIBLE = -9999.0
"""OpenAI's value for a log-probability of minus infinity, which JSON cannot express."""


def segment(step: Step, names: Sequence[str]) -> SegmentTrace:
    """One step: its text, its winners, and every source's score of every candidate."""
    return {
        "text": step.text,
        "whole": step.whole,
        "ends": step.ends,
        "agreed": set(names) <= set(step.winners),
        "winners": list(step.winners),
        "asked": list(step.asked),
        "candidates": [
            {
                "text": candidate.text,
                "ends": candidate.ends,
                "sources": list(candidate.sources),
                "scores": {name: _finite(score) for name, score in candidate.scores.items()},
                "mean": None if candidate.mean is None else _finite(candidate.mean),
                "won": index == step.winner,
            }
            for index, candidate in enumerate(step.candidates)
        ],
    }


def end(steps: Sequence[Step], answer: Answer) -> AnswerTrace:
    """The figures of an answer."""
    sources = tuple(TracedSource(s.name, "", None, None, 0, 0) for s in answer.sources)
    summary = summarize(Trace(None, sources, tuple(steps), answer))
    n = summary.n_segments
    return {
        "finish_reason": answer.finish_reason,
        "agreement": summary.n_agreed / n if n else None,
        "wins": dict(summary.wins),
        "segments": n,
        "seconds": answer.elapsed_s,
        "text": answer.text,
        "chosen": answer.chosen,
        "mode": answer.mode,
    }


def chat_logprobs(step: Step, text: str, settings: Settings, n_top: int) -> SegmentLogprobs:
    """A segment as a token of OpenAI's chat interface, with up to ``n_top`` candidates."""
    own, others = _logprobs(step, settings.score)
    top = [_token(t, logprob) for t, logprob in others[:n_top]]
    return {**_token(text, own), "top_logprobs": top}


def completion_logprobs(
    pieces: Sequence[tuple[Step, str]], settings: Settings, n_top: int, offset: int = 0
) -> CompletionLogprobs:
    """Segments as tokens of the completion interface; ``offset`` is where the first one starts."""
    found = [(text, *_logprobs(step, settings.score)) for step, text in pieces]
    starts = []
    for text, *_ in found:
        starts.append(offset)
        offset += len(text)
    return {
        "tokens": [text for text, *_ in found],
        "token_logprobs": [own for _, own, _ in found],
        "top_logprobs": [dict(reversed(others[:n_top])) for *_, others in found] if n_top else None,
        "text_offset": starts,
    }


def echo_logprobs(echo: Echo, n_top: int) -> CompletionLogprobs:
    """The tokens of a prompt; nothing comes before the first one."""
    names, starts = shown([token.text for token in echo.tokens])
    top = [
        {name_of(text): _possible(logprob) for text, logprob in reversed(token.likely)} or None
        for token in echo.tokens
    ]
    return {
        "tokens": names,
        "token_logprobs": [
            None if token.logprob is None else _possible(token.logprob) for token in echo.tokens
        ],
        "top_logprobs": list(top) if n_top else None,
        "text_offset": starts,
    }


def joined(front: CompletionLogprobs, rest: CompletionLogprobs) -> CompletionLogprobs:
    """Log-probabilities of an echo and its answer."""
    tops = [*(front["top_logprobs"] or ()), *(rest["top_logprobs"] or ())]
    return {
        "tokens": front["tokens"] + rest["tokens"],
        "token_logprobs": front["token_logprobs"] + rest["token_logprobs"],
        "top_logprobs": tops or None,
        "text_offset": front["text_offset"] + rest["text_offset"],
    }


def _possible(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _IMPOSSIBLE


def _token(text: str, logprob: float) -> TokenLogprob:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _logprobs(step: Step, score: ScoreKind) -> tuple[float, list[tuple[str, float]]]:
    """The log-probability of the winner, and those of all candidates, the likeliest first.

    By "mixture" it is that of the whole word, in nats; else the mean log-likelihood in nats per
    token (per byte for the score "bits_per_byte").
    """
    found = [(c.text, _likelihood(c.mean, score)) for c in step.candidates]
    winner = found[step.winner][1]
    return winner, sorted(found, key=lambda pair: -pair[1])


def _likelihood(mean: float | None, score: ScoreKind) -> float:
    if mean is None:
        return 0.0
    if not math.isfinite(mean):
        return _IMPOSSIBLE
    if score == "perplexity":
        return -math.log(max(mean, 1.0))
    return -mean * math.log(2) if score == "bits_per_byte" else -mean


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
