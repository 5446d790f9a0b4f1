"""Sources and sessions: what the method asks of a loaded model, and of one position in it.

A Source is a loaded model. Each of its Sessions has a position of its own: a prompt, the response
so far, and what of both is in its cache. Nobody else knows how that cache works.

Calls are coarse (draft a word, score these candidates, commit this one), and only bytes and numbers
cross them, never logits or token ids. So a session may live in this process, in another one or on
another machine. The life of a session::

    prefill(prompt)  ( draft()  extend()*  trim()?  score(...)?  commit(...) )*

``rollback()`` drops drafts and scored candidates at any time; ``restart()`` returns to the end of
the prompt. Calls of all sessions come one after the other, in any order.

What not every session can do is apart: ``Lookahead`` saves passes, ``Resumable`` keeps a state in a
file.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Required, TypedDict, Unpack, runtime_checkable

from cf_local.method.costs import PassCosts
from cf_local.progress import IsCancelled, Progress, drained
from cf_local.settings import Sampling
from cf_local.types import Candidate, Counters, Draft, KnownText, Prompt, Score, SourceInfo


class Source(Protocol):
    """A loaded model. Any call may raise ClosedError."""

    @property
    def info(self) -> SourceInfo:
        """Name and file of the model."""

    @property
    def costs(self) -> PassCosts:
        """Seconds of its forward passes by their size; fixed, so that no clock moves a text."""

    @property
    def sessions(self) -> Sequence["Session"]:
        """As many positions as conversations may go on at once; at least one.

        Where a prompt begins as the text of another session does, it is not evaluated again (as
        far as the model's cache can share).
        """

    def n_tokens(self, text: str) -> int:
        """Tokens of ``text`` in this source's own vocabulary, from any thread; no pass."""

    def close(self) -> None:
        """Give the memory back. May be called twice."""


class Prefill(TypedDict, total=False):
    """How ``Session.prefill`` reads a prompt.

    ``reserve_tokens``: context that it must leave for the answer (1).
    ``looks_ahead`` announces calls of ``lookahead``, so that passes may be put off to them;
    ``revisits`` announces a ``restart`` that expects the same response.
    With a ``grammar`` (GBNF, see ``structured``) drafts and text ahead obey it, from the start of
    the response and whoever wrote it; scores are those without.
    """

    sampling: Required[Sampling]
    reserve_tokens: int
    looks_ahead: bool
    revisits: bool
    grammar: str | None
    is_cancelled: IsCancelled


class Session(Protocol):
    """One position in a model. Any call may raise ClosedError; work may raise Cancelled."""

    @property
    def source(self) -> Source:
        """The model."""

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
    def lookahead(self) -> "Lookahead | None":
        """Evaluates what may come; None where the cache cannot be shared."""

    def n_resident(self, prompt: Prompt) -> int:
        """Tokens of ``prompt`` that this session has read; 0 unless it goes on with its own.

        So a conversation that comes back finds its session. Raises InputError as ``prefill`` does.
        """

    def prefill(self, prompt: Prompt, **how: Unpack[Prefill]) -> Generator[float, None, int]:
        """Evaluate the prompt, keeping what is cached of it; returns its number of tokens.

        Yields the share that was read; other sessions may work in between. Closed before its end
        it leaves a session that can be used again.

        Raises ContextError when the prompt does not leave ``reserve_tokens`` of the context to the
        answer, InputError when it is empty, Cancelled when ``is_cancelled`` turned true (the
        session can be used again).
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
        """Cut the draft after one of its ``token_ends``."""

    def token_ends(self, text: bytes) -> frozenset[int]:
        """Byte offsets in ``text`` at which tokens end when it is tokenized after the response."""

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """Negative log-likelihood of each candidate after the response, one forward pass for all.

        The own draft is scored with the very tokens it was written in, other text with this
        source's tokenization of it; an ending adds minus the log of the summed probability of all
        end-of-generation tokens (method: "Score"). A candidate that does not fit the context
        scores infinity.
        """

    def commit(self, candidate: Candidate) -> None:
        """Append a candidate to the response; no pass if it was drafted or scored before.

        Raises ContextError when it does not fit the context.
        """

    def rollback(self) -> None:
        """Drop draft, scored candidates and text ahead, keep the response."""

    def restart(self, *, expect_same: bool = False) -> None:
        """Drop the response, keep the prompt.

        With ``expect_same`` the response stays resident: it may be written again.
        """


class Lookahead(Protocol):
    """Evaluates what may come after the response.

    Drafts, scores and commits along it cost no forward pass. Nothing else changes.
    """

    def known(self) -> KnownText:
        """What the session would write after the response, as far as no pass is needed."""

    def extend(self, n_tokens: int) -> None:
        """Write up to ``n_tokens`` further ahead."""

    def confidence(self, start: int) -> float:
        """The lowest probability it gave a token of the known text after byte ``start``."""

    def prefetch(self, texts: Sequence[bytes]) -> None:
        """Evaluate texts that may come after the response, in one pass."""


class Readable(NamedTuple):
    """What of a prompt a session could save: tokens, bytes, and the seconds it took to read."""

    n_tokens: int
    n_bytes: int
    reading_s: float


@runtime_checkable
class Resumable(Protocol):
    """What a Session may offer besides: its state after a prompt, kept in a file."""

    @property
    def source(self) -> Source:
        """The model."""

    @property
    def state_key(self) -> str:
        """What its states belong to: under another key they are of no use."""

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt as ``prefill`` would evaluate them."""

    def readable(self, prompt: Prompt) -> Readable:
        """What of ``prompt`` it has read, as far as ``save`` can save it."""

    def save(self, path: Path, prompt: Prompt) -> list[int]:
        """Write the state after what it has read of ``prompt`` to a file; its tokens.

        None of them if there is nothing to save or the file cannot be written.
        """

    def restore(self, path: Path) -> int:
        """Take up the state of a file, in place of all it has read; the number of its tokens.

        The next prompt is not evaluated as far as it begins with them. 0 where the file is of no
        use: nothing is read then. The file must be one that ``save`` has written, unchanged.
        """


def prefill(
    session: Session,
    prompt: Prompt,
    *,
    on_progress: Progress | None = None,
    **how: Unpack[Prefill],
) -> int:
    """As ``Session.prefill``, at once; ``on_progress`` hears the share that was read."""
    return drained(session.prefill(prompt, **how), on_progress)
