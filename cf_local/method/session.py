"""The Source: one loaded model as the engine sees it.

Calls are coarse (draft a word, score these candidates, commit this one) and only bytes and numbers
cross them, never logits or token ids, so that a source may live in this process, in another one or
on another machine. A source owns its position: nobody else knows how its cache works.

The life of a source::

    begin(prompt)  ( draft()  extend()*  trim()?  score(...)?  commit(...) )*  ...  close()

``rollback()`` drops drafts and forks at any time; ``restart()`` returns to the end of the prompt.

One loaded model may have several ``seats``, each a Source with a position of its own, so that
several conversations go on at once. Calls of all seats come one after the other, in any order.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Required, TypedDict, Unpack, runtime_checkable

from cf_local.method.costs import PassCosts
from cf_local.progress import IsCancelled, Progress
from cf_local.settings import Sampling
from cf_local.types import Candidate, Counters, Draft, Foreseen, Prompt, Score, SourceInfo


class Beginning(TypedDict, total=False):
    """How ``Source.begin`` reads a prompt.

    ``reserve_tokens``: context that it must leave for the answer (1).
    ``speculates`` announces ``foresee`` and ``preview``, so that passes may be put off to them;
    ``revisits`` announces a ``restart`` that expects the same response.
    With a ``grammar`` (GBNF, see ``structured``) drafts and foreseen text obey it, from the start
    of the response and whoever wrote it; scores are those without.
    """

    sampling: Required[Sampling]
    reserve_tokens: int
    speculates: bool
    revisits: bool
    grammar: str | None
    is_cancelled: IsCancelled


class Source(Protocol):
    """What the engine asks of a model. Any call may raise ClosedError; work may raise Cancelled."""

    @property
    def info(self) -> SourceInfo:
        """Name and file of the model."""

    @property
    def costs(self) -> PassCosts:
        """Seconds of its forward passes by their size; fixed, so that no clock moves a text."""

    @property
    def counters(self) -> Counters:
        """Forward passes, tokens evaluated and seconds spent in them since the load."""

    @property
    def n_response_tokens(self) -> int:
        """Tokens of the response so far, in this source's own vocabulary."""

    @property
    def n_free(self) -> int:
        """Tokens by which the response can still grow before the context is full."""

    @property
    def seats(self) -> Sequence["Source"]:
        """This source, and others over the same loaded model, for as many conversations.

        Closing the first closes all. Where a prompt begins as the text of another seat does, it
        is not evaluated again (as far as the model's cache can share).
        """

    def begin(
        self, prompt: Prompt, *, on_progress: Progress | None = None, **how: Unpack[Beginning]
    ) -> int:
        """Evaluate the prompt, keeping what is cached of it; returns its number of tokens.

        Raises ContextError when it does not leave ``reserve_tokens`` of the context to the answer,
        InputError when it is empty, Cancelled when ``is_cancelled`` turned true (the source can be
        used again).
        """

    def beginning(self, prompt: Prompt, **how: Unpack[Beginning]) -> Generator[float, None, int]:
        """As ``begin``, in parts: yields the share that was read; other seats may work in between.

        Closed before its end it leaves a source that can be used again.
        """

    def continues(self, prompt: Prompt) -> int:
        """How many tokens of ``prompt`` this seat has read; 0 unless it goes on with its own.

        So a conversation that comes back finds its seat. Raises InputError as ``begin`` does.
        """

    def draft(self, limit: int) -> Draft:
        """Write from the committed state to the next word boundary of this vocabulary.

        Stops earlier when the answer would end, when the grammar leaves it no token (the draft is
        stuck), or after ``limit`` tokens (at least 1). A former draft is dropped.
        """

    def extend(self, limit: int) -> Draft:
        """Go on with the draft by at least a token, to its next word boundary.

        ``limit`` counts from the start of the draft. A draft that ends, is stuck or full stays as
        it is.
        """

    def trim(self, n_bytes: int) -> Draft:
        """Cut the draft behind one of its ``token_ends``."""

    def token_ends(self, text: bytes) -> frozenset[int]:
        """Byte offsets in ``text`` at which tokens end when it is tokenized behind the response."""

    def n_tokens(self, text: str) -> int:
        """Tokens of ``text`` in this source's own vocabulary, from any thread; no pass."""

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """Negative log-likelihood of each candidate behind the response, one forward pass for all.

        The own draft is scored with the very tokens it was written in, other text with this
        source's tokenization of it; an ending adds minus the log of the summed probability of all
        end-of-generation tokens (method: "Score"). A candidate that does not fit the context
        scores infinity.
        """

    def commit(self, candidate: Candidate) -> None:
        """Append a candidate to the response; no pass if it was drafted or scored before.

        Raises ContextError when it does not fit the context.
        """

    @property
    def can_foresee(self) -> bool:
        """Whether the calls below may be made: not every cache can look ahead."""

    def foreseen(self) -> Foreseen:
        """What the source would write behind the response, as far as it is known without a pass."""

    def foresee(self, n_tokens: int) -> None:
        """Write up to ``n_tokens`` further ahead.

        Drafts, scores and commits along it cost no forward pass. Nothing else changes.
        """

    def confidence(self, start: int) -> float:
        """The lowest probability it gave a token of the foreseen text behind byte ``start``."""

    def preview(self, texts: Sequence[bytes]) -> None:
        """Evaluate texts that may come behind the response, in one pass; else as ``foresee``."""

    def rollback(self) -> None:
        """Drop draft, scored candidates and foreseen text, keep the response."""

    def restart(self, *, expect_same: bool = False) -> None:
        """Drop the response, keep the prompt.

        With ``expect_same`` the response stays as foreseen text: it may be written again.
        """

    def close(self) -> None:
        """Give the memory back. May be called twice."""


class Readable(NamedTuple):
    """What a source has read of a prompt and could keep: tokens, bytes, seconds to read it anew."""

    n_tokens: int
    n_bytes: int
    reading_s: float


@runtime_checkable
class Keeping(Protocol):
    """What a Source may offer besides: its state behind a prompt, kept in a file (see ``kept``)."""

    @property
    def info(self) -> SourceInfo:
        """Name and file of the model."""

    @property
    def state_key(self) -> str:
        """What its states belong to (see ``kept.key``): under another key they are of no use."""

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt as ``begin`` would evaluate them."""

    def readable(self, prompt: Prompt) -> Readable:
        """What of ``prompt`` it has read, as far as ``keep`` can keep it."""

    def keep(self, path: Path, prompt: Prompt) -> list[int]:
        """Write the state behind what it has read of ``prompt`` to a file; its tokens.

        None of them if there is nothing to keep or the file cannot be written.
        """

    def restore(self, path: Path) -> int:
        """Take up the state of a file, in place of all it has read; the number of its tokens.

        The next prompt is not evaluated as far as it begins with them. 0 where the file is of no
        use: nothing is read then. The file must be one that ``keep`` has written, unchanged.
        """
