"""Sources and sessions: what the method asks of a loaded model, and of one position in it.

A Source is a loaded model. Each of its Sessions has its own position: a prompt, the response so
far, and the part of both that is cached. No one else knows how that cache works.

Calls are coarse (draft a word, score these candidates, commit this one). They exchange only bytes
and numbers, never logits or token ids, so a session may live in this process, in another process
or on another machine. The life of a session::

    prefill(prompt)  ( draft()  extend()*  trim()?  score(...)?  commit(...) )*

``rollback()`` drops drafts and scored candidates at any time; ``restart()`` returns to the end of
the prompt. Sessions are called one after the other, in any order.

Optional capabilities are separate: ``Lookahead`` saves passes, ``Resumable`` saves a state to a
file.
"""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Required, TypedDict, Unpack, runtime_checkable

from cf_local.method.costs import PassCosts
from cf_local.progress import IsCancelled, Progress, drained
from cf_local.settings import Sampling
from cf_local.types import Candidate, Counters, Draft, KnownText, Prompt, Score, SourceInfo

Joins = Callable[[str], frozenset[str]]
"""After a character: those that may follow it as the next word's first, within one token."""


class Others(NamedTuple):
    """Segments that begin with ``text``: each of them has at most this probability."""

    text: bytes
    probability: float


class Source(Protocol):
    """A loaded model. Any call may raise ClosedError."""

    @property
    def info(self) -> SourceInfo:
        """Name and file of the model."""

    @property
    def costs(self) -> PassCosts:
        """Seconds of its forward passes by their size; fixed, so that no clock changes a text."""

    @property
    def sessions(self) -> Sequence["Session"]:
        """One position for each conversation that may run at once; at least one.

        A prefix that a prompt shares with the text of another session is not evaluated again (as
        far as the model's cache can share it).
        """

    def joins(self, char: str) -> frozenset[str]:
        """The first characters of a next word that some token holds together with ``char``.

        Characters of which a token has only a part are surrogates (``partial_character``).
        """

    def n_tokens(self, text: str) -> int:
        """Tokens of ``text`` in this source's own vocabulary. Any thread may ask; no pass."""

    def n_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt as ``Session.prefill`` would evaluate them; no pass."""

    def close(self) -> None:
        """Free the memory. May be called twice."""


class Prefill(TypedDict, total=False):
    """How ``Session.prefill`` reads a prompt.

    ``reserve_tokens``: context that the prompt must leave for the answer (1).
    ``looks_ahead`` announces calls of ``lookahead``, so that passes may be deferred to them;
    ``revisits`` announces a ``restart`` that expects the same response.
    With a ``grammar`` (GBNF, see ``structured``) drafts and text ahead obey it, from the start of
    the response, whichever source wrote it; scores ignore it.
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
        """Forward passes, evaluated tokens and seconds spent since the load."""

    @property
    def n_response_tokens(self) -> int:
        """Tokens of the response so far, in this source's own vocabulary."""

    @property
    def n_free(self) -> int:
        """Tokens by which the response can still grow before the context is full."""

    @property
    def lookahead(self) -> "Lookahead | None":
        """Evaluates text ahead of the response; None where the cache cannot be shared."""

    def n_resident(self, prompt: Prompt) -> int:
        """Tokens of ``prompt`` that this session has read; 0 unless it continues its own prompt.

        So a conversation that returns finds its session. Raises InputError as ``prefill`` does.
        """

    def prefill(self, prompt: Prompt, **how: Unpack[Prefill]) -> Generator[float, None, int]:
        """Evaluate the prompt, reusing what is cached of it; returns its number of tokens.

        Yields the share that was read (0 to 1); other sessions may work in between. If it is closed
        early, the session can be used again.

        Raises ContextError when the prompt does not leave ``reserve_tokens`` of the context for the
        answer, InputError when it is empty, Cancelled when ``is_cancelled`` turned true (the
        session can be used again).
        """

    def draft(self, limit: int) -> Draft:
        """Write from the committed state to the next word boundary of this vocabulary.

        Stops earlier when the answer would end, when the grammar allows no token (the draft is
        stuck), or after ``limit`` tokens (at least 1). Drops an earlier draft.
        """

    def extend(self, limit: int) -> Draft:
        """Continue the draft by at least one token, to its next word boundary.

        ``limit`` counts from the start of the draft. A draft that ends, is stuck or full does not
        change.
        """

    def trim(self, n_bytes: int) -> Draft:
        """Cut the draft after one of its ``token_ends``."""

    def token_ends(self, text: bytes) -> frozenset[int]:
        """Byte offsets in ``text`` at which tokens end when it is tokenized after the response."""

    def score(self, candidates: Sequence[Candidate], *, word_ends: bool = False) -> list[Score]:
        """Negative log-likelihood of each candidate after the response, one forward pass for all.

        With ``word_ends`` also that of the end of its last word: of all tokens that begin a new
        word there (infinite after whitespace, where no word ends).

        Its own draft is scored with the very tokens it was written in, other text with this
        source's tokenization; an ending adds minus the log of the summed probability of all
        end-of-generation tokens (method: "Score"). A candidate that does not fit the context
        scores infinity.
        """

    def others(self, candidates: Sequence[Candidate], joins: Joins) -> Sequence[Others]:
        """Upper bounds of the probability of any other segment of one word; no pass.

        All ``candidates`` were scored with their word ends. ``joins`` gives the characters before
        which a word may go on after a given one in some vocabulary. Every other segment begins with
        the text of some entry, and has at most its probability.
        """

    def commit(self, candidate: Candidate) -> None:
        """Append a candidate to the response; no pass if it was already drafted or scored.

        With a lookahead, the pass for other text may be deferred.

        Raises ContextError when it does not fit the context.
        """

    def rollback(self) -> None:
        """Drop draft, scored candidates and text ahead; keep the response."""

    def restart(self, *, expect_same: bool = False) -> None:
        """Drop the response; keep the prompt.

        With ``expect_same`` the response stays resident, as it may be written again.
        """


class Lookahead(Protocol):
    """Evaluates text that may follow the response.

    Drafts, scores and commits along it cost no forward pass. Nothing else changes.
    """

    def known(self, after: bytes = b"") -> KnownText:
        """What the session would write next, as far as known without a pass.

        ``after`` is text that may follow the response: what would come after it.
        """

    def extend(self, n_tokens: int, after: bytes = b"") -> None:
        """Write up to ``n_tokens`` further ahead; first, in one pass, read ``after`` if need be."""

    def confidence(self, start: int, after: bytes = b"") -> float:
        """The lowest probability of a token of the known text after byte ``start``."""

    def prefetch(self, texts: Sequence[bytes]) -> None:
        """Evaluate texts that may follow the response, in one pass."""


class Readable(NamedTuple):
    """What a session could save of a prompt: tokens, bytes, and the seconds it took to read."""

    n_tokens: int
    n_bytes: int
    reading_s: float


@runtime_checkable
class Resumable(Protocol):
    """What a Session may also offer: its state after a prompt, saved in a file."""

    @property
    def source(self) -> Source:
        """The model."""

    @property
    def state_key(self) -> str:
        """Identifies its states: a state with another key cannot be used."""

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt as ``prefill`` would evaluate them."""

    def readable(self, prompt: Prompt) -> Readable:
        """What it has read of ``prompt``, as far as ``save`` can save it."""

    def save(self, path: Path, prompt: Prompt) -> list[int]:
        """Write the state after what it has read of ``prompt`` to a file; returns its tokens.

        Returns no tokens if there is nothing to save or the file cannot be written.
        """

    def restore(self, path: Path) -> int:
        """Load the state of a file in place of all it has read; returns its number of tokens.

        The next prompt is not evaluated as far as it starts with them. Returns 0 if the file cannot
        be used; the session has read nothing then. The file must be as ``save`` wrote it.
        """


@runtime_checkable
class OwnTokens(Protocol):
    """What a Source may also offer: its vocabulary, for clients that count in tokens."""

    @property
    def info(self) -> SourceInfo:
        """Name and file of the model."""

    @property
    def bounds(self) -> tuple[str | None, str | None]:
        """The names of the tokens that begin and end a text."""

    def tokenize(self, text: str, *, adds_bos: bool) -> list[int]:
        """The tokens of a raw text, with BOS where the vocabulary wants it, if it ``adds_bos``.

        The name of one special token is that token. Any thread may ask; no pass.
        """

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The text of tokens. Raises InputError for tokens that the vocabulary lacks."""


@runtime_checkable
class Elsewhere(Protocol):
    """What a Source may also be: in another process, whose work is only waited for here."""

    @property
    def info(self) -> SourceInfo:
        """Name and file of the model."""

    @property
    def node(self) -> str:
        """Where it computes, for messages."""


@runtime_checkable
class Noticing(Protocol):
    """What a Session may also offer: what happened to its model while an answer was written."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences for the reader of this answer; empty if all went as usual."""


class ReadToken(NamedTuple):
    """A token of a text: minus the log of its probability after what comes before it.

    None if nothing does. ``likely`` are the likeliest tokens there, the best one first.
    """

    text: bytes
    nll_nats: float | None
    likely: tuple[tuple[bytes, float], ...]


@runtime_checkable
class Legible(Protocol):
    """What a Session may also offer: a text token by token, as its source reads it."""

    def read_tokens(self, prompt: Prompt, n_likely: int) -> Generator[ReadToken]:
        """The tokens of ``prompt`` after BOS, with the ``n_likely`` likeliest in each place.

        A text longer than the context is read in windows that overlap by half. What the session has
        read before is dropped. Raises InputError as ``prefill`` does.
        """


def prefill(
    session: Session,
    prompt: Prompt,
    *,
    on_progress: Progress | None = None,
    **how: Unpack[Prefill],
) -> int:
    """``Session.prefill`` in one call; ``on_progress`` receives the share that was read."""
    return drained(session.prefill(prompt, **how), on_progress)
