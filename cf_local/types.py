"""The plain data that travels between the parts: prompts, drafts, scores, steps, answers.

Everything here is frozen and has no behaviour. Bytes are text as a model writes it; ``str`` is text
as a person reads it. ``docs/method.md`` defines the terms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from cf_local.structured.tools import Tool, ToolCall, ToolForm, tools_text

Mode = Literal["cool", "rerank", "cool+r", "single"]
ScoreKind = Literal["mixture", "nll", "perplexity", "bits_per_byte"]
Weighting = Literal["size", "equal"]
SegmentKind = Literal["aligned", "shortest", "sentence"]
KvType = Literal["f16", "q8_0"]
DeviceChoice = Literal["auto", "cpu", "gpu"]
SourceKind = Literal["text", "embedding"]
Whereabouts = Literal["here", "ray"]
Pooling = Literal["mean", "cls", "last"]
FinishReason = Literal["stop", "length", "repetition", "stuck", "cancelled"]

MODES: tuple[str, ...] = get_args(Mode)
SCORES: tuple[str, ...] = get_args(ScoreKind)
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)
SEGMENTS: tuple[str, ...] = get_args(SegmentKind)
KV_TYPES: tuple[str, ...] = get_args(KvType)
DEVICE_CHOICES: tuple[str, ...] = get_args(DeviceChoice)
SOURCE_KINDS: tuple[str, ...] = get_args(SourceKind)
WHEREABOUTS: tuple[str, ...] = get_args(Whereabouts)
POOLINGS: tuple[str, ...] = get_args(Pooling)

MOST_THREADS = 512
"""The largest pool of threads in ggml; asking for a larger one ends the process."""

FUSED = "(fused)"
"""The proposer of the fused answer in mode "cool+r"; a source cannot have this name."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; ``role`` is "system", "user", "assistant" or "tool".

    ``tool_calls`` are the calls that a turn of the assistant makes. A turn of role "tool" is the
    result of the call ``tool_call_id``.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt that every source renders with its own chat template.

    ``thinks`` asks reasoning models to think first, or not to; None leaves it to them.
    ``tools`` may be called in the answer, in the form ``tool_form``; None is that of the source
    with the largest weight. ``tool_choice``: "auto" talks or calls, "required" calls, "none" does
    not, the name of a tool calls that. ``parallel_tool_calls`` allows several calls at once.
    """

    messages: tuple[Message, ...]
    thinks: bool | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    tool_form: ToolForm | None = None


@dataclass(frozen=True, slots=True)
class RawText:
    """A prompt that is continued as it is: no template; BOS if the vocabulary wants it."""

    text: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt in the tokens of one source, read as they are: nothing is added, not even BOS."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Infill:
    """Text with a gap to fill: every source marks it with its own vocabulary's tokens."""

    prefix: str
    suffix: str


Prompt = Chat | RawText | Tokens | Infill


def chat(question: str, *, system: str | None = None, thinks: bool | None = None) -> Chat:
    """A conversation of one question, after system text if any is given."""
    turns = [Message("system", system)] if system else []
    return Chat((*turns, Message("user", question)), thinks)


def is_unicode(text: str) -> bool:
    """Whether ``text`` has no lone surrogates: a str, JSON and file names may, UTF-8 may not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(prompt: Prompt) -> str:
    """The text of a prompt, without roles or template; that of tokens is not known here.

    Of a chat: its tools, then its turns with their calls.
    """
    match prompt:
        case Chat():
            parts = [tools_text(prompt.tools)] if prompt.tools else []
            for turn in prompt.messages:
                calls = [f"{call.name} {call.arguments}" for call in turn.tool_calls]
                parts += [turn.content, *calls] if turn.content or not calls else calls
            return "\n".join(parts)
        case RawText():
            return prompt.text
        case Infill():
            return prompt.prefix + prompt.suffix
        case Tokens():
            return ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What one source would write next.

    ``lookahead`` is the text of the token that would follow: chosen, but never evaluated. It is
    empty when the draft ``ends`` (the next token is an end-of-generation token).
    ``token_ends`` are the byte offsets in ``text`` at which its tokens end.
    ``is_stuck``: the grammar allows no token of this vocabulary after ``text``, nor the end.
    """

    text: bytes
    ends: bool
    lookahead: bytes
    token_ends: tuple[int, ...]
    is_stuck: bool = False


@dataclass(frozen=True, slots=True)
class KnownText:
    """What a source would write next, as far as known without a forward pass.

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
    """What one source thinks of a candidate: negative log-likelihood summed over ``n_terms``.

    ``word_end_nats`` is minus the log of the probability that its last word ends there (0 for a
    candidate that ends the answer, and where it was not asked for).
    """

    nll_nats: float
    n_terms: int
    word_end_nats: float = 0.0


@dataclass(frozen=True, slots=True)
class Counters:
    """The work of a source since it was loaded."""

    n_passes: int = 0
    n_tokens: int = 0
    decode_s: float = 0.0

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(
            self.n_passes + other.n_passes,
            self.n_tokens + other.n_tokens,
            self.decode_s + other.decode_s,
        )


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate as a step reports it; a sole candidate has no scores and no mean.

    A whole answer that could no longer win has no mean, and only some scores.
    """

    text: str
    ends: bool
    sources: tuple[str, ...]
    scores: Mapping[str, float]
    mean: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """One fused segment, or (``whole``) one choice among complete answers.

    ``text`` is what the step adds to the shown text. ``asked`` names the sources that had a part in
    the decision; what the others would have said could not change it. ``passes`` counts forward
    passes per source; ``timings_s`` has the seconds of "draft", "score", "rerank" and "commit".
    """

    text: str
    ends: bool
    winner: int
    candidates: tuple[ScoredCandidate, ...]
    passes: Mapping[str, int]
    timings_s: Mapping[str, float]
    whole: bool = False
    asked: tuple[str, ...] = ()

    @property
    def winners(self) -> tuple[str, ...]:
        """The sources that proposed the winning candidate; nobody proposed an end of thinking."""
        return self.candidates[self.winner].sources

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start of drafting to the end of the commit."""
        return sum(self.timings_s.values())


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The model that a name stands for, with its tokens of context and its threads.

    ``n_parameters`` counts those that compute a token, so not all of a mixture of experts; 0 if
    unknown.
    ``opens_thinking``: for a value of ``Chat.thinks``, the tag with which its template opens
    thinking, if it does, so that the answer starts inside. ``tool_form`` is how its template writes
    calls of tools; None if it cannot.
    """

    name: str
    file: str
    n_ctx: int = 0
    n_threads: int = 0
    n_parameters: int = 0
    opens_thinking: Mapping[bool | None, str] = field(default_factory=dict, hash=False)
    tool_form: ToolForm | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a stream: the whole text, why it ended, and what it cost.

    ``stop`` is the stop string that ended it, if one did.
    ``chosen`` names who wrote the text: FUSED or a source. ``cached_tokens`` are those of
    ``prompt_tokens`` that had been read before. ``passes`` counts forward passes after
    the prompt, which took ``prompt_s``; ``decode_s`` is the time inside the models' forward passes,
    including the prompt, of ``elapsed_s`` in all. ``notices`` say what did not go as usual, such as
    a source that was lost and loaded again.
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
    cached_tokens: Mapping[str, int] = field(default_factory=dict)
    stop: str = ""
    notices: tuple[str, ...] = ()


Event = Step | Answer
