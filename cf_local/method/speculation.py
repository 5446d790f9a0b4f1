"""Mutual speculation: a source writes ahead, the others read it in one pass each.

Strong sources agree on most words. While they agree, a block of several words costs the leader one
pass per token (fewer where look-up guesses right) and every other source one pass in all. Nothing
here decides what is written: sources cache what they evaluated ahead, and drafting, scoring and
committing along it costs no pass. ``docs/speed.md`` has the cost model.
"""

from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from cf_local.method.boundary import is_boundary_between, whole_characters
from cf_local.method.session import Lookahead, Session
from cf_local.types import KnownText

_KEYS = (32, 24, 16, 12, 8, 6, 4, 3, 2)  # bytes of context to look for, longest first
_LONGEST = 65_536  # bytes remembered
END_OF_TEXT = b"\0"
"""Separates texts: no proposal crosses it."""


class LookUp:
    """Remembers the text so far and proposes what may follow it."""

    def __init__(self) -> None:
        self._text = bytearray()

    def start(self, prompt: str) -> None:
        """Start a new answer after ``prompt``."""
        self._text = bytearray(prompt.encode()[-_LONGEST:] + END_OF_TEXT)

    def append(self, segment: bytes) -> None:
        """The response has grown."""
        self._text += segment

    def propose(self, ahead: bytes, n_bytes: int) -> tuple[bytes, int]:
        """Up to ``n_bytes`` that may follow the response and ``ahead``; empty if nothing matches.

        Also returns the length of the key that matched: the longer the key, the likelier the guess.
        """
        tail = bytes(self._text[-_KEYS[0] :]) + ahead
        for n_key in _KEYS:
            key = tail[-n_key:]
            if len(key) < n_key or END_OF_TEXT in key:
                continue
            start = self._text.rfind(key, 0, len(self._text) - 1)
            if start >= 0:
                found = bytes(self._text[start + n_key : start + n_key + n_bytes])
                return found.partition(END_OF_TEXT)[0], n_key
        return b"", 0


MOST_AHEAD = 32
"""The most tokens that are read ahead of the response."""
_DOUBTS = (0.5, 0.9, 0.99, 0.999)  # probabilities that divide doubts into classes
_FEW_TOKENS = 24  # too few to estimate bytes per token
_MOST_GUESSED = 12  # most tokens of one guess
_RETRY = 6  # tokens after which a leader that did not pay is tried again
_HOPE = 0.8  # that a token of a leader comes true, before it is written
_HORIZON = 4  # tokens: passes get cheaper at multiples of four
_COMES_TRUE = (0.4, 0.75, 0.95, 0.98, 0.99)  # by doubt (docs/LOG.md, 2026-11-29)
_SEEN = 10  # tokens that this counts for
_TINY_PASS_S = 0.001  # below this, bookkeeping costs more than the passes it saves


def _ahead(session: Session) -> Lookahead:
    """The lookahead of a session that is known to have one."""
    found = session.lookahead
    assert found is not None
    return found


class _Odds:
    """How likely something is, learned while running."""

    def __init__(self, n_right: float, n_wrong: float) -> None:
        self._n_right, self._n_wrong = n_right, n_wrong

    @property
    def probability(self) -> float:
        return self._n_right / (self._n_right + self._n_wrong)

    def note(self, n_right: float, n_wrong: float) -> None:
        self._n_right = 0.95 * self._n_right + n_right
        self._n_wrong = 0.95 * self._n_wrong + n_wrong


def _by_doubt() -> list[_Odds]:
    """For each class of doubt, how often a token comes true: at first, as it usually does."""
    return [_Odds(_SEEN * usual, _SEEN * (1 - usual)) for usual in _COMES_TRUE]


class _Guess(NamedTuple):
    """Text that may follow, and where its tokens end, each with the odds that it comes true."""

    text: bytes
    tokens: Sequence[tuple[int, _Odds]]


class Speculator:
    """Keeps text ahead of the response that the first source would write: the expected text.

    One per answer: its decisions depend on the prompt and the response alone, so that the same
    question leads to the same passes, and so to the same text.
    """

    def __init__(self) -> None:
        self._look_up = LookUp()
        # By the source, and the length of the key that look-up found.
        self._guesses: dict[tuple[Session, int], _Odds] = {}
        self._accepted = _by_doubt()  # the leader's tokens
        self._followed = _by_doubt()  # the first source's tokens: whether they won
        self._asked: dict[Session, _Odds] = {}
        self._sessions: list[Session] = []
        self._first: Session | None = None
        self._leader: Session | None = None
        self._expected: list[tuple[int, int]] = []  # where its tokens end, and their doubt
        self._n_led, self._led_s, self._n_unled = 0.0, 0.0, 0  # tokens written with a leader
        self._n_bytes = 0  # of the response
        self._bytes_per_token = 3.0

    def start(self, sessions: Sequence[Session], order: Sequence[int], prompt: str) -> None:
        """Start an answer; does nothing unless the first source and another can look ahead.

        ``order`` has the indices of the sessions in the order in which they are asked.
        """
        able = [s for s in sessions if s.lookahead is not None]
        self._sessions, self._first, self._leader = [], None, None
        if len(able) < 2 or self._token_cost(max(able, key=self._token_cost)) < _TINY_PASS_S:
            return
        self._sessions = able
        self._look_up.start(prompt)
        if sessions[order[0]] in able:
            self._first = sessions[order[0]]
            self._leader = min((s for s in able if s is not self._first), key=self._token_cost)
            self._asked = {s: _Odds(0.5, 0.5) for s in able if s is not self._first}

    def prepare(self) -> None:
        """Make sure that the first source knows its next word, and more if that should pay."""
        if self._first is None or not self._n_bytes:
            return  # for the first word, latency matters more than cost
        first = _ahead(self._first)
        known = first.known()
        while self._is_worth_more(known) or (
            len(self._expected) < MOST_AHEAD and not has_word(known, 0)
        ):
            n_before = len(known.text)
            self._extend(self._first)
            known = first.known()
            if len(known.text) > n_before:
                doubt = bisect(_DOUBTS, first.confidence(n_before))
                self._expected.append((len(known.text), doubt))
            elif not known.ends:
                break  # the context is full

    def expected(self) -> Sequence[bytes] | None:
        """The text that is likely to follow, for sources that are asked; None if not looking."""
        if not self._sessions:
            return None
        if self._first is None or not (text := _whole_words(_ahead(self._first).known())):
            return []
        return [text]

    def advance(self, winner: bytes, asked: Sequence[Session]) -> None:
        """The response has grown by ``winner``, for which some sources were asked."""
        if not self._sessions:
            return
        self._look_up.append(winner)
        self._n_bytes += len(winner)
        for session, odds in self._asked.items():
            odds.note(session in asked, session not in asked)
        if self._first is None:
            return
        n_tokens = self._first.n_response_tokens
        if n_tokens >= _FEW_TOKENS:
            self._bytes_per_token = self._n_bytes / n_tokens
        passed = [doubt for end, doubt in self._expected if end <= len(winner)]
        is_followed = _ahead(self._first).known().text != b""
        if passed:
            self._followed[min(passed)].note(is_followed, not is_followed)
        left = [(end - len(winner), doubt) for end, doubt in self._expected if end > len(winner)]
        self._expected = left if is_followed else []

    def end_response(self) -> None:
        """The response is complete; the sources' own answers may follow (mode "cool+r")."""
        if self._sessions:
            self._look_up.append(END_OF_TEXT)

    def by_cost(self, sessions: Sequence[Session]) -> list[Session]:
        """``sessions``, the fastest first."""
        return sorted(sessions, key=self._token_cost)

    def go_on(self, session: Session, n_bytes: int) -> None:
        """Make sure that a source that answers alone has evaluated more than ``n_bytes``.

        Look-up guesses from the prompt and from the text written so far.
        """
        if session in self._sessions:
            known = _ahead(session).known()
            if not known.ends and not has_word(known, n_bytes):
                self._extend(session, has_leader=False)

    # ---- One pass

    def _extend(self, session: Session, *, has_leader: bool = True) -> None:
        """One pass of a source along its own text, with a guess of what follows if that pays."""
        known = _ahead(session).known()
        guess = self._looked_up(session, known.text)
        led_s = 0.0
        if guess is None and has_leader and (leader := self._leader_for(session)):
            n_before = leader.counters.n_passes
            guess = self._led(session, leader, known.text)
            led_s = (leader.counters.n_passes - n_before) * self._token_cost(leader)
        n_right = 0
        if guess is None:
            _ahead(session).extend(1)
        else:
            _ahead(session).prefetch([known.text + guess.text])
            n_bytes = _n_common(known.text + guess.text, _ahead(session).known().text)
            for end, odds in guess.tokens:
                is_right = len(known.text) + end <= n_bytes
                odds.note(is_right, not is_right)
                if not is_right:
                    break
                n_right += 1
        if led_s:
            pass_s = session.source.costs.of(1 + (len(guess.tokens) if guess else 0))
            self._n_led = 0.9 * self._n_led + n_right + 1
            self._led_s = 0.9 * self._led_s + led_s + pass_s

    def _leader_for(self, session: Session) -> Session | None:
        """The source that guesses for ``session``; one that did not pay is tried now and then."""
        self._n_unled += 1
        is_slower = self._led_rate(session) * self._token_cost(session) < 1
        return None if is_slower and self._n_unled % _RETRY else self._leader

    def _looked_up(self, session: Session, text: bytes) -> _Guess | None:
        """What followed the end of the text before, if its odds make it worth reading."""
        n_bytes = int(_MOST_GUESSED * self._bytes_per_token)
        found, key = self._look_up.propose(text, n_bytes)
        if not found:
            return None
        odds = self._guesses.setdefault((session, key), _Odds(1, 3))
        n_tokens, rate = self._best(session, odds.probability, 0.0)
        if rate < self._led_rate(session):
            return None
        found = whole_characters(found[: round(n_tokens * self._bytes_per_token)])
        ends = [round(i * self._bytes_per_token) for i in range(1, n_tokens)]
        return _Guess(found, [(end, odds) for end in [*ends, len(found)]]) if found else None

    def _led(self, session: Session, leader: Session, text: bytes) -> _Guess | None:
        """What the fastest source would write after ``text``, as far as that pays."""
        cost, ahead = self._token_cost(leader), _ahead(leader)
        costs = session.source.costs
        tokens: list[tuple[int, _Odds]] = []
        reached, gained = 1.0, 1.0
        rates = [1 / costs.of(1)]  # tokens per second if the guess ends there
        while len(tokens) < _MOST_GUESSED:
            n = len(tokens)
            hopes = [
                (gained + sum(reached * _HOPE**i for i in range(1, more + 1)))
                / ((n + more) * cost + costs.of(n + more + 1))
                for more in range(1, _HORIZON + 1)
            ]
            if max(hopes) <= max(rates):
                break
            n_seen = tokens[-1][0] if tokens else 0
            ahead.extend(1, after=text)
            known = ahead.known(after=text)
            if len(known.text) <= n_seen:
                break
            odds = self._accepted[bisect(_DOUBTS, ahead.confidence(n_seen, after=text))]
            tokens.append((len(known.text), odds))
            reached *= odds.probability
            gained += reached
            rates.append(gained / ((n + 1) * cost + costs.of(n + 2)))
            if known.ends:
                break
        n_kept = rates.index(max(rates))
        if not n_kept:
            return None
        guessed = ahead.known(after=text).text[: tokens[n_kept - 1][0]]
        return _Guess(whole_characters(guessed), tokens[:n_kept])

    # ---- What pays

    def _led_rate(self, session: Session) -> float:
        """Tokens per second of ``session`` with a leader, as it went so far."""
        return self._n_led / self._led_s if self._led_s else 1 / self._token_cost(session)

    def _best(self, session: Session, probability: float, cost: float) -> tuple[int, float]:
        """How many tokens to guess, and the tokens per second of ``session`` that this gives.

        Each guessed token takes ``cost`` seconds, and comes true with ``probability``.
        """
        costs, gained = session.source.costs, 1.0
        best, best_rate = 0, 1 / costs.of(1)
        for n_tokens in range(1, _MOST_GUESSED + 1):
            gained += probability**n_tokens
            rate = gained / (n_tokens * cost + costs.of(n_tokens + 1))
            if rate > best_rate:
                best, best_rate = n_tokens, rate
        return best, best_rate

    def _is_worth_more(self, known: KnownText) -> bool:
        """Whether one more token of the expected text should pay.

        The other sources read the expected text in one pass each, if they are asked. One more token
        pays while its chance to win, per second of its cost, is higher than that of the tokens
        before it per second of all those passes.
        """
        assert self._first is not None
        n_tokens = len(known.text) / self._bytes_per_token
        if known.ends or n_tokens >= MOST_AHEAD:
            return False
        once_s = 0.0
        more_s = min(1 / self._led_rate(self._first), self._token_cost(self._first))
        for session, odds in self._asked.items():
            costs = session.source.costs
            slope_s = max(0.0, costs.of(8) - costs.of(1)) / 7
            once_s += odds.probability * max(0.0, costs.of(1) - slope_s)
            more_s += odds.probability * slope_s
        all_true, n_true, n_seen = 1.0, 0.0, 0
        for end, doubt in self._expected:
            all_true *= self._followed[doubt].probability
            n_true += all_true * (end - n_seen) / self._bytes_per_token
            n_seen = end
        return all_true * (once_s + n_tokens * more_s) > n_true * more_s

    def _token_cost(self, session: Session) -> float:
        """Seconds of a single-token pass of a source."""
        return session.source.costs.of(1)


def has_word(known: KnownText, start: int) -> bool:
    """Whether a word ends after byte ``start`` of the known text, so that no pass is needed."""
    return known.ends or _end_of_word(known.text, start) < len(known.text)


def _n_common(one: bytes, other: bytes) -> int:
    """Length of the common prefix of two texts, in bytes."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _end_of_word(text: bytes, start: int) -> int:
    """Where the first word ends after byte ``start``; the length of ``text`` if unknown."""
    head = whole_characters(text[:start])
    chars = text[len(head) :].decode("utf-8", errors="surrogateescape")
    for index, (prev, next_) in enumerate(pairwise(chars), 1):
        if is_boundary_between(prev, next_):
            return len(head) + len(chars[:index].encode("utf-8", errors="surrogateescape"))
    return len(text)


def _whole_words(known: KnownText) -> bytes:
    """The text without a last word that may be incomplete, unless it is the only word."""
    text = whole_characters(known.text)
    if known.ends:
        return text
    chars = text.decode("utf-8", errors="surrogateescape")
    for index in range(len(chars) - 1, 0, -1):
        if is_boundary_between(chars[index - 1], chars[index]):
            return chars[:index].encode("utf-8", errors="surrogateescape")
    return text
