"""The one form of a request for answers that every dialect of the interface is translated to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cf_local.server.api_errors import invalid
from cf_local.settings import Settings
from cf_local.types import Prompt, SourceInfo

MOST_CHOICES = 16
"""The most answers of one request: prompts times ``n``."""

_SEED_STRIDE = 1_000_003
"""Distance between the seeds of choices; the sources of a choice use consecutive seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """Prompts for one model, and what the request says about their answers.

    Each prompt is answered ``n`` times. ``settings`` holds only the options and the response format
    that the request sets itself; ``stop`` adds to the model's own stop texts. ``n_logprobs`` is the
    number of candidates to report in addition to the winner; None for no log-probabilities.
    ``traces``: the response says how the answer came about. ``echoes``: the text of the prompt
    comes first, and nothing after it unless it ``answers``.
    """

    model: str
    prompts: tuple[Prompt, ...]
    n: int = 1
    streams: bool = False
    stop: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    n_logprobs: int | None = None
    traces: bool = False
    echoes: bool = False
    answers: bool = True

    def __post_init__(self) -> None:
        if len(self.prompts) * self.n > MOST_CHOICES:
            message = f"A request may have at most {MOST_CHOICES} answers: prompts times n."
            raise invalid(message, "n")
        if self.stop and self.settings.get("response_format") is not None:
            raise invalid("stop would break the requested format. Leave one out.", "stop")

    def choices(self, drawn: int) -> list[tuple[int, Prompt, int]]:
        """Index, prompt and seed of each answer to write; ``drawn`` is the seed if none is set."""
        seed = self.settings.get("seed", drawn)
        pairs = [(prompt, i) for prompt in self.prompts for i in range(self.n)]
        return [(index, prompt, seed + i * _SEED_STRIDE) for index, (prompt, i) in enumerate(pairs)]

    def settings_over(
        self, defaults: Settings, sources: Sequence[SourceInfo], seed: int
    ) -> Settings:
        """The settings of one answer by a fusion of ``sources``, over its ``defaults``.

        Raises InputError for settings that make no sense together.
        """
        given = dict(self.settings)
        form = given.pop("response_format", defaults.response_format)
        has_logprobs = self.n_logprobs is not None
        settings = replace(defaults, score_unanimous=has_logprobs, response_format=form)
        everyone = {"all_scores": True} if has_logprobs else {}
        settings = settings.with_options(
            {**given, **everyone, "seed": seed, "stop": (*defaults.stop, *self.stop)}
        )
        settings.weights_of(sources)
        return settings
