"""Continuations of the committed text: branches to be committed, and a guess of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cf_local.llama.distribution import Distribution


@dataclass(slots=True)
class Branch:
    """A continuation of the committed text.

    ``rows[i]`` is what the model expects behind ``i`` of the tokens; a branch that was read at once
    has only the last one, ``end``, and its ``nlls`` instead (nats, one per token). ``next_token``
    was chosen to follow, but is not evaluated. A branch ``on_guess`` lives in the cells of the
    guess; one that is not ``cached`` has lost its fork to make room, keeps its score and is
    evaluated again if it wins.
    """

    tokens: list[int]
    rows: list[Distribution]
    sequence: int
    nlls: list[float] = field(default_factory=list)
    next_token: int | None = None
    on_guess: bool = False
    cached: bool = True

    @property
    def end(self) -> Distribution:
        """What the model expects behind the branch."""
        return self.rows[-1]

    @property
    def nll_nats(self) -> float:
        """Negative log-likelihood of all tokens; computed when first asked for."""
        for index in range(len(self.nlls), len(self.tokens)):
            self.nlls.append(self.rows[index].nll(self.tokens[index]))
        return sum(self.nlls)


@dataclass(slots=True)
class Guess:
    """Tokens evaluated behind the committed text before anybody drafted them.

    ``rows[i]`` is what the model expects behind ``i`` of them; the first ``n_used`` are committed.
    """

    tokens: list[int]
    rows: list[Distribution]
    n_used: int = 0

    @property
    def left(self) -> list[int]:
        """The tokens that are not committed."""
        return self.tokens[self.n_used :]

    def begins(self, tokens: Sequence[int]) -> bool:
        """Whether what is left begins with ``tokens``."""
        return self.tokens[self.n_used : self.n_used + len(tokens)] == list(tokens)

    def rows_along(self, n_tokens: int) -> list[Distribution]:
        """Rows 0 to ``n_tokens`` of what is left."""
        return self.rows[self.n_used : self.n_used + n_tokens + 1]
