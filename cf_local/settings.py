"""The settings of an answer, and the one table of them that every front end reads.

``OPTIONS`` is built from the fields of ``Settings`` and ``Sampling``. The command line, the
environment, models.toml, the chat, the server and evaluations offer what it lists: a field added
here with a help text appears in all of them.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Literal

from cf_local.errors import InputError
from cf_local.structured import ResponseFormat
from cf_local.structured.tools import ToolForm
from cf_local.types import (
    MODES,
    SCORES,
    SEGMENTS,
    WEIGHTINGS,
    Mode,
    ScoreKind,
    SegmentKind,
    SourceInfo,
    Weighting,
)

OptionKind = Literal["choice", "whole", "number", "switch", "source", "texts", "numbers"]
"""The type of a value: one of ``choices``, an int, a float, a bool, the name of a source, a tuple
of texts, or a number for each of several keys (or one of ``choices``)."""

SIZE_POWER = 1.0
"""How the weight of a source grows with its number of parameters (docs/scores.md)."""

PAPER: Mapping[str, Any] = {"mode": "cool", "score": "perplexity", "weights": "equal"}
"""The paper's own choices where the defaults differ (Cool-Fusion, section 3.3)."""

_SEEDS = 2**63
_NONE = ("off", "none", "default")
_SWITCH = {
    **dict.fromkeys(("on", "yes", "true", "1"), True),
    **dict.fromkeys(("off", "no", "false", "0"), False),
}


def _about(
    kind: OptionKind,
    text: str,
    *,
    choices: tuple[str, ...] = (),
    low: float = -math.inf,
    high: float = math.inf,
    key: str = "",
) -> Mapping[str, Any]:
    """The metadata that makes a field a row of the table."""
    return {"kind": kind, "help": text, "choices": choices, "low": low, "high": high, "key": key}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a source picks its next token; a temperature of 0 is greedy (the argmax).

    Penalties lower what the response has, in the source's own tokens; ``logit_bias`` has a number
    for some texts (docs/method.md). They change what is drafted, greedily or not, and never how it
    is scored.
    """

    temperature: float = field(
        default=0.0, metadata=_about("number", "Sampling temperature; 0 is greedy.", low=0)
    )
    top_k: int = field(
        default=0,
        metadata=_about("whole", "Sample from this many most likely tokens; 0 for all.", low=-1),
    )
    top_p: float = field(default=1.0, metadata=_about("number", "Nucleus sampling.", low=0, high=1))
    min_p: float = field(
        default=0.0, metadata=_about("number", "Minimum-probability sampling.", low=0, high=1)
    )
    repeat_penalty: float = field(
        default=1.0,
        metadata=_about(
            "number",
            "Make tokens that occurred less likely by this factor; 1 is off.",
            low=0.01,
            high=100,
        ),
    )
    frequency_penalty: float = field(
        default=0.0,
        metadata=_about(
            "number",
            "Lower the logit of a token by this for each time it occurred.",
            low=-2,
            high=2,
        ),
    )
    presence_penalty: float = field(
        default=0.0,
        metadata=_about(
            "number", "Lower the logit of a token by this if it occurred.", low=-2, high=2
        ),
    )
    dry_multiplier: float = field(
        default=0.0,
        metadata=_about("number", "Strength of DRY, against loops; 0 is off.", low=0, high=100),
    )
    dry_base: float = field(
        default=1.75,
        metadata=_about("number", "How fast DRY grows with a repetition.", low=1, high=100),
    )
    dry_allowed_length: int = field(
        default=2, metadata=_about("whole", "Tokens that DRY lets repeat.", low=1)
    )
    logit_bias: Mapping[str, float] | None = field(
        default=None,
        metadata=_about(
            "numbers", "Add to the logits of a text; -100 bans it.", low=-100, high=100, key="TEXT"
        ),
        hash=False,
    )
    seed: int = field(
        default=0,
        metadata=_about("whole", "Random seed.", low=-_SEEDS, high=_SEEDS - 1),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """How an answer is fused.

    The defaults are those of the paper, except score and weights: a mean of perplexities lets one
    bad source decide alone, a mean of probabilities does not (docs/scores.md). ``PAPER`` has its
    own choices.

    ``max_tokens``: the answer ends when it has that many tokens for each source, so that a wordy
    vocabulary does not end everybody's answer.
    ``max_thinking_tokens``: the same for thinking, which is closed then; None for no limit. It
    does not apply to an answer in a required form.
    ``segment_words``: words after which a segment ends (not with segments "sentence").
    ``segment_limit``: tokens after which a longer segment is cut.
    ``weights``: by the names of sources; a source not named has 1. "size": by the number of
    parameters, to the power ``SIZE_POWER``; "equal": 1 for all.
    ``only``: the source that writes in mode "single" (default: the first).
    ``speculation``: look ahead to save forward passes; it does not change what the method says.
    ``all_scores``: ask every source at every step, even one that can no longer change the winner.
    Without it the step lacks such drafts and scores; its winner is the same.
    ``score_unanimous``: score a segment even if nothing else is proposed, to know its likelihood.
    ``reserve_tokens``: context that the prompt must leave for the answer.
    ``response_format``: the form the answer must have. An answer that does not finish with "stop"
    is incomplete. Stop strings are ignored, as the form says where the answer may end; where it
    allows talk and calls of tools, they end the talk.

    Raises InputError for invalid values.
    """

    mode: Mode = field(
        default="cool", metadata=_about("choice", "How the sources work together.", choices=MODES)
    )
    score: ScoreKind = field(
        default="mixture",
        metadata=_about("choice", "What decides between candidates.", choices=SCORES),
    )
    segments: SegmentKind = field(
        default="aligned", metadata=_about("choice", "Where a segment may end.", choices=SEGMENTS)
    )
    segment_words: int = field(default=1, metadata=_about("whole", "Words in a segment.", low=1))
    segment_limit: int = field(
        default=32, metadata=_about("whole", "Cut a segment after this many tokens.", low=1)
    )
    weights: Mapping[str, float] | Weighting = field(
        default="size",
        metadata=_about(
            "numbers",
            "Weight of a source; or size or equal for all.",
            choices=WEIGHTINGS,
            low=0,
            key="SOURCE",
        ),
        hash=False,
    )
    only: str | None = field(
        default=None, metadata=_about("source", "One source alone (implies mode single).")
    )
    max_tokens: int = field(
        default=1024, metadata=_about("whole", "End the answer after this many tokens.", low=1)
    )
    max_thinking_tokens: int | None = field(
        default=None,
        metadata=_about(
            "whole", "End the thinking of a reasoning model after this many tokens.", low=0
        ),
    )
    stop: tuple[str, ...] = field(
        default=(), metadata=_about("texts", "End the answer before this text.")
    )
    repetition_guard: bool = field(
        default=True, metadata=_about("switch", "End an answer that repeats itself.")
    )
    speculation: bool = field(
        default=True,
        metadata=_about("switch", "Look ahead to save time, where that is expected to help."),
    )
    sampling: Sampling = field(default_factory=Sampling)
    reserve_tokens: int = 1
    all_scores: bool = field(
        default=False,
        metadata=_about("switch", "Ask every source at every step, even if it cannot matter."),
    )
    score_unanimous: bool = False
    response_format: ResponseFormat | None = None

    def __post_init__(self) -> None:
        for option in OPTIONS.values():
            option.check(self.get(option.name))
        _check_range("reserve_tokens", self.reserve_tokens, 1)
        if self.segments == "sentence" and self.segment_words > 1:
            raise InputError(
                f"segment_words is {self.segment_words}, but segments 'sentence' do not count "
                "words. Leave one of them out."
            )

    @property
    def is_final_as_written(self) -> bool:
        """Whether text stays once it is written; other modes choose among whole answers."""
        return self.mode in ("cool", "single")

    def get(self, name: str) -> Any:
        """The value of an option of the table."""
        return getattr(self.sampling if OPTIONS[name].is_sampling else self, name)

    def with_options(self, values: Mapping[str, Any]) -> "Settings":
        """These settings with some options changed; ``only`` implies mode "single".

        Raises InputError for invalid values.
        """
        values = dict(values)
        if values.get("only") is not None:
            values.setdefault("mode", "single")
        sampling = {name: values.pop(name) for name in list(values) if OPTIONS[name].is_sampling}
        return replace(self, sampling=replace(self.sampling, **sampling), **values)

    def weights_of(self, sources: Sequence[SourceInfo]) -> list[float]:
        """The weight of each source, in their order; of one source alone 1.

        By "size" it is the number of parameters to the power ``SIZE_POWER``, 1 for all where a
        number is unknown. Raises InputError for weights of other sources, or when all are 0.
        """
        names = [source.name for source in sources]
        if isinstance(self.weights, str):
            sizes = [source.n_parameters for source in sources]
            if self.weights == "equal" or not all(sizes):
                return [1.0] * len(sources)
            return [(size / max(sizes)) ** SIZE_POWER for size in sizes]
        for name in self.weights:
            if name not in names:
                known = ", ".join(names)
                raise InputError(
                    f"weights: no source is named {name[:60]!r}; the sources are {known}."
                )
        weights = [float(self.weights.get(name, 1.0)) for name in names]
        if not any(weights):
            raise InputError("All weights are zero; at least one source needs a positive weight.")
        return weights if len(weights) > 1 else [1.0]

    def tool_form_of(self, sources: Sequence[SourceInfo]) -> ToolForm:
        """How answers of ``sources`` call tools: as the one with the largest weight was taught to.

        Next to a required form, calls have tags, which set them apart from it. Raises InputError as
        ``weights_of``.
        """
        if self.response_format is not None:
            return "tags"
        if len(sources) == 1:
            return sources[0].tool_form or "tags"
        weights = self.weights_of(sources)
        first = max(range(len(weights)), key=weights.__getitem__)
        return sources[first].tool_form or "tags"


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table: the name of a setting, its possible values, and one line of help."""

    name: str
    kind: OptionKind
    default: Any
    help: str
    choices: tuple[str, ...]
    low: float
    high: float
    key: str  # what has a number each, of kind "numbers": SOURCE or TEXT
    is_sampling: bool

    def parse(self, text: str) -> Any:
        """The value that a text stands for; "off" means none. Raises InputError."""
        if text.lower() in _NONE and self.default in (None, ()):
            return self.default
        if self.kind == "numbers":
            return text if text in self.choices else self.numbers(self._words(text))
        if self.kind == "texts":
            return (text,)
        if self.kind == "switch":
            if text.lower() not in _SWITCH:
                raise InputError(f"{self.name} is on or off, not {text!r}.")
            return _SWITCH[text.lower()]
        try:
            return {"whole": int, "number": float}.get(self.kind, str)(text)
        except ValueError:
            what = "whole number" if self.kind == "whole" else "number"
            raise InputError(f"{self.name} is a {what}, not {text!r}.") from None

    def numbers(self, pairs: Sequence[str]) -> Mapping[str, float]:
        """The value of kind "numbers" from texts such as "KEY=NUMBER". Raises InputError."""
        found = {}
        for pair in pairs:
            key, _, number = pair.rpartition("=")
            try:
                if not key:
                    raise ValueError
                found[key] = float(number)
            except ValueError:
                raise InputError(f"{self.name}: {pair!r} is not {self.key}=NUMBER.") from None
        return found

    def _words(self, text: str) -> list[str]:
        """The words of a text; quotes keep words together, as in a shell."""
        try:
            return shlex.split(text)
        except ValueError as error:
            raise InputError(f"{self.name}: {text!r} cannot be read: {error}.") from None

    def text(self, value: Any) -> str:
        """The text of a value, as ``parse`` reads it."""
        if isinstance(value, bool):
            return "on" if value else "off"
        if value is None or value == ():
            return "off"
        if isinstance(value, Mapping):
            return shlex.join(f"{key}={number:g}" for key, number in value.items())
        return " ".join(map(repr, value)) if self.kind == "texts" else str(value)

    def check(self, value: Any) -> None:
        """Raise InputError for an invalid value."""
        if value is None and self.default is None:
            return
        if self.kind == "choice" and value not in self.choices:
            known = ", ".join(self.choices)
            raise InputError(f"{self.name} is {value!r}; it must be one of {known}.")
        if self.kind in ("whole", "number"):
            _check_range(self.name, value, self.low, self.high)
        if self.kind == "numbers" and isinstance(value, str) and value not in self.choices:
            known = ", ".join((*self.choices, f"or {self.key}=NUMBER"))
            raise InputError(f"{self.name} is {value!r}; it must be {known}.")
        if isinstance(value, Mapping):
            if "" in value:
                raise InputError(f"{self.name}: a {self.key.lower()} is empty.")
            for key, number in value.items():
                _check_range(f"{self.name}: {key}", number, self.low, self.high)
        if self.kind == "texts" and "" in value:
            raise InputError("A stop string is empty; it would end every answer at once.")


def _check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise InputError(f"{name} is {value}; it must be {bounds}.")


def _option(each: Field[Any], owner: type) -> Option:
    about = each.metadata
    return Option(
        each.name,
        about["kind"],
        each.default,
        about["help"],
        about["choices"],
        about["low"],
        about["high"],
        about["key"],
        owner is Sampling,
    )


OPTIONS: Mapping[str, Option] = {
    each.name: _option(each, owner)
    for owner in (Settings, Sampling)
    for each in fields(owner)
    if "kind" in each.metadata
}
"""The table of settings, by name."""
