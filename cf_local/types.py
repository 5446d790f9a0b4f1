"""The plain data that travels between the parts: prompts, drafts, scores, steps, answers.

Everything here is frozen and free of behaviour beyond checking itself. Bytes are text as a model
writes it; ``str`` is text as a person reads it. The words are those of ``docs/method.md``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from cf_local.errors import InputError
from cf_local.structured import ResponseFormat

Mode = Literal["cool", "rerank", "cool+r", "single"]
ScoreKind = Literal["perplexity", "nll", "bits_per_byte"]
SegmentKind = Literal["aligned", "shortest", "sentence"]
WeighingKind = Literal["static", "prior", "hedge", "trim", "primary"]
KvType = Literal["f16", "q8_0"]
DeviceChoice = Literal["auto", "cpu", "gpu"]
FinishReason = Literal["stop", "length", "repetition", "stuck", "cancelled"]

MODES: tuple[str, ...] = get_args(Mode)
SCORES: tuple[str, ...] = get_args(ScoreKind)
SEGMENTS: tuple[str, ...] = get_args(SegmentKind)
WEIGHINGS: tuple[str, ...] = get_args(WeighingKind)
KV_TYPES: tuple[str, ...] = get_args(KvType)
DEVICE_CHOICES: tuple[str, ...] = get_args(DeviceChoice)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; ``role`` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt that every source puts into its own chat template.

    ``thinks`` asks reasoning models to think first or not to; None leaves it to them.
    """

    messages: tuple[Message, ...]
    thinks: bool | None = None


@dataclass(frozen=True, slots=True)
class RawText:
    """A prompt that is continued as it is: no template, BOS as the vocabulary wants it."""

    text: str


Prompt = Chat | RawText


def chat(question: str, *, system: str | None = None) -> Chat:
    """A conversation of one question, with system text in front if there is any."""
    turns = [Message("system", system)] if system else []
    return Chat((*turns, Message("user", question)))


def text_of(prompt: Prompt) -> str:
    """All text of a prompt, without roles or template."""
    if isinstance(prompt, Chat):
        return "\n".join(message.content for message in prompt.messages)
    return prompt.text


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a source picks its next token; a temperature of 0 is greedy (the argmax)."""

    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """What one source would write next.

    ``lookahead`` is the text of the token that would follow: chosen, never evaluated. It is empty
    when the draft ``ends`` (the next token is an end-of-generation token).
    ``token_ends`` are the byte offsets in ``text`` behind each of its tokens.
    ``is_stuck``: the grammar allows no token of this vocabulary behind ``text``, nor the end.
    """

    text: bytes
    ends: bool
    lookahead: bytes
    token_ends: tuple[int, ...]
    is_stuck: bool = False


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a source would write next, as far as it is known without a forward pass.

    The last token of ``text`` is chosen, but not evaluated; with ``ends`` the text ends there.
    """

    text: bytes
    ends: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A distinct (segment, ends?) pair; sources that draft the same text share one candidate."""

    text: bytes
    ends: bool


@dataclass(frozen=True, slots=True)
class Score:
    """What one source thinks of a candidate: negative log-likelihood summed over ``n_terms``."""

    nll_nats: float
    n_terms: int


@dataclass(frozen=True, slots=True)
class Counters:
    """Work a source has done since it was loaded."""

    n_passes: int = 0
    n_tokens: int = 0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate as a step reports it; without scores and mean when there was no other.

    A whole answer that could no longer win has no mean, and the scores that there are.
    """

    text: str
    ends: bool
    sources: tuple[str, ...]
    scores: Mapping[str, float]
    mean: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """One fused segment, or (``whole``) one choice among complete answers.

    ``text`` is what the step adds to the text shown. ``passes`` counts forward passes per source;
    ``timings_s`` has the seconds of "draft", "score", "rerank" and "commit".
    """

    text: str
    ends: bool
    winner: int
    candidates: tuple[ScoredCandidate, ...]
    passes: Mapping[str, int]
    timings_s: Mapping[str, float]
    whole: bool = False

    @property
    def winners(self) -> tuple[str, ...]:
        """The sources that proposed the winning candidate."""
        return self.candidates[self.winner].sources

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start of drafting to the end of the commit."""
        return sum(self.timings_s.values())


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Which model stood behind a name, with its tokens of context and its threads.

    ``opens_thinking`` are the values of ``Chat.thinks`` for which its template writes the tag
    behind which the model thinks, so that the answer begins inside.
    """

    name: str
    file: str
    n_ctx: int = 0
    n_threads: int = 0
    opens_thinking: frozenset[bool | None] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a stream: the whole text, why it ended, and what it cost.

    ``chosen`` names whose text it is: "cool" or a source. ``passes`` counts forward passes after
    the prompt, which took ``prompt_s``; ``decode_s`` is the time inside the models' forward passes,
    the prompt included, of ``elapsed_s`` in all.
    """

    text: str
    finish_reason: FinishReason
    mode: Mode
    chosen: str
    passes: Mapping[str, int]
    prompt_s: float
    prompt_tokens: Mapping[str, int]
    elapsed_s: float
    decode_s: float
    sources: tuple[SourceInfo, ...]


Event = Step | Answer


@dataclass(frozen=True, slots=True)
class Settings:
    """How an answer is fused.

    The defaults are the paper's but for the score: "nll" does not let one bad source decide alone,
    which the mean of perplexities does (docs/scores.md).

    ``max_tokens``: the answer ends when one source has that many tokens of its own in it.
    ``segment_words``: words after which a segment ends (not with segments "sentence").
    ``segment_limit``: tokens after which a longer segment is cut.
    ``weights``: one per source in their order, None for equal.
    ``weighing``: what else decides how far each source is heard (see ``weighing``).
    ``single``: the source that mode "single" lets speak (default: the first).
    ``speculation``: look ahead to save forward passes; it does not change the text.
    ``all_scores``: let every source score every whole answer (modes "rerank" and "cool+r"), even
    one that can no longer win; without, such scores are left out of the step, its winner is the
    same.
    ``reserve_tokens``: context that the prompt must leave for the answer.
    ``response_format``: the form the answer must have. An answer that does not end with "stop" is
    incomplete; stop strings are not looked for, as the form says where the answer may end.

    Raises InputError for values that make no sense.
    """

    mode: Mode = "cool"
    score: ScoreKind = "nll"
    segments: SegmentKind = "aligned"
    segment_words: int = 1
    weighing: WeighingKind = "static"
    weights: tuple[float, ...] | None = None
    single: str | None = None
    max_tokens: int = 1024
    segment_limit: int = 32
    reserve_tokens: int = 1
    stop: tuple[str, ...] = ()
    repetition_guard: bool = True
    speculation: bool = True
    all_scores: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    response_format: ResponseFormat | None = None

    def __post_init__(self) -> None:
        _check_choice("mode", self.mode, MODES)
        _check_choice("score", self.score, SCORES)
        _check_choice("segments", self.segments, SEGMENTS)
        _check_choice("weighing", self.weighing, WEIGHINGS)
        _check_range("segment_words", self.segment_words, 1)
        _check_range("max_tokens", self.max_tokens, 1)
        _check_range("segment_limit", self.segment_limit, 1)
        _check_range("reserve_tokens", self.reserve_tokens, 1)
        _check_range("temperature", self.sampling.temperature, 0)
        _check_range("top_p", self.sampling.top_p, 0, 1)
        _check_range("min_p", self.sampling.min_p, 0, 1)
        for weight in self.weights or ():
            _check_range("weight", weight, 0)
        if self.weights is not None and not sum(self.weights) > 0:
            raise InputError("All weights are zero; at least one source needs a positive weight.")
        if self.segments == "sentence" and self.segment_words > 1:
            raise InputError(
                f"segment_words is {self.segment_words}, but segments 'sentence' do not count "
                "words. Leave one of them out."
            )
        if "" in self.stop:
            raise InputError("A stop string is empty; it would end every answer at once.")


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")


def _check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise InputError(f"{name} is {value}; it must be {bounds}.")
