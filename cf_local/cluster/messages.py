"""What travels between a session here and the one on its node: only bytes, numbers and plain data.

A message has all calls since the last one whose result was needed. Its reply has their results, the
figures of the session, and answers to what is usually asked next, so that a step of a fusion takes
few round trips.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cf_local.method.costs import PassCosts
from cf_local.types import Counters, SourceInfo

PROTOCOL = 1
"""Changes with anything in this file: both sides must have the same."""


class Call(NamedTuple):
    """A method of a session and its arguments; "ahead.NAME" is one of its lookahead."""

    name: str
    args: tuple[Any, ...] = ()


class Guesses(NamedTuple):
    """What to answer beyond the calls, as it costs no pass and is likely to be asked next.

    ``known``: the text known ahead; ``own_score``: the score of a new draft, with its word end or
    without, None for no score; ``others``: the bounds of other segments once something is scored.
    """

    known: bool = False
    own_score: bool | None = None
    others: bool = False


class Joined(NamedTuple):
    """Characters that may follow others within a word, for ``others``; ``is_new`` drops all old."""

    is_new: bool
    following: Mapping[str, frozenset[str]]


class Missing(NamedTuple):
    """The result of ``others`` where the characters that may follow one were not sent."""

    char: str


class Message(NamedTuple):
    """Calls of one session, in order.

    ``number`` counts the messages of the session, so that none is lost or comes twice, and a later
    cancellation is for one of them. ``is_cancelled``: it came before.
    """

    number: int
    is_cancelled: bool
    calls: tuple[Call, ...]
    guesses: Guesses
    joined: Joined | None


class State(NamedTuple):
    """Figures of a session that need no call."""

    counters: Counters
    n_response_tokens: int
    n_free: int


class Reply(NamedTuple):
    """Results of the calls up to an ``error``, and ``extras``: answers that were guessed at."""

    results: tuple[Any, ...]
    error: Exception | None
    state: State
    extras: tuple[tuple[Call, Any], ...]


class Where(NamedTuple):
    """Where an actor runs, and with what."""

    node_id: str
    node: str
    address: str
    protocol: int
    version: str


class Opened(NamedTuple):
    """A loaded source, as the other side needs to know it.

    ``fingerprint`` identifies the content of its file; None if it is not a file.
    """

    info: SourceInfo
    costs: PassCosts
    states: tuple[State, ...]
    looks_ahead: bool
    has_template: bool
    bounds: tuple[str | None, str | None]
    fingerprint: str | None
