"""Mutual speculation: a source writes ahead, the others read it in one pass each.

Strong sources agree on most words. While they agree, a block of several words costs the leader one
pass per token (fewer where look-up guesses right) and every other source one pass in all. Nothing
here decides what is written: sources cache what they evaluated ahead, and drafting, scoring and
committing along it costs no pass. ``docs/speed.md`` has the cost model.
"""

import math
from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise

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
"""The most tokens a leader writes ahead."""
_DOUBTS = (0.5, 0.9, 0.99, 0.999)  # probabilities that divide a leader's doubts into classes
_MOST_GUESSED = 8  # most tokens of one guess by look-up
_MOST_PASSES = 8  # most passes of a source to finish a word that departs from the block
_FEW_TOKENS = 24  # of all sources: too few to estimate bytes per token
_USUAL_BLOCK = 8  # tokens
_FORGETS = 0.2  # weight of a new observation
_DISPUTE_PASSES = 2.0  # what a disagreement costs each source, roughly
_DISPUTE_TOKENS = 1.5  # what it adds to the answer, roughly
_GAIN = 0.75  # looking ahead must promise to take less than this share of the time
_RUN_BYTES = 15.0  # initial length of agreement: what real models show (docs/LOG.md, 2026-11-28)
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


class Speculator:
    """Keeps a block of evaluated text ahead of the response.

    One per answer: its decisions depend on the prompt and the response alone, so that the same
    question leads to the same passes, and so to the same text.
    """

    def __init__(self) -> None:
        self._look_up = LookUp()
        self._guesses: dict[int, _Odds] = {}  # by the length of the key that look-up found
        # By how much a leader doubts a token: how often the others write the same one.
        self._agreement = [_Odds(d, 1 - d) for d in (0.3, 0.7, 0.8, 0.9, 0.95)]
        self._block: list[tuple[int, int]] = []  # where its pieces end (bytes), how sure it is
        self._sessions: list[Session] = []
        self._n_bytes = 0  # of the response
        self._run_bytes = 0  # of agreement since the last dispute
        self._mean_run_bytes = _RUN_BYTES
        self._bytes_per_token = 3.0

    def start(self, sessions: Sequence[Session], prompt: str) -> None:
        """Start an answer; does nothing with fewer than two sources that can look ahead."""
        able = [session for session in sessions if session.lookahead is not None]
        self._sessions = able if len(able) > 1 else []
        self._block = []
        self._run_bytes = self._n_bytes = 0
        if self._sessions:
            self._look_up.start(prompt)

    def prepare(self) -> None:
        """Make sure that all sources have evaluated the next word, if that is expected to pay."""
        if not self._n_bytes:
            return  # for the first word, latency matters more than cost
        if all(_has_word(_ahead(session).known(), 0) for session in self._sessions):
            return
        if self._token_s() >= _TINY_PASS_S and self._pays():
            self._look_ahead(self.by_cost(self._sessions))

    def advance(self, winner: bytes, n_candidates: int) -> None:
        """The response has grown by ``winner``."""
        if not self._sessions:
            return
        self._look_up.append(winner)
        self._n_bytes += len(winner)
        n_tokens = sum(session.n_response_tokens for session in self._sessions)
        if n_tokens >= _FEW_TOKENS:
            self._bytes_per_token = self._n_bytes * len(self._sessions) / n_tokens
        self._run_bytes += len(winner)
        passed = [sure for end, sure in self._block if end <= len(winner)]
        if passed:
            self._agreement[min(passed)].note(n_candidates == 1, n_candidates > 1)
        self._block = [(e - len(winner), sure) for e, sure in self._block if e > len(winner)]
        if n_candidates > 1:
            self._mean_run_bytes += _FORGETS * (self._run_bytes - self._mean_run_bytes)
            self._run_bytes = 0

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
        if session in self._sessions and self._token_cost(session) >= _TINY_PASS_S:
            known = _ahead(session).known()
            if not known.ends and not _has_word(known, n_bytes):
                self._go_on(session, known)

    # ---- One block

    def _look_ahead(self, by_cost: list[Session]) -> None:
        """Let the fastest source write a block, and the others read it.

        Each reads what those before it would write, up to the end of the first word on which they
        differ: so it has also read the candidates that it will have to score. They run in sequence
        even where sources overlap: passes over several tokens keep all cores busy.
        """
        leader, *others = by_cost
        self._write_ahead(leader)
        paths = [_whole_words(_ahead(leader).known())]
        for session in others:
            self._read(session, paths)
            paths = _merged(paths, _ahead(session).known().text)

    def _write_ahead(self, leader: Session) -> None:
        """Let ``leader`` write whole words ahead while the others are likely to agree.

        The last word is one that it doubts. It is still completed, as it will have to be scored.
        """
        known, n_seen = _ahead(leader).known(), 0
        all_true, n_true, doubted = 1.0, 0.0, -1
        block: list[tuple[int, int]] = []
        once_s, more_s = self._block_costs(leader)
        for _ in range(MOST_AHEAD):
            if len(known.text) > n_seen:
                sure = bisect(_DOUBTS, _ahead(leader).confidence(n_seen))
                block.append((len(known.text), sure))
                all_true *= self._agreement[sure].probability
                n_tokens = n_seen / self._bytes_per_token
                if doubted < 0 and all_true * (once_s + n_tokens * more_s) < n_true * more_s:
                    doubted = n_seen
                n_true += all_true * (len(known.text) - n_seen) / self._bytes_per_token
                n_seen = len(known.text)
            if known.ends or (doubted >= 0 and _has_word(known, doubted)):
                break
            known = self._go_on(leader, known)
        self._block = block

    def _read(self, session: Session, paths: list[bytes]) -> None:
        """Let a source read ``paths``, and complete a word in which it departs from all of them."""
        _ahead(session).prefetch(paths)
        known = _ahead(session).known()
        for _ in range(_MOST_PASSES):
            n_common = _n_followed(paths, known.text)
            if n_common is None or _has_word(known, n_common):
                break
            known = self._go_on(session, known)

    def _go_on(self, session: Session, known: KnownText) -> KnownText:
        """One pass of a source along its own text, with a guess of what follows if that pays."""
        n_bytes = int(_MOST_GUESSED * self._bytes_per_token)
        guess, key = self._look_up.propose(known.text, n_bytes)
        odds = self._guesses.setdefault(key, _Odds(1, 3))
        n_guessed = self._n_guessed(session, odds.probability) if guess else 0
        guess = whole_characters(guess[: round(n_guessed * self._bytes_per_token)])
        if guess:
            _ahead(session).prefetch([known.text + guess])
        else:
            _ahead(session).extend(1)
        found = _ahead(session).known()
        if guess:
            n_right = _n_common(known.text + guess, found.text) - len(known.text)
            odds.note(n_right / self._bytes_per_token, n_right < len(guess))
        return found

    # ---- What pays

    def _n_guessed(self, session: Session, probability: float) -> int:
        """Tokens of a guess to read in one pass: those that yield most known tokens per second."""
        costs, n_right = session.source.costs, 0.0
        best, best_rate = 0, 1 / costs.of(1)
        for n_tokens in range(1, _MOST_GUESSED + 1):
            n_right += probability**n_tokens
            rate = (1 + n_right) / costs.of(n_tokens + 1)
            if rate > best_rate:
                best, best_rate = n_tokens, rate
        return best

    def _block_costs(self, leader: Session) -> tuple[float, float]:
        """Seconds that a block costs once, and for each of its tokens.

        One more token pays while its chance to come true, per second of its cost, is higher than
        that of the tokens before it per second of the whole block.
        """
        once_s, more_s = 0.0, self._token_cost(leader)
        for session in self._sessions:
            if session is not leader:
                costs = session.source.costs
                slope_s = max(0.0, costs.of(_USUAL_BLOCK) - costs.of(1)) / (_USUAL_BLOCK - 1)
                once_s += max(0.0, costs.of(1) - slope_s)
                more_s += slope_s
        return once_s, more_s

    def _pays(self) -> bool:
        """Whether looking ahead is expected to be clearly faster than plain steps.

        Compares the cost of a run of agreement and of the dispute that ends it. The margin covers
        what is left out: drafts that are dropped, and words that are read again for their scores.
        """
        probability = self._probability()
        n_run = probability / (1 - probability)
        n_tokens = n_run + _DISPUTE_TOKENS
        leader, *others = self.by_cost(self._sessions)
        ahead_s = n_tokens * self._token_cost(leader) + _DISPUTE_PASSES * self._token_s()
        ahead_s += sum(session.source.costs.of(n_tokens) for session in others)
        plain_s = (n_tokens + 1) * self._token_s()
        return ahead_s < _GAIN * plain_s

    def _probability(self) -> float:
        """The probability that the sources agree on one more token."""
        run = max(self._mean_run_bytes, self._run_bytes / 2, 1.0)
        return math.exp(-self._bytes_per_token / run)

    def _token_cost(self, session: Session) -> float:
        """Seconds of a single-token pass of a source."""
        return session.source.costs.of(1)

    def _token_s(self) -> float:
        """Seconds of a single-token pass of all sources."""
        return sum(map(self._token_cost, self._sessions))


def _has_word(known: KnownText, start: int) -> bool:
    """Whether a word ends after byte ``start`` of the known text, so that no pass is needed."""
    return known.ends or _end_of_word(known.text, start) < len(known.text)


def _n_common(one: bytes, other: bytes) -> int:
    """Length of the common prefix of two texts, in bytes."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _n_followed(paths: Sequence[bytes], text: bytes) -> int | None:
    """How far ``text`` follows one of ``paths``; None if it follows one to its end."""
    n_common = [_n_common(path, text) for path in paths]
    if any(n == len(path) for n, path in zip(n_common, paths, strict=True)):
        return None
    return max(n_common)


def _merged(paths: list[bytes], text: bytes) -> list[bytes]:
    """``paths`` and a text that departs from all of them, cut after the word where it departs."""
    n_common = _n_followed(paths, text)
    if n_common is None:
        return paths
    cut = (path[: _end_of_word(path, n_common)] for path in (*paths, text))
    return list(dict.fromkeys(cut))


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
