"""A scripted Source for tests: real segments, scores and passes, but no model file.

``ScriptedSource`` obeys the same contract suite as the llama.cpp adapter. Its "model" is a function
from the response so far to the probabilities of the next token, over any ``Vocabulary``::

    vocabulary = PieceVocabulary(["The", " answer", " is", " 4", "2", "."])
    source = ScriptedSource("ada", vocabulary, writes("The answer is 42.", vocabulary))
    Fusion([source]).answer(RawText("?")).text == "The answer is 42."
"""

import math
import random
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from cf_local.errors import Cancelled, CfLocalError, ClosedError, ContextError, InputError
from cf_local.method.boundary import is_word_boundary, last_character
from cf_local.method.costs import PassCosts
from cf_local.method.session import Joins, Others, ReadToken
from cf_local.method.tokenization import ContextEncoder, Vocabulary
from cf_local.method.word_starts import WordStarts
from cf_local.progress import IsCancelled, never
from cf_local.settings import Sampling
from cf_local.types import (
    Candidate,
    Counters,
    Draft,
    Prompt,
    Score,
    SourceInfo,
    Tokens,
    is_unicode,
    text_of,
)

PASS_TOKENS = 256
"""Tokens of a prompt that are read in one pass."""
END = -1
"""The end-of-generation token of scripted sources."""
_FLOOR = 1e-6
_SLACK = 64  # tokens by which a candidate may reach beyond the context, as in real caches

Obeys = Callable[[str, bytes, bool], bool]
"""Whether a grammar allows a text: as a prefix of an answer, or (True) as a whole answer."""

Script = Callable[[bytes], Mapping[int, float]]
"""From the response so far to the probabilities of the next token; other tokens get 1e-6."""


class PieceVocabulary:
    """Cuts text into the longest known pieces; every single byte is a token, too."""

    def __init__(self, pieces: Iterable[str | bytes]) -> None:
        known = [p.encode() if isinstance(p, str) else p for p in pieces]
        self._pieces = [bytes([b]) for b in range(256)] + sorted({p for p in known if len(p) > 1})
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        self._longest = max(map(len, self._pieces))

    def encode(self, text: bytes) -> list[int]:
        """Tokens of ``text``: from the left, the longest piece each time."""
        tokens, start = [], 0
        while start < len(text):
            sizes = range(min(self._longest, len(text) - start), 0, -1)
            size = next(n for n in sizes if text[start : start + n] in self._ids)
            tokens.append(self._ids[text[start : start + size]])
            start += size
        return tokens

    def piece(self, token: int) -> bytes:
        """The bytes of a token."""
        return self._pieces[token]

    @cached_property
    def word_starts(self) -> WordStarts:
        """Which tokens begin a new word."""
        return WordStarts.of(self._pieces)

    @property
    def pieces(self) -> Sequence[bytes]:
        """The bytes of all tokens."""
        return self._pieces


def writes(text: str | bytes, vocabulary: Vocabulary, confidence: float = 0.9) -> Script:
    """A model that writes ``text`` and ends, giving each next token probability ``confidence``.

    It writes the tokens of the whole text; after a response that cuts one of them, those of the
    rest. After a response that departs from ``text`` it continues at the same length.
    """
    raw = text.encode() if isinstance(text, str) else text
    tokens = vocabulary.encode(raw)
    ends = accumulate((len(vocabulary.piece(token)) for token in tokens), initial=0)
    by_offset = dict(zip(ends, [*tokens, END], strict=True))

    def script(response: bytes) -> Mapping[int, float]:
        token = by_offset.get(len(response))
        if token is None:  # another source has cut one of the tokens
            token = next(iter(vocabulary.encode(raw[len(response) :])), END)
        return {token: confidence}

    return script


@dataclass(slots=True)
class _Branch:
    tokens: list[int] = field(default_factory=list)
    next_token: int | None = END  # None where a grammar allows none


class ScriptedSource:
    """A Source whose sessions take their next token from a script instead of a model."""

    def __init__(
        self,
        name: str,
        vocabulary: PieceVocabulary,
        script: Script,
        *,
        n_ctx: int = 4096,
        n_sessions: int = 1,
        obeys: Obeys | None = None,
    ) -> None:
        """``obeys`` replaces the grammars of prompts, which a script cannot read."""
        self.info = SourceInfo(name, "scripted")
        self.costs = PassCosts()  # all the same
        self.is_closed = False
        self.vocabulary, self.script, self.n_ctx, self.obeys = vocabulary, script, n_ctx, obeys
        self.word_starts = vocabulary.word_starts
        self.sessions = [self.open_session() for _ in range(n_sessions)]

    def open_session(self) -> "ScriptedSession":
        """A session of this source; they share nothing but the script."""
        return ScriptedSession(self)

    def joins(self, char: str) -> frozenset[str]:
        """What follows ``char`` within a token (see Source.joins)."""
        return self.word_starts.joins(char)

    def n_tokens(self, text: str) -> int:
        """Tokens of ``text`` on its own."""
        self.check_open()
        return len(self.vocabulary.encode(text.encode()))

    @property
    def bounds(self) -> tuple[str | None, str | None]:
        """None: a script begins and ends with no token that has a name."""
        return None, None

    def tokenize(self, text: str, *, adds_bos: bool) -> list[int]:
        """The tokens of a text; there is no BOS."""
        return self.vocabulary.encode(text.encode())

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The text of tokens."""
        return b"".join(map(self.vocabulary.piece, tokens))

    def n_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt, which has no template."""
        return len(self.tokens_of(prompt))

    def tokens_of(self, prompt: Prompt) -> Sequence[int]:
        """The tokens of a prompt."""
        self.check_open()
        if isinstance(prompt, Tokens):
            return prompt.ids
        return self.vocabulary.encode(text_of(prompt).encode())

    def close(self) -> None:
        """Refuse all further work."""
        self.is_closed = True

    def check_open(self) -> None:
        """Raise ClosedError after ``close``."""
        if self.is_closed:
            raise ClosedError(f"{self.info.name} has been closed.")


class ScriptedSession:
    """A Session whose next token comes from the script of its source."""

    lookahead = None
    """A script costs nothing, so there is nothing to save."""

    def __init__(self, source: ScriptedSource) -> None:
        self.source = source
        self._grammar: str | None = None
        self._encoder = ContextEncoder(source.vocabulary)
        self._counters = Counters()
        self._is_cancelled: IsCancelled = never
        self._sampling, self._random = Sampling(), random.Random(0)
        self._n_prompt, self._prompt_text = 0, ""
        self._tokens: list[int] = []
        self._next_token: int | None = None
        self._draft: _Branch | None = None
        self._known: set[bytes] = set()

    @property
    def counters(self) -> Counters:
        """Passes and tokens as a real source would need them; no seconds."""
        return self._counters

    @property
    def n_response_tokens(self) -> int:
        """Tokens of the response so far."""
        return len(self._tokens)

    @property
    def n_free(self) -> int:
        """Tokens by which the response can still grow."""
        return self.source.n_ctx - self._n_prompt - len(self._tokens)

    def n_resident(self, prompt: Prompt) -> int:
        """Tokens of the last prompt if ``prompt`` continues it (see Session.n_resident)."""
        goes_on = text_of(prompt).startswith(self._prompt_text)
        return self._n_prompt if goes_on else 0

    def prefill(
        self,
        prompt: Prompt,
        *,
        sampling: Sampling,
        reserve_tokens: int = 1,
        looks_ahead: bool = False,
        revisits: bool = False,
        grammar: str | None = None,
        is_cancelled: IsCancelled = never,
    ) -> Generator[float, None, int]:
        """Count the prompt's tokens, a pass for every PASS_TOKENS (see Session.prefill)."""
        self.source.check_open()
        text, name = text_of(prompt), self.source.info.name
        n_prompt = len(self.source.tokens_of(prompt))
        if not n_prompt:
            raise InputError(f"{name}: the prompt is empty.")
        if n_prompt + reserve_tokens > self.source.n_ctx:
            raise ContextError(
                f"{name}: the prompt has {n_prompt} tokens and {reserve_tokens} must be left for "
                f"the answer, but the context holds {self.source.n_ctx}."
            )
        if grammar is not None and self.source.obeys is None:
            raise InputError(f"{name}: this script cannot read a grammar; create it with `obeys`.")
        self._grammar = grammar
        self._is_cancelled = is_cancelled
        self._sampling, self._random = sampling, random.Random(sampling.seed)
        self._n_prompt, self._prompt_text = 0, ""
        for start in range(0, n_prompt, PASS_TOKENS):
            n_done = min(start + PASS_TOKENS, n_prompt)
            self._pass(n_done - start)
            if n_done < n_prompt:
                yield n_done / n_prompt
        self._n_prompt, self._prompt_text = n_prompt, text
        self._start_response()
        yield 1.0
        return n_prompt

    def read_tokens(self, prompt: Prompt, n_likely: int) -> Generator[ReadToken]:
        """The tokens of a text under the script (see Legible.read_tokens)."""
        tokens = self.source.tokens_of(prompt)
        for index, token in enumerate(tokens):
            said = self.source.script(self._text(tokens[:index]))
            best = sorted((t for t in said if t != END), key=lambda t: -said[t])[:n_likely]
            likely = tuple((self._piece(t), -math.log(said[t])) for t in best) if index else ()
            nll_nats = -math.log(said.get(token, _FLOOR)) if index else None
            yield ReadToken(self._piece(token), nll_nats, likely)

    def draft(self, limit: int) -> Draft:
        """Write to the next word boundary (see Session.draft)."""
        self._check_prefilled()
        next_token = self._next_token if self._next_token is not None else self._choose([])
        self._draft = _Branch([], next_token)
        return self.extend(limit)

    def extend(self, limit: int) -> Draft:
        """Continue the draft (see Session.extend)."""
        draft = self._own_draft()
        while draft.next_token not in (END, None) and len(draft.tokens) < limit:
            assert draft.next_token is not None
            self._pass(1)
            draft.tokens.append(draft.next_token)
            draft.next_token = self._choose(draft.tokens)
            if is_word_boundary(self._text(draft.tokens), self._piece(draft.next_token)):
                break
        return self._as_draft(draft)

    def trim(self, n_bytes: int) -> Draft:
        """Cut the draft after one of its tokens (see Session.trim)."""
        draft = self._own_draft()
        n_kept = 1 + self._ends_of(draft.tokens).index(n_bytes)
        if n_kept < len(draft.tokens):
            draft.next_token = draft.tokens[n_kept]
            del draft.tokens[n_kept:]
            self._pass(n_kept)
        return self._as_draft(draft)

    def token_ends(self, text: bytes) -> frozenset[int]:
        """Where tokens end in ``text`` after the response."""
        self.source.check_open()
        return self._encoder.token_ends(text)

    def score(self, candidates: Sequence[Candidate], *, word_ends: bool = False) -> list[Score]:
        """Negative log-likelihood of each candidate under the script (see Session.score)."""
        self._check_prefilled()
        own = self._own_candidate()
        new = {c.text for c in candidates if c != own and c.text} - self._known
        if new:
            self._pass(sum(len(self._encoder.encode(text)) for text in new))
            self._known |= new
        return [self._score(candidate, word_ends) for candidate in candidates]

    def others(self, candidates: Sequence[Candidate], joins: Joins) -> list[Others]:
        """What no candidate has, at each place where one goes on or ends (see Session.others)."""
        paths = {candidate: self._path_of(candidate) for candidate in candidates}
        if any(path is None for path in paths.values()):
            return [Others(b"", 1.0)]
        places = {path[:n] for path in paths.values() if path for n in range(len(path) + 1)}
        return [self._departing(place, paths, joins) for place in places if END not in place]

    def _departing(
        self, place: tuple[int, ...], paths: Mapping[Candidate, Any], joins: Joins
    ) -> Others:
        """The probability of all that departs from the candidates after the tokens ``place``."""
        text, left = self._text(place), 1.0
        said = self.source.script(self._text([*self._tokens, *place]))
        following = {
            path[len(place)]
            for path in paths.values()
            if path[: len(place)] == place and len(path) > len(place)
        }
        left -= sum(said.get(token, 0.0) for token in following)
        last = last_character(text).strip()
        is_whole = is_unicode(last)
        if not any(path == place for path in paths.values()):  # a segment may end here
            left = max(left, self._new_words(last, said) if last else 0.0)
        elif last and is_whole:
            left -= self._new_words(last, said, joins(last))
        # A token that the script does not list has _FLOOR, although the others leave nothing.
        return Others(text, math.exp(-self._nll_nats(place)) * (max(0.0, left) + _FLOOR))

    def _nll_nats(self, place: Sequence[int]) -> float:
        """Minus the log of the probability of some tokens after the response."""
        texts = (self._text([*self._tokens, *place[:n]]) for n in range(len(place)))
        shares = (
            self.source.script(text).get(token, _FLOOR)
            for text, token in zip(texts, place, strict=True)
        )
        return -sum(map(math.log, shares))

    def _word_end_nats(self, text: bytes, said: Mapping[int, float]) -> float:
        """Minus the log of the probability that a word ends after ``text``."""
        last = last_character(text).strip()
        return -math.log(self._new_words(last, said) or _FLOOR) if last else math.inf

    def _new_words(
        self, last: str, said: Mapping[int, float], but: frozenset[str] = frozenset()
    ) -> float:
        """The share of the listed tokens that begin a new word after the character ``last``."""
        starts = set(self.source.word_starts.after(last, but).tolist())
        return sum(share for token, share in said.items() if token in starts)

    def commit(self, candidate: Candidate) -> None:
        """Append a candidate to the response (see Session.commit)."""
        self._check_prefilled()
        tokens, next_token = self._encode(candidate.text), None
        if candidate == self._own_candidate():
            draft = self._own_draft()
            tokens, next_token = tuple(draft.tokens), draft.next_token
        elif candidate.text and candidate.text not in self._known:
            self._pass(len(tokens))
        self._tokens += tokens
        self._next_token = next_token
        self._encoder.append(candidate.text)
        self.rollback()

    def rollback(self) -> None:
        """Drop draft and scored candidates."""
        self._draft, self._known = None, set()

    def restart(self, *, expect_same: bool = False) -> None:
        """Drop the response; keep the prompt."""
        self._check_prefilled()
        self._start_response()

    def _start_response(self) -> None:
        self._tokens, self._next_token = [], None
        self._encoder.reset()
        self.rollback()

    def _encode(self, text: bytes) -> tuple[int, ...]:
        tokens = self._encoder.encode(text)
        if len(tokens) > self.n_free + _SLACK:
            raise ContextError(
                f"{self.source.info.name}: {len(tokens)} tokens do not fit the {self.n_free} that "
                "the context has left."
            )
        return tokens

    def _choose(self, drafted: Sequence[int]) -> int | None:
        """The most likely token after response and draft, or one drawn at the temperature."""
        probabilities = self._allowed(self._text([*self._tokens, *drafted]))
        if not probabilities:
            return None
        if self._sampling.temperature == 0:
            return max(probabilities, key=lambda token: probabilities[token])
        top = max(probabilities.values())  # or all weights would vanish at temperatures near 0
        weights = [(p / top) ** (1 / self._sampling.temperature) for p in probabilities.values()]
        return self._random.choices(list(probabilities), weights)[0]

    def _allowed(self, text: bytes) -> Mapping[int, float]:
        """What may follow ``text``: the script's tokens, and with a grammar all that it allows."""
        said = self.source.script(text)
        if self._grammar is None:
            return said
        assert self.source.obeys is not None
        every = dict.fromkeys([*range(256), END], _FLOOR)  # at least every byte is a token
        return {
            token: share
            for token, share in {**every, **said}.items()
            if self.source.obeys(self._grammar, text + self._piece(token), token == END)
        }

    def _path_of(self, candidate: Candidate) -> tuple[int, ...] | None:
        """The tokens of a candidate, with its end; None if they do not fit the context."""
        own = candidate == self._own_candidate()
        tokens = self._own_draft().tokens if own else self._encoder.encode(candidate.text)
        path = (*tokens, *([END] if candidate.ends else []))
        return path if len(path) <= self.n_free + _SLACK else None

    def _score(self, candidate: Candidate, word_ends: bool) -> Score:
        path = self._path_of(candidate)
        if path is None:
            return Score(math.inf, 1)
        end_nats = 0.0
        if word_ends and not candidate.ends:
            said = self.source.script(self._text([*self._tokens, *path]))
            end_nats = self._word_end_nats(candidate.text, said)
        return Score(self._nll_nats(path), len(path), end_nats)

    def _own_candidate(self) -> Candidate | None:
        draft = self._draft
        if draft is None:
            return None
        return Candidate(self._text(draft.tokens), draft.next_token == END)

    def _own_draft(self) -> _Branch:
        self._check_prefilled()
        if self._draft is None:
            raise CfLocalError(f"{self.source.info.name}: there is no draft; call draft() first.")
        return self._draft

    def _as_draft(self, draft: _Branch) -> Draft:
        lookahead = self._piece(draft.next_token)
        text = self._text(draft.tokens)
        token_ends, is_stuck = self._ends_of(draft.tokens), draft.next_token is None
        return Draft(text, draft.next_token == END, lookahead, token_ends, is_stuck)

    def _text(self, tokens: Iterable[int]) -> bytes:
        return b"".join(map(self._piece, tokens))

    def _ends_of(self, tokens: Iterable[int]) -> tuple[int, ...]:
        return tuple(accumulate(len(self._piece(token)) for token in tokens))

    def _piece(self, token: int | None) -> bytes:
        return b"" if token in (None, END) else self.source.vocabulary.piece(token)

    def _pass(self, n_tokens: int) -> None:
        if self._is_cancelled():
            raise Cancelled(f"{self.source.info.name}: cancelled.")
        before = self._counters
        self._counters = Counters(before.n_passes + 1, before.n_tokens + n_tokens)

    def _check_prefilled(self) -> None:
        self.source.check_open()
        if not self._n_prompt:
            raise CfLocalError(f"{self.source.info.name}: call prefill() with a prompt first.")
