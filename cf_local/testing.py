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
from itertools import accumulate

from cf_local.errors import Cancelled, CfLocalError, ClosedError, ContextError, InputError
from cf_local.method.boundary import is_word_boundary
from cf_local.method.costs import PassCosts
from cf_local.method.tokenization import ContextEncoder, Vocabulary
from cf_local.progress import IsCancelled, never
from cf_local.settings import Sampling
from cf_local.types import Candidate, Counters, Draft, Prompt, Score, SourceInfo, text_of

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
        vocabulary: Vocabulary,
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
        self.sessions = [self.open_session() for _ in range(n_sessions)]

    def open_session(self) -> "ScriptedSession":
        """A session of this source; they share nothing but the script."""
        return ScriptedSession(self)

    def n_tokens(self, text: str) -> int:
        """Tokens of ``text`` on its own."""
        self.check_open()
        return len(self.vocabulary.encode(text.encode()))

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
        n_prompt = len(self.source.vocabulary.encode(text.encode()))
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

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """Negative log-likelihood of each candidate under the script (see Session.score)."""
        self._check_prefilled()
        own = self._own_candidate()
        new = {c.text for c in candidates if c != own and c.text} - self._known
        if new:
            self._pass(sum(len(self._encoder.encode(text)) for text in new))
            self._known |= new
        return [self._score(candidate) for candidate in candidates]

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

    def _score(self, candidate: Candidate) -> Score:
        own = candidate == self._own_candidate()
        tokens = self._own_draft().tokens if own else self._encoder.encode(candidate.text)
        path = [*tokens, *([END] if candidate.ends else [])]
        if len(path) > self.n_free + _SLACK:
            return Score(math.inf, 1)
        nll_nats = 0.0
        for index, token in enumerate(path):
            so_far = self._text([*self._tokens, *path[:index]])
            nll_nats -= math.log(self.source.script(so_far).get(token, _FLOOR))
        return Score(nll_nats, len(path))

    def _score_of_text(self, text: bytes) -> Score:
        tokens = self.source.vocabulary.encode(text)
        starts = accumulate(len(self._piece(token)) for token in tokens[:-1])
        nlls = [
            -math.log(self.source.script(text[:start]).get(token, _FLOOR))
            for start, token in zip(starts, tokens[1:], strict=True)
        ]
        return Score(sum(nlls), len(nlls))

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
